"""Files, directories and links, as a layer holds them.

An entry has what is the same on every machine and nothing else: of a file's mode only the
executable bit, of times and owners nothing (only users' `files` have owners, as their spec
says); hard links are files of their own. Entries of a tree come parents first and the names
in a directory by their bytes, which is also the order of a NAR.

Names and targets are bytes, for that is what a file system has.
"""

import enum
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from niximage.errors import Reason, Retryable, Terminal

DEPTH_LIMIT: Final = 256  # directories within directories: no program opens deeper paths

FILE_MODE: Final = 0o444
EXECUTABLE_MODE: Final = 0o555
DIRECTORY_MODE: Final = 0o555
SYMLINK_MODE: Final = 0o777
PARENT_MODE: Final = 0o755  # of directories that are no part of a store path


class Kind(enum.Enum):
    """What an entry is."""

    FILE = "file"
    DIRECTORY = "directory"
    SYMLINK = "symlink"


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file, directory or symbolic link of a layer.

    Attributes:
        name: relative to the image's root, without slashes at either end.
        kind: what it is.
        mode: permission bits.
        size: bytes of content; 0 unless a file.
        target: where a symbolic link points; empty for the others.
        content: the bytes of a file that exists nowhere but here.
        origin: the path of the file to read the content from; empty if `content` has it.
        uid: the owner.
        gid: the group.
    """

    name: bytes
    kind: Kind
    mode: int
    size: int = 0
    target: bytes = b""
    content: bytes = b""
    origin: bytes = b""
    uid: int = 0
    gid: int = 0


def directory(name: bytes, mode: int = PARENT_MODE, *, uid: int = 0, gid: int = 0) -> FileEntry:
    """A directory."""
    return FileEntry(name, Kind.DIRECTORY, mode, uid=uid, gid=gid)


def symlink(name: bytes, target: bytes, *, uid: int = 0, gid: int = 0) -> FileEntry:
    """A symbolic link."""
    return FileEntry(name, Kind.SYMLINK, SYMLINK_MODE, target=target, uid=uid, gid=gid)


def file(
    name: bytes, content: bytes, mode: int = FILE_MODE, *, uid: int = 0, gid: int = 0
) -> FileEntry:
    """A file whose content is at hand."""
    return FileEntry(name, Kind.FILE, mode, size=len(content), content=content, uid=uid, gid=gid)


def walk(path: str) -> Iterator[FileEntry]:
    """The entries of a store path, itself first.

    Args:
        path: an absolute path; the entries' names are the same without the leading slash.

    Raises:
        Terminal: a device, socket or FIFO, or directories nested too deep.
        Retryable: the path is not there, or changed under the walk.
    """
    origin = os.fsencode(path)
    try:
        yield from _walk(origin, os.lstat(origin), 0)
    except OSError as error:
        raise unreadable(error) from None


def _walk(origin: bytes, found: os.stat_result, depth: int) -> Iterator[FileEntry]:
    name = origin[1:]
    mode = found.st_mode
    if stat.S_ISREG(mode):
        file_mode = EXECUTABLE_MODE if mode & stat.S_IXUSR else FILE_MODE
        yield FileEntry(name, Kind.FILE, file_mode, size=found.st_size, origin=origin)
    elif stat.S_ISLNK(mode):
        yield symlink(name, os.readlink(origin))  # noqa: PTH115 (Path takes no bytes)
    elif stat.S_ISDIR(mode):
        if depth > DEPTH_LIMIT:
            raise Terminal(
                Reason.BUILD_FAILED,
                f"{os.fsdecode(origin)[:300]}… has directories nested more than {DEPTH_LIMIT} deep",
            )
        yield directory(name, DIRECTORY_MODE)
        with os.scandir(origin) as children:
            listed = sorted(children, key=_name)
        for child in listed:
            yield from _walk(child.path, child.stat(follow_symlinks=False), depth + 1)
    else:
        raise Terminal(
            Reason.BUILD_FAILED,
            f"{os.fsdecode(origin)} is neither a file, a directory nor a symbolic link",
            hint="An image's layers hold nothing else: fix the package",
        )


def _name(child: "os.DirEntry[bytes]") -> bytes:
    return child.name


def unreadable(error: OSError) -> Retryable:
    """The error of a store that cannot be read: it was there a moment ago."""
    where = error.filename if isinstance(error.filename, str) else os.fsdecode(error.filename or "")
    return Retryable(
        Reason.BUILD_INTERRUPTED,
        f"the store cannot be read: {where}: {error.strerror}",
        hint="Build it again; was a garbage collection running?",
    )
