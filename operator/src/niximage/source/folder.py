"""A folder on this machine as a source: its content is its revision.

What Git tracks, and how, plays no part: the files as they lie there are hashed and copied, and
the copy must have the hash. So a changed file is a new revision, whether or not it was
committed, and an unchanged folder builds nothing anew.
"""

import hashlib
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from niximage.api.build import PinnedSource
from niximage.errors import Reason, Retryable, Terminal, plain_text
from niximage.source.fetch import Fetched, inside

SCHEME: Final = "path:"
FILES_LIMIT: Final = 200_000
SIZE_LIMIT: Final = 4 << 30  # bytes of all files
DEPTH_LIMIT: Final = 256  # folders within folders

_CHUNK: Final = 1 << 20
_LEFT_OUT: Final = frozenset({".git"})
_NOT_OURS: Final = _LEFT_OUT | {"lost+found"}  # of a volume; nobody may read the latter


def pin_folder(folder: Path, *, path: str = ".", attr: str | None = None) -> PinnedSource:
    """A folder as a source, pinned to its content.

    Args:
        folder: the folder.
        path: the file or folder in it to import.
        attr: the attribute of the imported value that holds the packages.

    Raises:
        Terminal: it is no folder, holds what is neither file, folder nor link, or is too large.
    """
    if not folder.is_dir():
        raise Terminal(
            Reason.INVALID_SOURCE,
            f"{folder} is no folder",
            hint="Name the folder that has the package set's default.nix",
        )
    return PinnedSource(
        kind="folder",
        url=f"{SCHEME}{folder.resolve()}",
        revision=tree_hash(folder),
        path=path,
        attr=attr,
    )


def copy_folder(source: PinnedSource, target: Path) -> Fetched:
    """Put the files of a pinned folder into another.

    Args:
        source: what `pin_folder` gave.
        target: where to; it must not be there yet.

    Returns:
        As `niximage.source.fetch.fetch` does; the time is 1970, for content has none.

    Raises:
        Terminal: the path in it is not there, or leads outside.
        Retryable: the folder changed since it was pinned.
    """
    folder = Path(source.url.removeprefix(SCHEME))
    try:
        shutil.copytree(folder, target, symlinks=True, ignore=shutil.ignore_patterns(*_LEFT_OUT))
    except (OSError, shutil.Error) as error:
        raise _unreadable(folder, error) from None
    if tree_hash(target) != source.revision:
        raise Retryable(
            Reason.SOURCE_UNAVAILABLE,
            f"{folder} changed while it was being copied",
            hint="Run it again",
        )
    return Fetched(inside(target, source), 0)


def copy_volume(volume: Path, source: PinnedSource, target: Path) -> tuple[Fetched, str]:
    """Put the files of a mounted volume into a folder.

    Args:
        volume: where it is mounted.
        source: what is wanted of it.
        target: where to; it must not be there yet.

    Returns:
        As `niximage.source.fetch.fetch` does, the time 1970; and the hash of what was copied.

    Raises:
        Terminal: it cannot be read, is too large, or the path in it is not there or leads outside.
    """
    try:
        _measure(volume)
        shutil.copytree(volume, target, symlinks=True, ignore=shutil.ignore_patterns(*_NOT_OURS))
    except (OSError, shutil.Error) as error:
        raise Terminal(
            Reason.INVALID_SOURCE,
            f"{source.ref} cannot be read: {plain_text(str(error), 300)}",
            hint="Builds run as user and group 1000: let these read it",
        ) from None
    return Fetched(inside(target, source), 0), tree_hash(target)


def _measure(volume: Path) -> None:
    """Refuse what is too large before any of it is copied."""
    total = 0
    for count, (_, found, _) in enumerate(_walk(volume, b"", _NOT_OURS), 1):
        total += found.st_size if stat.S_ISREG(found.st_mode) else 0
        if count > FILES_LIMIT or total > SIZE_LIMIT:
            raise _too_large("the volume")


def tree_hash(folder: Path) -> str:
    """The SHA-256 over names, kinds, executable bits and contents of all below a folder.

    Raises:
        Terminal: it holds what is neither file, folder nor link, or is too large.
    """
    digest = hashlib.sha256(b"niximage folder 1\n")
    count = total = 0
    try:
        for name, found, path in _walk(folder, b""):
            count += 1
            total += found.st_size if stat.S_ISREG(found.st_mode) else 0
            if count > FILES_LIMIT or total > SIZE_LIMIT:
                raise _too_large(str(folder))
            digest.update(_line(name, found, path))
    except OSError as error:
        raise _unreadable(folder, error) from None
    return digest.hexdigest()


def _too_large(what: str) -> Terminal:
    return Terminal(
        Reason.INVALID_SOURCE,
        f"{what} has more than {FILES_LIMIT} files or {SIZE_LIMIT >> 30} GiB",
        hint="Is it the folder that you meant?",
    )


def _walk(
    folder: Path, prefix: bytes, left_out: frozenset[str] = _LEFT_OUT
) -> Iterator[tuple[bytes, os.stat_result, Path]]:
    if prefix.count(b"/") > DEPTH_LIMIT:
        raise Terminal(
            Reason.INVALID_SOURCE,
            f"{os.fsdecode(prefix)[:300]}… has folders nested more than {DEPTH_LIMIT} deep",
            hint="Is it the folder that you meant?",
        )
    with os.scandir(folder) as children:
        names = sorted(os.fsencode(child.name) for child in children)
    for name in names:
        if os.fsdecode(name) in left_out:
            continue
        path = folder / os.fsdecode(name)
        found = path.lstat()
        yield prefix + name, found, path
        if stat.S_ISDIR(found.st_mode):
            yield from _walk(path, prefix + name + b"/", left_out)


def _line(name: bytes, found: os.stat_result, path: Path) -> bytes:
    """One entry, with its name's length in front: no two trees have the same lines."""
    mode = found.st_mode
    if stat.S_ISDIR(mode):
        kind, content = b"d", b""
    elif stat.S_ISLNK(mode):
        kind, content = b"l", os.fsencode(path.readlink())
    elif stat.S_ISREG(mode):
        kind, content = b"x" if mode & stat.S_IXUSR else b"f", _file_hash(path)
    else:
        raise Terminal(
            Reason.INVALID_SOURCE,
            f"{path} is neither a file, a folder nor a link",
            hint="Move it out of the folder",
        )
    return b"%s %d %d %s%s\n" % (kind, len(name), len(content), name, content)


def _file_hash(path: Path) -> bytes:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest().encode()


def _unreadable(folder: Path, error: Exception) -> Terminal:
    return Terminal(
        Reason.INVALID_SOURCE,
        f"{folder} cannot be read: {error}",
        hint="Check the folder and its permissions",
    )
