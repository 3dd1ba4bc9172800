"""The program with the demo package set in a folder."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.acceptance import Acceptance
from integration.cli.program import Niximage
from integration.nix.demo import Demo


@pytest.fixture(scope="session")
def package_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    Demo.make(folder / "repository").check_out(folder / "set")
    return folder / "set"


@pytest.fixture
def niximage(tmp_path: Path, package_set: Path) -> Niximage:
    return Niximage(tmp_path, package_set)


@pytest.fixture(autouse=True)
def accepted_by_others(acceptance: Acceptance, tmp_path: Path) -> Iterator[None]:
    """After a test, shows other tools every image that it made in its folder."""
    yield
    acceptance.sweep(tmp_path)
