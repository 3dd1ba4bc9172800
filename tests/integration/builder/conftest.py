"""The demo package set, images of it, a bucket, and packages that only a binary cache has."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.acceptance import Acceptance
from integration.builder.cached import Cached
from integration.builder.images import Folder
from integration.nix.caches import CacheServer
from integration.nix.demo import Demo


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """A repository of the demo package set; tests that move it make their own."""
    return Demo.make(tmp_path_factory.mktemp("demo") / "repository")


@pytest.fixture
def bucket(tmp_path: Path) -> Iterator[Folder]:
    """An empty bucket in a folder."""
    opened = Folder.open(tmp_path / "bucket")
    yield opened
    opened.store.close()


@pytest.fixture(autouse=True)
def accepted_by_others(acceptance: Acceptance, tmp_path: Path) -> Iterator[None]:
    """After a test, shows other tools every image that it made in its folder."""
    yield
    acceptance.sweep(tmp_path)


@pytest.fixture(scope="session")
def cached(demo: Demo, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cached]:
    """A package set whose outputs are in a binary cache."""
    folder = tmp_path_factory.mktemp("cached")
    bucket = Folder.open(folder / "bucket")
    made = Cached.make(folder, demo.check_out(folder / "demo"), bucket)
    yield made
    bucket.store.close()
    made.forget()


@pytest.fixture
def empty_store(cached: Cached) -> Iterator[None]:
    """None of these outputs in this machine's store, neither before nor after."""
    cached.forget()
    yield
    cached.forget()


@pytest.fixture
def server(cached: Cached, tmp_path: Path) -> Iterator[CacheServer]:
    """A server of that cache."""
    with cached.serving(tmp_path / "cache") as server:
        yield server
