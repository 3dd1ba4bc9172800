"""Several packages merged into one tree of links.

Directories merge with directories, at any depth; a part of the tree that one package alone
provides is a single link to it. Two packages that provide different files under one name are
a conflict, told for all names at once: nothing is dropped silently.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from niximage.errors import Reason, Terminal
from niximage.image.entries import FileEntry, directory, symlink

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
    """A part of the tree that several packages, or the image itself, put things into."""

    children: "dict[bytes, _Link | _Directory | FileEntry]" = field(default_factory=dict)


class Forest:
    """A tree of links that grows by packages and by the image's own entries.

    Directories at the top are always real ones: container runtimes put `/etc/hosts` and
    mounts there, and following a link they would write into the store.
    """

    def __init__(self, list_directory: Lister) -> None:
        self._list = list_directory
        self._root = _Directory()
        self._conflicts: list[str] = []
        self._merged = 0

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

    def add_missing(self, name: bytes, entry: FileEntry) -> bool:
        """Put in an entry of the image's own, unless a package provides something there.

        Returns:
            Whether it was put in.
        """
        *parents, last = name.split(b"/")
        here = self._root
        for parent in parents:
            below = self._real_directory(here, parent)
            if below is None:
                return False
            here = below
        return here.children.setdefault(last, entry) is entry

    def find(self, name: bytes) -> bytes | None:
        """Where a package's file or directory under this name lies in the store."""
        node: _Link | _Directory | FileEntry | None = self._root
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
        return node.path if isinstance(node, _Link) else None

    def entries(self) -> Iterator[FileEntry]:
        """The tree, parents first, each directory by its names' bytes.

        Raises:
            Terminal: packages provide different files under one name.
        """
        if self._conflicts:
            shown = sorted(self._conflicts)[:CONFLICTS_SHOWN]
            hidden = len(self._conflicts) - len(shown)
            more = [f"and {hidden} more"] if hidden else []
            raise Terminal(
                Reason.FILE_CONFLICT,
                "packages provide different files of one name:\n" + "\n".join(shown + more),
                hint="Leave one of them out, or select outputs that do not collide with ^",
            )
        yield from _entries(self._root, b"")

    def _merge(self, parent: _Directory, name: bytes, where: bytes, new: _Link) -> None:
        self._merged += 1
        if self._merged > MERGE_LIMIT or where.count(b"/") > DEPTH_LIMIT:
            raise Terminal(
                Reason.FILE_CONFLICT,
                f"the directories of {new.package} and other packages cannot be merged: "
                f"too deep or too many at /{_shown(where)[:200]}",
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
        owners = sorted([_owner(old), new.package])
        self._conflicts.append(f"/{_shown(where)}: {' and '.join(owners)}")

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
                yield directory(path)
                yield from _entries(node, path + b"/")
            case FileEntry():
                yield node


def _owner(node: _Link | _Directory | FileEntry) -> str:
    match node:
        case _Link():
            return node.package
        case FileEntry():
            return "the image itself"
        case _Directory():
            # Everything below came from packages in turn: the first names one of them.
            owners: Sequence[str] = sorted({_owner(child) for child in node.children.values()})
            return owners[0] if owners else "the image itself"


def _shown(path: bytes) -> str:
    return path.decode("utf-8", "backslashreplace")
