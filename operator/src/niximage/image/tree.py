"""What lies in an image that was made elsewhere: a tree of names, built up layer by layer.

Layers are applied as runtimes apply them: later ones replace, whiteouts remove, and a name
below a link lands where the link leads. Of a store path only its top is kept; what is below
it is asked for where a link leads there, for that is rare and a store is large.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from niximage.errors import Reason, Terminal
from niximage.image.entries import PARENT_MODE, WHITEOUT, Kind

NAMES_LIMIT: Final = 1_000_000  # outside the store, in all layers: ten times a large desktop's

STORE_NAME: Final = b"nix/store"

_LINKS_LIMIT: Final = 40  # as the kernel's
_DEPTH_LIMIT: Final = 512  # parts of a name: no program opens deeper paths
_STORE_DEPTH: Final = 3  # parts of nix/store/<name>
_OPAQUE: Final = b".wh..wh..opq"
_AUFS: Final = WHITEOUT * 2  # AUFS' own bookkeeping, of no meaning in a layer


@dataclass(frozen=True, slots=True)
class Listed:
    """One entry of a layer, as a tar names it.

    Attributes:
        name: relative, tidied by `tidy`.
        kind: what it is; devices and the like count as files.
        mode: permission bits.
        uid: the owner.
        gid: the group.
        target: where a symbolic link points.
        content: the bytes of a file that was asked for.
    """

    name: bytes
    kind: Kind
    mode: int
    uid: int = 0
    gid: int = 0
    target: bytes = b""
    content: bytes = b""


@dataclass(slots=True)
class Node:
    """One name in the tree.

    Attributes:
        layer: the number of the layer that had it last.
        is_closed: whether it is a store path of which only the name is known.
    """

    kind: Kind
    mode: int
    uid: int = 0
    gid: int = 0
    target: bytes = b""
    content: bytes = b""
    layer: int = 0
    is_closed: bool = False
    children: "dict[bytes, Node]" = field(default_factory=dict)


Opener = Callable[[bytes], Node]
"""Lists the store path of a name, from the layers that have it."""


def never(name: bytes) -> Node:
    """An `Opener` for trees in which nothing leads into the store."""
    raise AssertionError(name)


class Tree:
    """The files of an image, by name."""

    def __init__(self, opener: Opener = never) -> None:
        self.root = Node(Kind.DIRECTORY, PARENT_MODE)
        self._open = opener
        self._names = 0

    def add_layer(self, number: int, entries: Iterable[Listed]) -> None:
        """Apply a layer over those below it.

        Args:
            number: the layer's, from 0 and rising.
            entries: what its tar lists, in any order.

        Raises:
            Terminal: more names than any image has.
        """
        for entry in entries:
            if not entry.name:
                self._touch(self.root, entry, number)
                continue
            *parents, last = parts = entry.name.split(b"/")
            if last.startswith(WHITEOUT):
                self._white_out(parents, last, number)
            elif parts[:2] == [b"nix", b"store"] and len(parts) > _STORE_DEPTH:
                self.add_store_path(number, parts[2])
            else:
                self._add(parents, last, entry, number)

    def add_store_path(self, number: int, name: bytes) -> None:
        """Note that a layer has a store path, whatever that is."""
        store = self._make([b"nix", b"store"], number)
        if name not in store.children:
            closed = Node(Kind.DIRECTORY, PARENT_MODE, layer=number, is_closed=True)
            store.children[name] = self._counted(closed)

    def store_paths(self) -> frozenset[str]:
        """The names of all store paths: `<hash>-<name>`."""
        found = self.look(STORE_NAME)
        names = () if found is None else found.children
        return frozenset(name.decode("utf-8", "replace") for name in names)

    def look(self, name: bytes) -> Node | None:
        """What stands at a name, no link followed; "" is the root."""
        here = self.root
        for part in name.split(b"/") if name else ():
            child = self._child(here, part)
            if child is None:
                return None
            here = child
        return here

    def follow(self, name: bytes) -> tuple[bytes, Node] | None:
        """Where a name leads, all links followed inside the image.

        Returns:
            The real name and what is there, or None if it leads nowhere.
        """
        return self._walk(name.split(b"/"))

    def replace(self, name: bytes, node: Node) -> None:
        """Put something at a name whose parent is a directory."""
        parent, _, last = name.rpartition(b"/")
        found = self.look(parent)
        assert found is not None
        found.children[last] = node

    def _child(self, parent: Node, part: bytes) -> Node | None:
        if parent.kind is not Kind.DIRECTORY:
            return None
        child = parent.children.get(part)
        if child is not None and child.is_closed:
            child = parent.children[part] = self._open(part)
        return child

    def _add(self, parents: list[bytes], last: bytes, entry: Listed, number: int) -> None:
        siblings = self._make(parents, number).children
        known = siblings.get(last)
        if known is not None and not known.is_closed and known.kind is Kind.DIRECTORY is entry.kind:
            self._touch(known, entry, number)
            return
        node = Node(
            entry.kind, entry.mode, entry.uid, entry.gid, entry.target, entry.content, number
        )
        node.is_closed = parents == [b"nix", b"store"] and entry.kind is Kind.DIRECTORY
        siblings[last] = self._counted(node)

    def _walk(self, parts: list[bytes], number: int | None = None) -> tuple[bytes, Node] | None:
        """Where a name leads; for a layer's number directories are made where there are none.

        They are made where a link points that leads nowhere, as containerd does it.
        """
        waiting = parts[::-1]
        walked: list[tuple[bytes, Node]] = []
        links = 0
        while waiting:
            part = waiting.pop()
            if part in {b"", b"."}:
                continue
            if part == b"..":
                walked = walked[:-1]
                continue
            here = walked[-1][1] if walked else self.root
            child = self._child(here, part)
            if child is not None and child.kind is Kind.SYMLINK:
                links += 1
                if links <= _LINKS_LIMIT:
                    walked = [] if child.target.startswith(b"/") else walked
                    waiting += child.target.split(b"/")[::-1]
                    continue
                child = None
            if number is not None and (child is None or child.kind is not Kind.DIRECTORY):
                made = Node(Kind.DIRECTORY, PARENT_MODE, layer=number)
                child = here.children[part] = self._counted(made)
            if child is None:
                return None
            walked.append((part, child))
        return b"/".join(part for part, _ in walked), walked[-1][1] if walked else self.root

    def _make(self, parts: list[bytes], number: int) -> Node:
        """The directory of a name, links followed, made where there is none."""
        found = self._walk(parts, number)
        assert found is not None
        return found[1]

    def _touch(self, node: Node, entry: Listed, number: int) -> None:
        if entry.kind is Kind.DIRECTORY:
            node.mode, node.uid, node.gid = entry.mode, entry.uid, entry.gid
            node.layer = number

    def _white_out(self, parents: list[bytes], last: bytes, number: int) -> None:
        found = self.follow(b"/".join(parents))
        if found is None:
            return
        below = found[1].children
        if last == _OPAQUE:
            for name in list(below):
                if not _keep(below[name], number):
                    del below[name]
        elif not last.startswith(_AUFS):
            name = last.removeprefix(WHITEOUT)
            if name in below and not _keep(below[name], number):
                del below[name]

    def _counted(self, node: Node) -> Node:
        self._names += 1
        if self._names > NAMES_LIMIT:
            raise Terminal(
                Reason.INVALID_SPEC,
                f"the base has more than {NAMES_LIMIT} files outside store paths",
                hint="Choose a smaller base",
            )
        return node


def _keep(node: Node, number: int) -> bool:
    """Drop what lower layers had; whether anything of this layer remains."""
    for name in list(node.children):
        if not _keep(node.children[name], number):
            del node.children[name]
    return node.layer == number or bool(node.children)


def tidy(name: bytes) -> bytes:
    """A name in a tar as a relative one with single slashes; "" for the root itself.

    Raises:
        Terminal: it leads outside, or deeper than any program could, or has a NUL in it.
    """
    parts = [part for part in name.split(b"/") if part not in {b"", b"."}]
    if b".." in parts or b"\0" in name or len(parts) > _DEPTH_LIMIT:
        raise Terminal(
            Reason.INVALID_SPEC,
            f"the base has a file of the name {name[:200]!r}, which no image may have",
            hint="Choose another base",
        )
    return b"/".join(parts)
