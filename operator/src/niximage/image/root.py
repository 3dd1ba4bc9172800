"""The root file system around the store: what makes `/bin/<program>` work.

Packages stay where Nix put them; the root has links to them. Then come users' own files, and
last the few things that programs expect of any system, each only where nothing is yet:

    /tmp, /var/tmp        writable by all
    /root, /home/<user>   homes
    /etc/passwd, group    root, nobody, and whom the image runs as
    /etc/nsswitch.conf    names from files, then DNS
    /bin/sh               the shell of a package that has one
    /usr/bin/env          a package's env, for scripts
    the working directory and the volumes, owned by whom the image runs as
    a package's CA bundle wherever programs look for one

/etc/hosts, hostname and resolv.conf are the container runtime's.
"""

import posixpath
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from niximage.api.contents import ImageFile
from niximage.api.spec import Config
from niximage.errors import Reason, Terminal
from niximage.image.base_users import BaseUsers
from niximage.image.closure import Closure
from niximage.image.database import database_entries
from niximage.image.entries import FileEntry, Kind, directory, file, symlink
from niximage.image.forest import Forest, Lister
from niximage.image.users import Account, account_in

# In the order in which they are believed; the first is where nixpkgs' cacert has it.
CA_BUNDLES: Final = (
    b"etc/ssl/certs/ca-bundle.crt",
    b"etc/ssl/certs/ca-certificates.crt",  # Debian's
    b"etc/pki/tls/certs/ca-bundle.crt",  # Fedora's
)

_TEMPORARY_MODE: Final = 0o1777
_ROOT_HOME_MODE: Final = 0o700
_EMPTY_MODE: Final = 0o555
_ETC_MODE: Final = 0o644
# Nix's own bookkeeping in an output, and of no use at run time.
_NOT_LINKED: Final = frozenset({b"nix-support"})
# What the image or the container runtime itself has at the root.
_RESERVED: Final = frozenset({b"nix", b"proc", b"sys", b"dev", b"tmp"})
# Where runtimes mount, and where the store is: no directory is made in there.
_NOT_MADE: Final = ("/nix", "/proc", "/sys", "/dev")

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
        defaults: the names of files and links that no package and no user has asked for, and
            that give way to those of a base.
    """

    entries: tuple[FileEntry, ...]
    ca_bundle: str
    defaults: frozenset[bytes] = frozenset()


def build_root(
    packages: Iterable[RootPackage],
    list_directory: Lister,
    *,
    config: Config | None = None,
    files: Iterable[ImageFile] = (),
    registered: Closure | None = None,
    below: BaseUsers | None = None,
) -> Root:
    """The root file system over packages; their order does not matter.

    Args:
        packages: the requested outputs.
        list_directory: `list_store_directory`, or a table in tests.
        config: the image's: its user, working directory and volumes.
        files: users' own; they win over packages' files.
        registered: the store paths to register in a Nix database, or None for no database.
        below: the users of the base, which stay.

    Raises:
        Terminal: packages provide different files of one name, or what only the image may have;
            or a file is where a directory has to be.
    """
    config = config or Config()
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
    for entry in sorted(map(file_entry, files), key=lambda entry: entry.name):
        forest.add_file(entry)
    bundle = _add_ca_bundle(forest)
    user = _add_user(forest, config, below or BaseUsers())
    _add_conventions(forest)
    if registered is not None:
        for entry in database_entries(registered, by_path, uid=user.uid, gid=user.gid):
            if entry.kind is Kind.DIRECTORY:
                forest.add_directory(entry)
            else:
                # A base's settings stay; its database is in the new one.
                forest.add_missing(entry, gives_way=not entry.name.startswith(b"nix/"))
    return Root(tuple(forest.entries()), ca_bundle=bundle, defaults=forest.defaults)


def file_entry(given: ImageFile) -> FileEntry:
    """The entry that a user's file, directory or link becomes."""
    name = given.path.encode()[1:]
    if given.directory:
        return directory(name, given.permissions, uid=given.uid, gid=given.gid)
    if given.symlink is not None:
        return symlink(name, given.symlink.encode(), uid=given.uid, gid=given.gid)
    return file(name, given.data, given.permissions, uid=given.uid, gid=given.gid)


def _add_ca_bundle(forest: Forest) -> str:
    """Links from all places to the bundle; a user's own is believed before a package's."""
    found = next((name for name in CA_BUNDLES if forest.find_file(name)), None) or next(
        (name for name in CA_BUNDLES if forest.find(name)), None
    )
    if found is None:
        return ""
    target = forest.find(found)
    assert target is not None
    for name in CA_BUNDLES:
        forest.add_missing(symlink(name, target))
    return "/" + found.decode()


def _add_user(forest: Forest, config: Config, below: BaseUsers) -> Account:
    """The user's entries, home, working directory and volumes."""
    given = forest.find_file(b"etc/passwd")
    if given is not None and given.kind is Kind.FILE:
        user = account_in(given.content, config.user)
    else:
        user = below.account(config.user)
    for name, content in (
        (b"etc/passwd", below.passwd_with(user)),
        (b"etc/group", below.group_with(user)),
        (b"etc/nsswitch.conf", _NSSWITCH),
    ):
        forest.add_missing(file(name, content, _ETC_MODE))
    forest.add_directory(directory(b"root", _ROOT_HOME_MODE))
    forest.add_missing_directory(directory(b"var/empty", _EMPTY_MODE))
    _make(forest, user.home, user)
    for path in sorted({config.working_dir or "/", *config.volumes}):
        _make(forest, path, user)
    return user


def _make(forest: Forest, path: str, user: Account) -> None:
    """A directory that the user may write, unless packages have one there."""
    path = "/" + posixpath.normpath(f"/{path}").lstrip("/")
    if path != "/" and not f"{path}/".startswith(tuple(f"{top}/" for top in _NOT_MADE)):
        forest.add_missing_directory(directory(path.encode()[1:], uid=user.uid, gid=user.gid))


def _add_conventions(forest: Forest) -> None:
    for name, candidates in (
        (b"bin/sh", (b"bin/bash", b"bin/dash", b"bin/ash")),
        (b"usr/bin/env", (b"bin/env",)),
    ):
        target = next((t for c in candidates if (t := forest.find(c)) is not None), None)
        if target is not None:
            forest.add_missing(symlink(name, target))
    for name in (b"tmp", b"var/tmp"):
        forest.add_directory(directory(name, _TEMPORARY_MODE))
