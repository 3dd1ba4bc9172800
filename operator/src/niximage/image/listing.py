"""What lies in a directory of the store, with links followed as the image will follow them."""

import os
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from niximage.image.closure import STORE
from niximage.image.entries import Kind, unreadable
from niximage.image.forest import Lister, Target

_STORE: Final = STORE.encode()
_LINKS_LIMIT: Final = 40  # as the kernel's


@dataclass(frozen=True, slots=True)
class Seen:
    """What stands at a path.

    Attributes:
        kind: what it is; devices and the like count as files.
        target: where a symbolic link points.
    """

    kind: Kind
    target: bytes = b""


class StoreView(Protocol):
    """The names in a store, whether its files are on this machine or not."""

    def look(self, path: bytes) -> Seen | None:
        """What stands at an absolute path in the store, no link followed, or None."""
        ...

    def names(self, path: bytes) -> Iterable[bytes]:
        """The names in a directory of the store."""
        ...


class StoreOnDisk:
    """The names in the local store."""

    def look(self, path: bytes) -> Seen | None:
        """See `StoreView`."""
        try:
            mode = os.lstat(path).st_mode
            if stat.S_ISLNK(mode):
                return Seen(Kind.SYMLINK, os.readlink(path))  # noqa: PTH115 (Path takes no bytes)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise unreadable(error) from None
        return Seen(Kind.DIRECTORY if stat.S_ISDIR(mode) else Kind.FILE)

    def names(self, path: bytes) -> Iterable[bytes]:
        """See `StoreView`."""
        try:
            with os.scandir(path) as children:
                return [child.name for child in children]
        except OSError as error:
            raise unreadable(error) from None


def store_lister(view: StoreView) -> Lister:
    """Lists directories of a store, each name with what it leads to.

    A link that leaves the store is left out: where it leads on this machine says nothing
    about the image. So is one that leads nowhere. A store path that is a file has no names.

    The lister raises `Retryable` where a path is not there, or the store cannot be read.
    """

    def list_directory(path: bytes) -> Mapping[bytes, Target]:
        seen = view.look(path)
        if seen is None:
            raise unreadable(FileNotFoundError(2, "No such file or directory", path))
        if seen.kind is not Kind.DIRECTORY:
            return {}
        found = {name: _resolve(view, path + b"/" + name) for name in view.names(path)}
        return {name: target for name, target in found.items() if target is not None}

    return list_directory


def _resolve(view: StoreView, path: bytes) -> Target | None:
    """Follow links as the image will: one step at a time, never outside the store."""
    for _ in range(_LINKS_LIMIT):
        step = _first_link(view, path)
        if step is None:
            return None
        link, rest, seen = step
        if seen.kind is not Kind.SYMLINK:
            return Target(link, is_directory=seen.kind is Kind.DIRECTORY)
        target = seen.target
        if not target.startswith(b"/"):
            target = link.rpartition(b"/")[0] + b"/" + target
        path = target + b"/" + rest if rest else target
    return None


def _first_link(view: StoreView, path: bytes) -> tuple[bytes, bytes, Seen] | None:
    """The first symbolic link on a path, what follows it, and what it is; or the path's end.

    None where the path leaves the store or does not exist.
    """
    walked: list[bytes] = []
    end: tuple[bytes, bytes, Seen] | None = None
    parts = path.split(b"/")[1:]
    for index, part in enumerate(parts):
        if part == b"..":
            walked = walked[:-1]
        elif part not in {b"", b"."}:
            walked.append(part)
        here = b"/" + b"/".join(walked)
        if not here.startswith(_STORE):
            # Above the store there is nothing to follow; elsewhere is not for us.
            if _STORE.startswith(here.rstrip(b"/") + b"/") and index < len(parts) - 1:
                continue
            return None
        seen = view.look(here)
        if seen is None:
            return None
        if seen.kind is Kind.SYMLINK:
            return here, b"/".join(parts[index + 1 :]), seen
        end = here, b"", seen
    return end
