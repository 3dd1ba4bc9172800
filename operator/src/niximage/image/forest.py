"""Several packages merged into one tree of links.

Directories merge with directories, at any depth; a part of the tree that one package alone
provides is a single link to it. Two packages that provide different files under one name are
a conflict, told for all names at once: nothing is dropped silently. Users' own files come last
and win over packages' files, which is also how a conflict is settled.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from niximage.errors import Reason, Terminal
from niximage.image.entries import FileEntry, Kind, directory, symlink

CONFLICTS_SHOWN: Final = 10
DEPTH_LIMIT: Final = 64  # merged directories within each other; links in a circle end here
MERGE_LIMIT: Final = 200_000  # names looked at while merging


@dataclass(frozen=True, slots=True)
class Target:
    """What a name in a package leads to, links within the store followed.

    Attributes:
        resolved: the store path or path below one where the links end.
        is_directory: whether that is a directory.
    """

    resolved: bytes
    is_directory: bool


Lister = Callable[[bytes], Mapping[bytes, Target]]
"""Lists a directory of the store: name to what it leads to; links to nowhere are left out."""


@dataclass(slots=True)
class _Link:
    """A part of the tree that is one link so far."""

    package: str
    path: bytes
    target: Target


@dataclass(slots=True)
class _Directory:
    """A part of the tree that several packages, or the image itself, put things into.

    Its entry is what is said of its mode and owner, if anything is.
    """

    children: "dict[bytes, _Node]" = field(default_factory=dict)
    entry: FileEntry | None = None


_Node = _Link | _Directory | FileEntry


class Forest:
    """A tree of links that grows by packages, by users' files and by the image's own entries.

    Directories at the top are always real ones: container runtimes put `/etc/hosts` and
    mounts there, and following a link they would write into the store.
    """

    def __init__(self, list_directory: Lister) -> None:
        self._list = list_directory
        self._root = _Directory()
        self._conflicts: dict[bytes, set[str]] = {}
        self._merged = 0
        self._defaults: set[bytes] = set()

    @property
    def defaults(self) -> frozenset[bytes]:
        """The names of files and links that are there for want of anything else."""
        return frozenset(self._defaults)

    def add_package(self, package: str, path: bytes, *, ignore: frozenset[bytes]) -> None:
        """Merge a package's top directory into the root.

        Args:
            package: what to call it in messages.
            path: its store path, a directory.
            ignore: names at its top that are not for the root.
        """
        for name, target in sorted(self._list(path).items()):
            if name not in ignore:
                self._merge(self._root, name, name, _Link(package, path + b"/" + name, target))
                if target.is_directory:
                    self._real_directory(self._root, name)

    def add_file(self, entry: FileEntry) -> None:
        """Put in what a user wants there, whatever package's file it replaces.

        Raises:
            Terminal: a file stands where a directory above it should be, or it would replace
                a whole directory of packages.
        """
        parent, last = self._open_parents(entry)
        old = parent.children.get(last)
        if entry.kind is Kind.DIRECTORY:
            if isinstance(old, FileEntry) or (isinstance(old, _Link) and not _is_directory(old)):
                del parent.children[last]
            below = self._real_directory(parent, last)
            assert below is not None
            below.entry = entry
            return
        if _is_directory(old) and entry.name not in self._conflicts:
            assert old is not None
            raise Terminal(
                Reason.FILE_CONFLICT,
                f"spec.files has {_shown(entry.name)}, where {_owner(old)} has a directory",
                hint="Choose another path, or put the file into that directory",
            )
        parent.children[last] = entry
        self._conflicts.pop(entry.name, None)

    def add_missing(self, entry: FileEntry, *, gives_way: bool = True) -> None:
        """Put in an entry of the image's own, unless something is there.

        Args:
            entry: a file or a link.
            gives_way: whether it is one of the `defaults`.
        """
        *parents, last = entry.name.split(b"/")
        here = self._root
        for parent in parents:
            below = self._real_directory(here, parent)
            if below is None:
                return
            here = below
        if here.children.setdefault(last, entry) is entry and gives_way:
            self._defaults.add(entry.name)

    def add_directory(self, entry: FileEntry) -> None:
        """See that there is a real directory, with this mode and owner unless users say others.

        Raises:
            Terminal: a file is in its place.
        """
        parent, last = self._open_parents(entry)
        below = self._real_directory(parent, last)
        if below is None:
            raise _in_the_way(entry, entry.name, parent.children[last])
        if below.entry is None:
            below.entry = entry

    def add_missing_directory(self, entry: FileEntry) -> None:
        """See that there is a directory; one that packages provide stays as it is.

        Raises:
            Terminal: a file is in its place.
        """
        parts = entry.name.split(b"/")
        above = (b"/".join(parts[:depth]) for depth in range(1, len(parts) + 1))
        # Where a user's own link leads is the user's affair.
        if any(_is_symlink(self._look_up(name)) for name in above):
            return
        if not _is_directory(self._look_up(entry.name)):
            self.add_directory(entry)

    def find(self, name: bytes) -> bytes | None:
        """What a link to the file or directory of this name should lead to, if there is one."""
        match self._look_up(name):
            case _Link(path=path):
                return path
            case FileEntry():
                return b"/" + name
            case _:
                return None

    def find_file(self, name: bytes) -> FileEntry | None:
        """The file or link of this name, if it is a user's."""
        found = self._look_up(name)
        return found if isinstance(found, FileEntry) else None

    def entries(self) -> Iterator[FileEntry]:
        """The tree, parents first, each directory by its names' bytes.

        Raises:
            Terminal: packages provide different files under one name.
        """
        if self._conflicts:
            lines = [f"{_shown(name)}: {_listed(o)}" for name, o in sorted(self._conflicts.items())]
            hidden = len(lines) - CONFLICTS_SHOWN
            more = [f"and {hidden} more"] if hidden > 0 else []
            raise Terminal(
                Reason.FILE_CONFLICT,
                "packages provide different files of one name:\n"
                + "\n".join(lines[:CONFLICTS_SHOWN] + more),
                hint="Leave one of them out, select outputs that do not collide with ^, "
                "or say with spec.files what is to be there",
            )
        yield from _entries(self._root, b"")

    def _look_up(self, name: bytes) -> _Node | None:
        node: _Node | None = self._root
        for part in name.split(b"/"):
            match node:
                case _Directory():
                    node = node.children.get(part)
                case _Link(target=Target(is_directory=True)):
                    below = self._list(node.target.resolved).get(part)
                    path = node.path + b"/" + part
                    node = None if below is None else _Link(node.package, path, below)
                case _:
                    return None
        return node

    def _open_parents(self, entry: FileEntry) -> tuple[_Directory, bytes]:
        """The directory that an entry belongs into, made real, and its name there."""
        *parents, last = entry.name.split(b"/")
        here = self._root
        for depth, parent in enumerate(parents, start=1):
            below = self._real_directory(here, parent)
            if below is None:
                raise _in_the_way(entry, b"/".join(parents[:depth]), here.children[parent])
            here = below
        return here, last

    def _merge(self, parent: _Directory, name: bytes, where: bytes, new: _Link) -> None:
        self._merged += 1
        if self._merged > MERGE_LIMIT or where.count(b"/") > DEPTH_LIMIT:
            raise Terminal(
                Reason.FILE_CONFLICT,
                f"the directories of {new.package} and other packages cannot be merged: "
                f"too deep or too many at {_shown(where)[:200]}",
                hint="Does one of them have links to its own parent directories?",
            )
        old = parent.children.get(name)
        if old is None:
            parent.children[name] = new
            return
        if isinstance(old, _Link) and old.target.resolved == new.target.resolved:
            return
        if new.target.is_directory:
            merged = self._real_directory(parent, name)
            if merged is not None:
                for child, target in sorted(self._list(new.target.resolved).items()):
                    link = _Link(new.package, new.path + b"/" + child, target)
                    self._merge(merged, child, where + b"/" + child, link)
                return
        self._conflicts.setdefault(where, set()).update({_owner(old), new.package})

    def _real_directory(self, parent: _Directory, name: bytes) -> _Directory | None:
        """The directory of this name, made from the link that stood there; None if a file does."""
        match parent.children.get(name):
            case _Directory() as found:
                return found
            case _Link(target=Target(is_directory=True)) as link:
                expanded = _Directory(
                    {
                        child: _Link(link.package, link.path + b"/" + child, target)
                        for child, target in self._list(link.target.resolved).items()
                    }
                )
            case None:
                expanded = _Directory()
            case _:
                return None
        parent.children[name] = expanded
        return expanded


def _entries(here: _Directory, prefix: bytes) -> Iterator[FileEntry]:
    for name, node in sorted(here.children.items()):
        path = prefix + name
        match node:
            case _Link():
                yield symlink(path, node.path)
            case _Directory():
                yield node.entry or directory(path)
                yield from _entries(node, path + b"/")
            case FileEntry():
                yield node


def _is_directory(node: _Node | None) -> bool:
    match node:
        case _Directory() | _Link(target=Target(is_directory=True)):
            return True
        case _:
            return False


def _is_symlink(node: _Node | None) -> bool:
    return isinstance(node, FileEntry) and node.kind is Kind.SYMLINK


def _owner(node: _Node) -> str:
    match node:
        case _Link():
            return node.package
        case FileEntry():
            return "spec.files"
        case _Directory():
            # Everything below came from packages in turn: the first names one of them.
            owners = {_owner(child) for child in node.children.values()}
            return min(owners) if owners else "the image itself"


def _in_the_way(entry: FileEntry, where: bytes, node: _Node) -> Terminal:
    return Terminal(
        Reason.FILE_CONFLICT,
        f"{_shown(entry.name)} cannot be made: {_owner(node)} has {_shown(where)}, "
        "which is no directory",
        hint="Choose another path, or leave that out",
    )


def _listed(owners: set[str]) -> str:
    *others, last = sorted(owners)
    return f"{', '.join(others)} and {last}" if others else last


def _shown(path: bytes) -> str:
    return "/" + path.decode("utf-8", "backslashreplace")
