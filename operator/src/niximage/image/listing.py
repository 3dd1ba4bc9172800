"""What lies in a directory of the store, with links followed as the image will follow them."""

import os
import stat
from collections.abc import Mapping
from typing import Final

from niximage.image.closure import STORE
from niximage.image.entries import unreadable
from niximage.image.forest import Target

_STORE: Final = STORE.encode()
_LINKS_LIMIT: Final = 40  # as the kernel's


def list_store_directory(path: bytes) -> Mapping[bytes, Target]:
    """List a directory of the store, each name with what it leads to.

    A link that leaves the store is left out: where it leads on this machine says nothing
    about the image. So is one that leads nowhere. A store path that is a file has no names.

    Raises:
        Retryable: the store cannot be read.
    """
    try:
        if not stat.S_ISDIR(os.lstat(path).st_mode):
            return {}
        with os.scandir(path) as children:
            names = [child.name for child in children]
        found = {name: _resolve(path + b"/" + name) for name in names}
    except OSError as error:
        raise unreadable(error) from None
    return {name: target for name, target in found.items() if target is not None}


def _resolve(path: bytes) -> Target | None:
    """Follow links as the image will: one step at a time, never outside the store."""
    for _ in range(_LINKS_LIMIT):
        step = _first_link(path)
        if step is None:
            return None
        link, rest, mode = step
        if not stat.S_ISLNK(mode):
            return Target(link, is_directory=stat.S_ISDIR(mode))
        target = os.readlink(link)  # noqa: PTH115 (Path takes no bytes)
        if not target.startswith(b"/"):
            target = link.rpartition(b"/")[0] + b"/" + target
        path = target + b"/" + rest if rest else target
    return None


def _first_link(path: bytes) -> tuple[bytes, bytes, int] | None:
    """The first symbolic link on a path, what follows it, and its mode; or the path's end.

    None where the path leaves the store or does not exist.
    """
    walked: list[bytes] = []
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
        try:
            mode = os.lstat(here).st_mode
        except (FileNotFoundError, NotADirectoryError):
            return None
        if stat.S_ISLNK(mode):
            return here, b"/".join(parts[index + 1 :]), mode
    return here, b"", mode
