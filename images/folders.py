"""Where things are: the project, the user's cache, and scratch folders on the same disk."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def cache_folder() -> Path:
    """`$XDG_CACHE_HOME/niximage-images`, or the same below `~/.cache`; may always be deleted."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(base).resolve() / "niximage-images"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder that is gone afterwards."""
    with tempfile.TemporaryDirectory(dir=cache_folder(), prefix="scratch-") as folder:
        yield Path(folder)
