"""The demo package set, images of it, and a bucket."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.acceptance import Acceptance
from integration.builder.images import Folder
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
