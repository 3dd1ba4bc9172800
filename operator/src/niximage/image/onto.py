"""An image's own root file system put onto that of its base, without breaking either.

A layer's entry replaces what lies below it. So `bin/` where the base has a link `/bin` to
`usr/bin`, or a link where the base has a directory, would take away all that is there. Here
each entry goes where the base's links lead; where both have a directory the two are merged;
where one has a directory and the other a file it is a conflict, told for all names at once.
A file over a file is what an image is based on another for, and wins.
"""

from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import Final

from niximage.errors import Reason, Terminal
from niximage.image.closure import STORE
from niximage.image.entries import PARENT_MODE, FileEntry, Kind, directory, symlink
from niximage.image.forest import Lister, Target
from niximage.image.tree import STORE_NAME, Node, Tree

CONFLICTS_SHOWN: Final = 10
_STORE: Final = STORE.encode()


def put_onto(
    entries: Iterable[FileEntry],
    tree: Tree,
    list_directory: Lister,
    *,
    defaults: Collection[bytes] = (),
    asked: Collection[bytes] = (),
) -> tuple[FileEntry, ...]:
    """The entries as the layer over a base has them.

    Args:
        entries: of the image's own root, parents first.
        tree: the base's files; it is changed on the way, and of no use afterwards.
        list_directory: looks into the image's own store paths.
        defaults: the names of entries that give way to whatever the base has there.
        asked: the names of directories whose mode and owner the user asked for.

    Returns:
        Entries with all their parents, parents first, each directory by its names' bytes. The
        base's own directories among them keep their mode and owner, but for those asked for
        and for what lies in /nix, which is Nix' own.

    Raises:
        Terminal: the base has a file where the image has a directory, or the other way round.
    """
    for name in (b"nix", STORE_NAME):
        found = tree.look(name)
        if found is not None and found.kind is not Kind.DIRECTORY:
            raise Terminal(
                Reason.FILE_CONFLICT,
                f"/{name.decode()} is no directory in the base",
                hint="Choose a base without one, or one that was made with Nix",
            )
    merge = _Merge(tree, list_directory, frozenset(defaults), frozenset(asked))
    for entry in entries:
        merge.add(entry)
    return merge.finish()


class _Merge:
    def __init__(
        self,
        tree: Tree,
        list_directory: Lister,
        defaults: frozenset[bytes],
        asked: frozenset[bytes],
    ) -> None:
        self._tree = tree
        self._list = list_directory
        self._defaults = defaults
        self._asked = asked
        self._out: dict[bytes, FileEntry] = {}
        # Where each of the image's directories really is; None below a conflict.
        self._moved: dict[bytes, bytes | None] = {b"": b""}
        self._kept: set[bytes] = set()  # links that repeat what the base had
        self._conflicts: list[str] = []

    def add(self, entry: FileEntry) -> None:
        parent, _, last = entry.name.rpartition(b"/")
        real = self._moved[parent]
        placed = None
        if real is not None:
            moved = replace(entry, name=_join(real, last))
            if entry.name in self._defaults and self._has_own(moved):
                return
            asked = entry.name in self._asked or entry.name.startswith(b"nix/")
            placed = self._place(moved, asked=asked)
        if entry.kind is Kind.DIRECTORY:
            self._moved[entry.name] = placed

    def finish(self) -> tuple[FileEntry, ...]:
        if self._conflicts:
            shown = sorted(self._conflicts)[:CONFLICTS_SHOWN]
            hidden = len(self._conflicts) - len(shown)
            more = [f"and {hidden} more"] if hidden else []
            raise Terminal(
                Reason.FILE_CONFLICT,
                "the base and the packages do not go together:\n" + "\n".join(shown + more),
                hint="Leave the package out, select another of its outputs with ^, "
                "or choose another base",
            )
        for name in list(self._out):
            while (name := name.rpartition(b"/")[0]) and name not in self._out:
                self._out[name] = self._parent(name)
        return tuple(self._out[name] for name in sorted(self._out, key=lambda n: n.split(b"/")))

    def _parent(self, name: bytes) -> FileEntry:
        """A directory that is there for what is in it: as the base has it, if it has."""
        node = self._tree.look(name)
        if node is None:
            return directory(name)
        return directory(name, node.mode, uid=node.uid, gid=node.gid)

    def _has_own(self, entry: FileEntry) -> bool:
        """Whether the base has something here that a mere default must leave alone."""
        found = self._tree.look(entry.name)
        # Where the base's content is known, the image's has all of it, and more.
        return found is not None and (not found.content or found.content == entry.content)

    def _place(self, entry: FileEntry, *, asked: bool = False) -> bytes | None:
        """Put an entry in, and say which directory it became, if any."""
        match entry.kind:
            case Kind.DIRECTORY:
                return self._directory(entry, asked=asked)
            case Kind.SYMLINK:
                return self._link(entry)
            case Kind.FILE:
                self._leaf(entry)
                return None

    def _directory(self, entry: FileEntry, *, asked: bool) -> bytes | None:
        real = self._opened(entry.name)
        if real is None:
            self._conflict(entry, "a directory")
            return None
        wish = replace(entry, name=real)
        node = self._tree.look(real)
        if node is None:
            self._put(wish)
        elif asked and (entry.mode, entry.uid, entry.gid) != (node.mode, node.uid, node.gid):
            self._out[real] = wish
        return real

    def _link(self, entry: FileEntry) -> bytes | None:
        found = self._tree.look(entry.name)
        if found is None:
            self._put(entry)
            return None
        if found.kind is Kind.SYMLINK and found.target == entry.target:
            return None
        target = self._resolve(entry.target)
        if target is None or not target.is_directory:
            self._leaf(entry)
            return None
        led = self._tree.follow(entry.name)
        if led is None and found.kind is Kind.SYMLINK:
            self._put(entry)  # the base's link led nowhere
            return None
        real = self._opened(entry.name)
        if real is None:
            self._conflict(entry, "a directory")
            return None
        for name in sorted(self._list(target.resolved)):
            self._place(symlink(_join(real, name), entry.target + b"/" + name))
        return real

    def _leaf(self, entry: FileEntry) -> None:
        """A file, or what is as good as one: it replaces anything but a directory."""
        led = self._tree.follow(entry.name)
        if led is not None and led[1].kind is Kind.DIRECTORY:
            self._conflict(entry, "a file")
        else:
            self._put(entry)

    def _put(self, entry: FileEntry, *, of_base: bool = False) -> None:
        """Put an entry where nothing of the base is in its way; a name of the image's once only."""
        before = self._out.get(entry.name)
        directories = before is not None and before.kind is Kind.DIRECTORY is entry.kind
        if before not in {None, entry} and not directories and entry.name not in self._kept:
            self._conflicts.append(
                f"/{_shown(entry.name)}: two files of the image, by way of a link"
            )
        self._out[entry.name] = entry
        if of_base:
            self._kept.add(entry.name)
        else:
            self._kept.discard(entry.name)

    def _opened(self, name: bytes) -> bytes | None:
        """The real directory behind a name, made where the base has none; None if a file is."""
        found = self._tree.look(name)
        if found is None or (found.kind is Kind.DIRECTORY):
            return name
        led = self._tree.follow(name)
        if led is None:
            if found.kind is not Kind.SYMLINK:
                return None
            self._tree.replace(name, Node(Kind.DIRECTORY, PARENT_MODE))
            self._put(directory(name))
            return name
        real, node = led
        if node.kind is not Kind.DIRECTORY:
            return None
        if not _in_store(real):
            return real
        # The store's directories are not to be written to: here a real one takes over, with a
        # link to each thing that was seen through the one link before.
        self._put(directory(name))
        opened = Node(Kind.DIRECTORY, PARENT_MODE)
        self._tree.replace(name, opened)
        for child in sorted(node.children):
            link = symlink(_join(name, child), b"/" + real + b"/" + child)
            self._put(link, of_base=True)
            opened.children[child] = Node(Kind.SYMLINK, link.mode, target=link.target)
        return name

    def _resolve(self, target: bytes) -> Target | None:
        """What a link of the image leads to in the image's own store paths."""
        if not target.startswith(_STORE):
            return None
        top, *parts = target[len(_STORE) :].split(b"/")
        here = Target(_STORE + top, is_directory=True)
        for part in parts:
            found = self._list(here.resolved).get(part)
            if found is None:
                return None
            here = found
        return here

    def _conflict(self, entry: FileEntry, what: str) -> None:
        led = self._tree.follow(entry.name)
        other = "a directory" if led and led[1].kind is Kind.DIRECTORY else "a file"
        origin = f" ({_shown(entry.target)})" if entry.target else ""
        self._conflicts.append(
            f"/{_shown(entry.name)}: {other} in the base, {what} in the image{origin}"
        )


def _in_store(name: bytes) -> bool:
    return name == STORE_NAME or name.startswith(STORE_NAME + b"/")


def _join(parent: bytes, name: bytes) -> bytes:
    return parent + b"/" + name if parent else name


def _shown(name: bytes) -> str:
    return name.decode("utf-8", "backslashreplace")
