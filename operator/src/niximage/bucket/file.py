"""A bucket in a folder: the embedded default, and what a volume can hold.

A stock Distribution registry may read the same folder, under another user, while we write.
So every object appears whole under its final name, by a hard link (`create`: of several
creators the kernel lets one win) or a rename (`replace`), after its bytes reached the disk.
Half-written files live in a folder that no reader lists.
"""

import contextlib
import errno
import fcntl
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

from niximage.bucket.store import DEFAULT_PATIENCE, ObjectStat, check_key
from niximage.errors import Reason, Retryable

TEMPORARY: Final = ".niximage-tmp"  # below the root: the same file system, so links work
FILE_MODE: Final = 0o644
FOLDER_MODE: Final = 0o755
CHUNK: Final = 1 << 20  # bytes that `stream` gives at a time
DEAD_AFTER: Final = 24 * 3600.0  # seconds without a write; no upload waits as long

_ATTEMPTS: Final = 100  # folders lost to a delete in a row
_ABSENT = (FileNotFoundError, NotADirectoryError)

_HINTS: Final = {
    errno.EACCES: "Let the user that runs this write the folder, or fix the volume's fsGroup",
    errno.EPERM: "Let the user that runs this write the folder; its file system must know "
    "hard links",
    errno.EROFS: "Mount the volume writable",
    errno.ENOSPC: "Make room on the volume, or run garbage collection",
    errno.EDQUOT: "Raise the quota, or run garbage collection",
    errno.EMLINK: "Use a file system that knows hard links",
    errno.EOPNOTSUPP: "Use a file system that knows hard links",
}


class FileStore:
    """Objects as files below a folder; the folder is made by the first write."""

    def __init__(self, root: Path, *, patience: float = DEFAULT_PATIENCE) -> None:
        self.root = root
        self._patience = patience

    @property
    def url(self) -> str:
        """The URL that opens this bucket."""
        return self.root.as_uri()

    def local_path(self, key: str) -> Path:
        """Where the object's bytes lie on this machine, for readers that use sendfile."""
        check_key(key)
        return self.root / key

    def stat(self, key: str) -> ObjectStat | None:
        """What is known of an object, or None if it is not there."""
        check_key(key)
        with self._told("look at", key):
            return self._now(key)

    def read(self, key: str, *, limit: int) -> bytes | None:
        """An object's whole content, or None if it is not there."""
        path = self.local_path(key)
        with self._told("read", key):
            try:
                file = path.open("rb")
            except (*_ABSENT, IsADirectoryError):
                return None
            with file:
                content = file.read(limit + 1)
        if len(content) > limit:
            raise Retryable(
                Reason.RESULT_INVALID,
                f"{self.url}: {key} is larger than the {limit} bytes it may have",
                hint="Something else wrote this object: delete it",
            )
        return content

    def stream(self, key: str, *, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        """An object's bytes from `start`, `length` of them or all the rest, in chunks."""
        path = self.local_path(key)
        with self._told("read", key), path.open("rb") as file:
            file.seek(start)
            left = length
            while left is None or left > 0:
                chunk = file.read(CHUNK if left is None else min(CHUNK, left))
                if not chunk:
                    break
                left = None if left is None else left - len(chunk)
                yield chunk

    def create(self, key: str, content: bytes | Path) -> ObjectStat | None:
        """See that an object is there with this content, unless another content is."""
        path = self.local_path(key)
        with self._told("write", key):
            if not path.is_file():
                with self._temporary(content) as made:
                    if self._link(made, path):
                        return _object(key, made.stat())
            try:
                # What another made may not be on disk yet, and our caller builds upon it.
                _sync_folder(path.parent)
                with path.open("rb") as file:
                    same = _is_content(file, content)
                    return _object(key, os.fstat(file.fileno())) if same else None
            except _ABSENT:
                return None  # deleted at once

    def spool(self, otherwise: Path) -> Path:  # noqa: ARG002 (there always is one)
        """A folder of the same file system, from which an object is made without a copy."""
        folder = self.root / TEMPORARY
        with self._told("write", TEMPORARY):
            self._make_folder(folder)
            before = _clock(folder) - DEAD_AFTER
            for path in folder.iterdir():
                _remove_if_dead(path, before)
        return folder

    def replace(self, key: str, content: bytes, *, seen: ObjectStat | None = None) -> bool:
        """Write a small object, whatever was there or only what was seen."""
        path = self.local_path(key)
        with self._told("write", key), self._temporary(content) as made, self._lock():
            if seen is not None and self._now(key) != seen:
                return False
            self._make_folder(path.parent)
            made.rename(path)
            _sync_folder(path.parent)
        return True

    def touch(self, seen: ObjectStat) -> bool:
        """Set an object's time to now; False when it was written or deleted since it was seen."""
        path = self.local_path(seen.key)
        with self._told("touch", seen.key), self._lock():
            if self._now(seen.key) != seen:
                return False
            _set_time(path)
        return True

    def list(self, prefix: str) -> Iterator[ObjectStat]:
        """The objects whose keys begin with the prefix, in key order, folder by folder."""
        folder = prefix.rpartition("/")[0]
        if folder:
            check_key(folder)
        with self._told("list", prefix or "all objects"):
            if not self.root.is_dir():
                raise FileNotFoundError(errno.ENOENT, "the folder is not there", str(self.root))
            yield from self._walk(folder, prefix)

    def delete(self, seen: ObjectStat) -> bool:
        """Delete an object; False when it was written, touched or deleted since it was seen."""
        path = self.local_path(seen.key)
        # `replace` and `touch` take the same lock; `create` never changes what is there.
        with self._told("delete", seen.key), self._lock():
            if self._now(seen.key) != seen:
                return False
            path.unlink(missing_ok=True)
            self._drop_empty(path.parent)
        return True

    def close(self) -> None:
        """Nothing is kept open."""

    def _now(self, key: str) -> ObjectStat | None:
        try:
            status = (self.root / key).stat()
        except _ABSENT:
            return None
        return _object(key, status) if stat.S_ISREG(status.st_mode) else None

    def _walk(self, folder: str, prefix: str) -> Iterator[ObjectStat]:
        try:
            entries = list(os.scandir(self.root / folder))
        except _ABSENT:
            return
        # A folder's keys go on with a slash, which sorts after `-` and `.`.
        named = sorted(
            (e.name + "/" if e.is_dir(follow_symlinks=False) else e.name) for e in entries
        )
        for name in named:
            key = f"{folder}/{name}" if folder else name
            if name.startswith(".") or not key.startswith(prefix):
                continue
            if name.endswith("/"):
                yield from self._walk(key.rstrip("/"), prefix)
            elif (found := self._now(key)) is not None:  # not deleted meanwhile
                yield found

    @contextlib.contextmanager
    def _temporary(self, content: bytes | Path) -> Iterator[Path]:
        """A file with the content, on disk, readable by all; gone at the end unless renamed.

        One from `spool` is that file itself, and whoever made it removes it.
        """
        folder = self.root / TEMPORARY
        if isinstance(content, Path) and content.parent == folder:
            with content.open("rb+") as file:
                _settle(file)
            yield content
            return
        self._make_folder(folder)
        handle, name = tempfile.mkstemp(dir=folder)
        made = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                if isinstance(content, Path):
                    with content.open("rb") as source:
                        shutil.copyfileobj(source, file, CHUNK)
                else:
                    file.write(content)
                _settle(file)
            yield made
        finally:
            made.unlink(missing_ok=True)

    def _link(self, made: Path, path: Path) -> bool:
        """Give a file its final name; False if another has it."""
        for _ in range(_ATTEMPTS):
            try:
                self._make_folder(path.parent)
                os.link(made, path)
                _sync_folder(path.parent)
            except FileExistsError:
                if not path.is_file():
                    raise  # a folder has the name, or a file that of its folder
                return False
            except FileNotFoundError:
                continue  # a delete took the folder, empty as it was
            return True
        raise OSError(errno.EBUSY, "others keep deleting its folder")

    def _drop_empty(self, folder: Path) -> None:
        """Remove a folder, and those above it, while they are empty.

        Distribution takes each folder below `tags/` for a tag, whatever is in it.
        """
        while folder != self.root:
            try:
                folder.rmdir()
            except OSError:
                break
            folder = folder.parent
        _sync_folder(folder)

    def _make_folder(self, folder: Path) -> None:
        """Make a folder and its parents, each 0755 whatever the umask, each on disk."""
        if folder.is_dir():
            return
        if folder.parent != folder:
            self._make_folder(folder.parent)
        try:
            folder.mkdir()
        except FileExistsError:
            if not folder.is_dir():
                raise
            return
        folder.chmod(FOLDER_MODE)
        _sync_folder(folder.parent)

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        """One at a time, over threads and processes, for what looks before it changes."""
        folder = self.root / TEMPORARY
        self._make_folder(folder)
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            _take(handle, self._patience)
            yield
        finally:
            os.close(handle)

    @contextlib.contextmanager
    def _told(self, verb: str, key: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise Retryable(
                Reason.BUCKET_UNAVAILABLE,
                f"cannot {verb} {key} in {self.url}: {error.strerror or error}",
                hint=_HINTS.get(error.errno or 0, ""),
            ) from error


def _object(key: str, status: os.stat_result) -> ObjectStat:
    # Inodes are used again, but times are ours, and fine: both at once have not been seen.
    generation = (status.st_mtime_ns << 32) | (status.st_ino & 0xFFFFFFFF)
    return ObjectStat(key, status.st_size, generation, 0, status.st_mtime_ns / 1e9)


def _settle(file: BinaryIO) -> None:
    """Bring a new file to the disk, as an object is: readable by all, with our own time."""
    os.fchmod(file.fileno(), FILE_MODE)
    file.flush()
    _set_time(file.fileno())
    os.fsync(file.fileno())


def _clock(folder: Path) -> float:
    """The time that files of a folder get: the earlier of our clock and its file system's own.

    The two may be of different machines, and neither may make a living file look dead.
    """
    with tempfile.TemporaryFile(dir=folder) as probe:
        return min(time.time(), os.fstat(probe.fileno()).st_mtime)


def _remove_if_dead(path: Path, before: float) -> None:
    """Remove a file that a writer left which was killed: a living one has written since."""
    with contextlib.suppress(*_ABSENT):
        if path.stat().st_mtime < before:
            path.unlink()


def _set_time(file: Path | int) -> None:
    """Set a file's time to now: the kernel's own is coarse, and two writes may share it."""
    now = time.time_ns()
    os.utime(file, ns=(now, now))


def _is_content(file: BinaryIO, content: bytes | Path) -> bool:
    size = os.fstat(file.fileno()).st_size
    if isinstance(content, bytes):
        return size == len(content) and file.read(size + 1) == content
    with content.open("rb") as source:
        while piece := file.read(CHUNK):
            if source.read(len(piece)) != piece:
                return False
        return not source.read(1)


def _take(handle: int, patience: float) -> None:
    """Lock a folder; the kernel would wait for ever for a process that was stopped.

    Raises:
        TimeoutError: another held the lock for longer than we wait.
    """
    deadline = time.monotonic() + patience
    pause = 0.0005
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise TimeoutError(errno.ETIMEDOUT, "another process holds its lock") from None
            time.sleep(pause)
            pause = min(pause * 2, 0.05)
        else:
            return


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
