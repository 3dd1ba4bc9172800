"""The commands that docs/ shows for a machine without a cluster, run one after the other."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from integration.nix.demo import PROJECT, Demo
from integration.source.conftest import Server, SmartHandler

_BLOCK: Final = re.compile(
    r"^<!-- tested: local -->\n```console\n(.*?)^```$", re.MULTILINE | re.DOTALL
)


@pytest.fixture
def nixpkgs(tmp_path: Path) -> Iterator[str]:
    """The URL of a repository with the channel that the examples name."""
    folder = tmp_path / "served"
    folder.mkdir()
    Demo.make(folder / "nixpkgs")
    server = Server(type("Handler", (SmartHandler,), {"root": folder}))
    yield f"{server.url}/nixpkgs"
    server.stop()


def test_what_the_page_without_a_cluster_shows_works(tmp_path: Path, nixpkgs: str) -> None:
    blocks = _BLOCK.findall((PROJECT / "docs" / "local.md").read_text())
    lines = [line for block in blocks for line in block.splitlines()]
    assert len(lines) > 8
    assert all(line.startswith("$ ") for line in lines)
    home = tmp_path / "home"
    home.mkdir()
    shutil.copytree(PROJECT / "examples", home / "examples")
    done = subprocess.run(
        ["bash", "-eux", "-c", "\n".join(line.removeprefix("$ ") for line in lines)],
        cwd=home,
        env={
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "XDG_CACHE_HOME": str(home / "cache"),
            "NIXIMAGE_NIXPKGS_URL": nixpkgs,
            "NIXIMAGE_SUBSTITUTERS": "",
        },
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "not locked yet" in done.stdout
    assert (home / "hello.tar").is_file()
    assert (home / "layout" / "index.json").is_file()
    assert "# channel: nixos-26.05" in (home / "examples" / "hello.yaml").read_text()
