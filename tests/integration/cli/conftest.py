"""The program with the demo package set in a folder."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.acceptance import Acceptance
from integration.cli.program import Niximage
from integration.nix.demo import Demo


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    return Demo.make(tmp_path_factory.mktemp("demo") / "repository")


@pytest.fixture(scope="session")
def package_set(demo: Demo) -> Path:
    return demo.check_out(demo.path.parent / "set")


@pytest.fixture
def niximage(tmp_path: Path, package_set: Path) -> Niximage:
    return Niximage(tmp_path, package_set)


@pytest.fixture(autouse=True)
def accepted_by_others(acceptance: Acceptance, tmp_path: Path) -> Iterator[None]:
    """After a test, shows other tools every image that it made in its folder."""
    yield
    acceptance.sweep(tmp_path)
