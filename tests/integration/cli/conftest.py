"""The program with the demo package set in a folder."""

from pathlib import Path

import pytest

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
