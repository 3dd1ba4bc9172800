"""The user's cache folder: what is built once and used by every instance, and the locks.

Everything here survives `down`. It may be deleted at any time while no instance runs.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

from console import say


def cache_folder() -> Path:
    """`$XDG_CACHE_HOME/niximage-cluster`, or the same below `~/.cache`."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(base).resolve() / "niximage-cluster"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Hold a lock of this name against other processes of the same user.

    The kernel drops the lock with the process, so a crash leaves nothing to clean up.
    """
    folder = cache_folder() / "locks"
    folder.mkdir(exist_ok=True)
    path = folder / name
    with ExitStack() as stack:
        file = stack.enter_context(path.open("w"))
        _lock(file, path)
        while not _is_at(file, path):
            # the last owner removed the file while this process waited: others use a new one
            file = stack.enter_context(path.open("w"))
            _lock(file, path)
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def _lock(file: IO[str], path: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        say(f"waiting for another process that holds the lock {path}")
        fcntl.flock(file, fcntl.LOCK_EX)


def _is_at(file: IO[str], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def digest(*parts: bytes | str) -> str:
    """A short name for content: the parts' lengths are hashed too, so they cannot run together."""
    hasher = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        hasher.update(len(data).to_bytes(8, "big") + data)
    return hasher.hexdigest()[:16]
