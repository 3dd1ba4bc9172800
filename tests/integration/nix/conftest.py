"""The demo package set, checked out."""

from pathlib import Path

import pytest

from integration.nix.demo import Demo


@pytest.fixture(scope="session")
def demo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of the demo package set."""
    folder = tmp_path_factory.mktemp("demo")
    return Demo.make(folder / "repository").check_out(folder / "source")
