"""Files, directories and links, as a layer holds them.

An entry has what is the same on every machine and nothing else: of a file's mode only the
executable bit, of times and owners nothing (only users' `files` have owners, as their spec
says); hard links are files of their own. Entries of a tree come parents first and the names
in a directory by their bytes, which is also the order of a NAR.

Names and targets are bytes, for that is what a file system has.
"""

import enum
import errno
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from niximage.errors import Reason, Retryable, Terminal

DEPTH_LIMIT: Final = 256  # directories within directories: no program opens deeper paths
# The kernel's, in bytes: whoever has more in a path cannot open it.
NAME_LIMIT: Final = 255  # of one name in a directory
PATH_LIMIT: Final = 4094  # of an entry's name: it is without the leading slash
TARGET_LIMIT: Final = 4095  # of where a symbolic link points
WHITEOUT: Final = b".wh."
"""What a name in a layer begins with that says what is deleted, and stands for no file."""

SMALL_FILE: Final = 64 << 10  # bytes of a file that a walk reads itself

# Links are not followed, and a pipe in a file's place must not be waited for.
READ_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

FILE_MODE: Final = 0o444
EXECUTABLE_MODE: Final = 0o555
DIRECTORY_MODE: Final = 0o555
SYMLINK_MODE: Final = 0o777
PARENT_MODE: Final = 0o755  # of directories that are no part of a store path


Reader = Callable[[memoryview], int]
"""Reads the next bytes of a file into a buffer and says how many they were: 0 at its end."""


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
        content: the bytes of a file, if they are at hand.
        origin: the path of the file to read the content from; empty if it is elsewhere.
        reader: reads the content from a stream, once, before the stream's next entry is asked
            for; None if it is elsewhere.
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
    reader: Reader | None = field(default=None, compare=False)


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

    Small files come with their content: most files are small, and finding one by its path
    takes longer than reading it, so it is done once.

    Args:
        path: an absolute path; the entries' names are the same without the leading slash.

    Raises:
        Terminal: a device, socket or FIFO, directories nested too deep, or a path too long.
        Retryable: the path is not there, or changed under the walk.
    """
    try:
        yield from _walk(os.fsencode(path))
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise name_too_long(os.fsencode(error.filename)[1:]) from None
        raise unreadable(error) from None


def _walk(top: bytes) -> Iterator[FileEntry]:
    deepest = top.count(b"/") + DEPTH_LIMIT
    waiting = [(top, _kind_of_mode(os.lstat(top).st_mode))]  # the next one last
    while waiting:
        path, kind = waiting.pop()
        if kind is Kind.FILE:
            yield _file(path)
        elif kind is Kind.SYMLINK:
            yield symlink(path[1:], os.readlink(path))  # noqa: PTH115 (Path takes no bytes)
        elif kind is Kind.DIRECTORY:
            if path.count(b"/") > deepest:
                raise nested_too_deep(path[1:])
            yield directory(path[1:], DIRECTORY_MODE)
            with os.scandir(path) as children:
                listed = [(child.path, _kind_of_child(child)) for child in children]
            waiting += sorted(listed, key=_path, reverse=True)
        else:
            raise Terminal(
                Reason.BUILD_FAILED,
                f"{os.fsdecode(path)} is neither a file, a directory nor a symbolic link",
                hint="An image's layers hold nothing else: fix the package",
            )


def _file(path: bytes) -> FileEntry:
    descriptor = os.open(path, READ_FLAGS)
    try:
        found = os.fstat(descriptor)
        size = found.st_size
        # One byte more than there should be shows a file that has grown.
        content = os.read(descriptor, size + 1) if size <= SMALL_FILE else b""
    finally:
        os.close(descriptor)
    mode = EXECUTABLE_MODE if found.st_mode & stat.S_IXUSR else FILE_MODE
    if len(content) == size:
        return FileEntry(path[1:], Kind.FILE, mode, size=size, content=content)
    # Who packs it reads it, and tells what is wrong if something is.
    return FileEntry(path[1:], Kind.FILE, mode, size=size, origin=path)


def _kind_of_mode(mode: int) -> Kind | None:
    if stat.S_ISREG(mode):
        return Kind.FILE
    if stat.S_ISDIR(mode):
        return Kind.DIRECTORY
    return Kind.SYMLINK if stat.S_ISLNK(mode) else None


def _kind_of_child(child: "os.DirEntry[bytes]") -> Kind | None:
    """What a directory's list says of a child, so that it need not be looked up for that."""
    if child.is_file(follow_symlinks=False):
        return Kind.FILE
    if child.is_dir(follow_symlinks=False):
        return Kind.DIRECTORY
    return Kind.SYMLINK if child.is_symlink() else None


def _path(listed: tuple[bytes, Kind | None]) -> bytes:
    return listed[0]


def nested_too_deep(name: bytes) -> Terminal:
    """The error of directories within directories within directories."""
    return Terminal(
        Reason.BUILD_FAILED,
        f"/{os.fsdecode(name)[:300]}… has directories nested more than {DEPTH_LIMIT} deep",
        hint="An image's layers hold no such files: fix the package",
    )


def name_too_long(name: bytes) -> Terminal:
    """The error of a path that no program can open."""
    return Terminal(
        Reason.BUILD_FAILED,
        f"/{os.fsdecode(name)[:300]}… is longer than the {PATH_LIMIT + 1} bytes of a path",
        hint="An image's layers hold no such files: fix the package",
    )


def names_deletion(name: bytes) -> Terminal:
    """The error of a file that would not be there, and another one neither."""
    return Terminal(
        Reason.BUILD_FAILED,
        f"/{os.fsdecode(name)[:300]} cannot be in an image: in a layer such a name says that "
        "something is deleted",
        hint="Leave out what has it, or see that it gets another name",
    )


def unreadable(error: OSError) -> Retryable:
    """The error of a store that cannot be read: it was there a moment ago."""
    where = error.filename if isinstance(error.filename, str) else os.fsdecode(error.filename or "")
    return Retryable(
        Reason.BUILD_INTERRUPTED,
        f"the store cannot be read: {where}: {error.strerror}",
        hint="Build it again; was a garbage collection running?",
    )
