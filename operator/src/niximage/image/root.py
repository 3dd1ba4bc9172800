"""The root file system around the store: what makes `/bin/<program>` work.

Packages stay where Nix put them; the root has links to them. Around these come the few
things that programs expect of any system, each only where no package provides it:

    /tmp                  writable by all
    /etc/passwd, group    root and nobody
    /etc/nsswitch.conf    names from files, then DNS
    /bin/sh               the shell of a package that has one
    /usr/bin/env          a package's env, for scripts
    /etc/ssl/certs/ca-certificates.crt    where most programs look for a package's CA bundle
"""

import os
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from niximage.errors import Reason, Terminal
from niximage.image.closure import STORE
from niximage.image.entries import FileEntry, directory, file, symlink, unreadable
from niximage.image.forest import Forest, Lister, Target

CA_BUNDLE: Final = b"etc/ssl/certs/ca-bundle.crt"  # where nixpkgs' cacert has it

_STORE: Final = STORE.encode()
_TEMPORARY_MODE: Final = 0o1777
_ETC_MODE: Final = 0o644
# Nix's own bookkeeping in an output, and of no use at run time.
_NOT_LINKED: Final = frozenset({b"nix-support"})
# What the image or the container runtime itself has at the root.
_RESERVED: Final = frozenset({b"nix", b"proc", b"sys", b"dev", b"tmp"})
_LINKS_LIMIT: Final = 40  # as the kernel's

_PASSWD: Final = b"""root:x:0:0:root:/root:/bin/sh
nobody:x:65534:65534:nobody:/var/empty:/bin/false
"""
_GROUP: Final = b"""root:x:0:
nobody:x:65534:
"""
_NSSWITCH: Final = b"""passwd: files
group: files
hosts: files dns
"""


@dataclass(frozen=True, slots=True)
class RootPackage:
    """One output of a requested package.

    Attributes:
        label: what users call it: `openssl`, or `openssl^doc`.
        path: its store path.
    """

    label: str
    path: str


@dataclass(frozen=True, slots=True)
class Root:
    """The customisation layer.

    Attributes:
        entries: its entries, parents first.
        ca_bundle: the path of the CA bundle in the image, or "".
    """

    entries: tuple[FileEntry, ...]
    ca_bundle: str


def build_root(packages: Iterable[RootPackage], list_directory: Lister) -> Root:
    """The root file system over packages; their order does not matter.

    Args:
        packages: the requested outputs.
        list_directory: `list_store_directory`, or a table in tests.

    Raises:
        Terminal: packages provide different files of one name, or what only the image may have.
    """
    forest = Forest(list_directory)
    by_path = {package.path: package for package in sorted(packages, key=lambda p: p.label)}
    for path, package in sorted(by_path.items()):
        store_path = path.encode()
        if taken := _RESERVED & list_directory(store_path).keys():
            raise Terminal(
                Reason.FILE_CONFLICT,
                f"{package.label} provides /{min(taken).decode()}, "
                "which is the image's or the container runtime's own",
                hint="Leave the package out, or select another of its outputs with ^",
            )
        forest.add_package(package.label, store_path, ignore=_NOT_LINKED)
    bundle = _add_ca_bundle(forest)
    _add_conventions(forest)
    return Root(tuple(forest.entries()), ca_bundle=bundle)


def _add_ca_bundle(forest: Forest) -> str:
    bundle = forest.find(CA_BUNDLE)
    if bundle is None:
        return ""
    name = b"etc/ssl/certs/ca-certificates.crt"
    forest.add_missing(name, symlink(name, bundle))
    return "/" + CA_BUNDLE.decode()


def _add_conventions(forest: Forest) -> None:
    for name, candidates in (
        (b"bin/sh", (b"bin/bash", b"bin/dash", b"bin/ash")),
        (b"usr/bin/env", (b"bin/env",)),
    ):
        target = next((t for c in candidates if (t := forest.find(c)) is not None), None)
        if target is not None:
            forest.add_missing(name, symlink(name, target))
    for name, content in (
        (b"etc/passwd", _PASSWD),
        (b"etc/group", _GROUP),
        (b"etc/nsswitch.conf", _NSSWITCH),
    ):
        forest.add_missing(name, file(name, content, _ETC_MODE))
    forest.add_missing(b"tmp", directory(b"tmp", _TEMPORARY_MODE))


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
