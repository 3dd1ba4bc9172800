"""Where CRDs are written to."""

from pathlib import Path

import pytest

from niximage.cli.operation.crds import run
from niximage.errors import Terminal


def test_a_folder_that_is_none_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Terminal, match="file/below cannot be written: Not a directory"):
        run(write=tmp_path / "file" / "below", check=None)
