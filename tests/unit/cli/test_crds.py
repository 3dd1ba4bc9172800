"""Where CRDs are written to, and read."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from niximage.api.crd import crds, to_yaml
from niximage.cli.operation.crds import run
from niximage.errors import Terminal


def test_a_folder_that_is_none_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Terminal, match="file/below cannot be written: Not a directory"):
        run(write=tmp_path / "file" / "below", check=None)


def test_a_file_that_is_no_text_is_another_one(tmp_path: Path) -> None:
    run(write=tmp_path, check=None)
    run(write=None, check=tmp_path)
    (tmp_path / "niximages.niximage.dev.yaml").write_bytes(b"\xff")
    with pytest.raises(Terminal, match="is not what the models say"):
        run(write=None, check=tmp_path)


def test_manifests_are_utf_8_whatever_the_locale_and_words_are_never_a_traceback() -> None:
    old = {**os.environ, "PYTHONIOENCODING": "latin-1"}
    shown = subprocess.run(
        [sys.executable, "-m", "niximage", "crds"], env=old, capture_output=True, check=True
    )
    assert shown.stdout == b"---\n".join(to_yaml(crd).encode() for crd in crds())
    helped = [sys.executable, "-m", "niximage", "attach", "--help"]
    words = subprocess.run(helped, env=old, capture_output=True, check=True).stdout
    assert b"NAMESPACE/NAME@sha256:?" in words, "which Latin-1 has no dots for"
