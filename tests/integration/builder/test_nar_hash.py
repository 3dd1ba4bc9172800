"""A source's files are what narHash says, or nothing is built."""

import base64
import hashlib
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from integration.builder.images import Folder
from integration.nix.demo import Demo
from niximage.api.build import PinnedSource
from niximage.errors import Reason, Terminal
from niximage.nix.nar_hash import nar_hash
from niximage.nix.programs import NixStore


@dataclass(frozen=True)
class Hashed:
    """A package set whose files must have a hash."""

    source: PinnedSource

    @classmethod
    def of(cls, demo: Demo, expected: str) -> "Hashed":
        return cls(demo.source.model_copy(update={"nar_hash": expected}))


def dumped(folder: Path) -> str:
    """The hash as another program of Nix makes it."""
    dump = subprocess.run(["nix-store", "--dump", folder], capture_output=True, check=True)
    return f"sha256-{base64.b64encode(hashlib.sha256(dump.stdout).digest()).decode()}"


def test_the_hash_is_nixs_own(demo: Demo, tmp_path: Path) -> None:
    folder = demo.check_out(tmp_path / "source")
    assert nar_hash(folder, store=NixStore(), timeout=60) == dumped(folder)


def test_the_right_hash_builds_the_same_image(demo: Demo, bucket: Folder, tmp_path: Path) -> None:
    expected = dumped(demo.check_out(tmp_path / "source"))
    assert bucket.build(Hashed.of(demo, expected), "hello").digest == (
        bucket.build(demo, "hello").digest
    )


def test_another_hash_builds_nothing(demo: Demo, bucket: Folder) -> None:
    bucket.build(demo, "hello")
    with pytest.raises(Terminal, match="the source's files hash to sha256-") as caught:
        bucket.build(Hashed.of(demo, f"sha256-{'A' * 43}="), "hello")
    assert caught.value.reason is Reason.HASH_MISMATCH
