"""An image's root over its base's: nothing of the base is lost but by a file of the same name."""

from collections.abc import Mapping

import pytest

from niximage.errors import Reason, Terminal
from niximage.image.entries import FileEntry, Kind, directory, file, symlink
from niximage.image.forest import Target
from niximage.image.onto import put_onto
from niximage.image.tree import Listed, Node, Tree

A = b"/nix/store/a"
B = b"/nix/store/b"

# The image's own store paths: directories with their names.
STORE: dict[bytes, dict[bytes, bool]] = {
    A: {b"bin": True, b"share": True},
    A + b"/bin": {b"tool": False},
    A + b"/share": {b"man": True},
    A + b"/share/man": {b"man1": True, b"index": False},
    A + b"/share/man/man1": {b"tool.1": False},
}


def listing(path: bytes) -> Mapping[bytes, Target]:
    return {
        name: Target(path + b"/" + name, is_directory=is_directory)
        for name, is_directory in STORE.get(path, {}).items()
    }


def base(*entries: Listed) -> Tree:
    """A base whose store path `b` has share/man/other and bin/old."""

    def opener(name: bytes) -> Node:
        assert name == b"b"
        inside = Tree()
        inside.add_layer(
            0, [at("share/man/other", Kind.FILE), at("share/man/man1"), at("bin/old", Kind.FILE)]
        )
        return inside.root

    tree = Tree(opener)
    tree.add_layer(0, entries)
    return tree


def at(name: str, kind: Kind = Kind.DIRECTORY, mode: int = 0o755, uid: int = 0) -> Listed:
    return Listed(name.encode(), kind, mode, uid, uid)


def link(name: str, target: str) -> Listed:
    return Listed(name.encode(), Kind.SYMLINK, 0o777, target=target.encode())


def onto(tree: Tree, *entries: FileEntry, **options: frozenset[bytes]) -> dict[str, str]:
    """The resulting entries: `/` for directories with their mode, where links lead, or `file`."""
    shown = {}
    for entry in put_onto(entries, tree, listing, **options):
        match entry.kind:
            case Kind.DIRECTORY:
                shown[entry.name.decode()] = f"/ {entry.mode:o} {entry.uid}"
            case Kind.SYMLINK:
                shown[entry.name.decode()] = entry.target.decode()
            case Kind.FILE:
                shown[entry.name.decode()] = "file"
    return shown


BIN = (directory(b"bin"), symlink(b"bin/tool", A + b"/bin/tool"))
MAN = (directory(b"share"), symlink(b"share/man", A + b"/share/man"))


def test_over_an_empty_base_nothing_changes() -> None:
    assert onto(base(), *BIN) == {"bin": "/ 755 0", "bin/tool": "/nix/store/a/bin/tool"}


def test_entries_go_where_the_links_of_the_base_lead() -> None:
    tree = base(link("bin", "usr/bin"), at("usr", mode=0o751), at("usr/bin", mode=0o711, uid=7))
    assert onto(tree, *BIN) == {
        "usr": "/ 751 0",
        "usr/bin": "/ 711 7",
        "usr/bin/tool": "/nix/store/a/bin/tool",
    }


@pytest.mark.parametrize("target", ["/usr/bin", "usr/../usr/./bin", "../../usr/bin", "two"])
def test_links_of_all_kinds_are_followed(target: str) -> None:
    tree = base(link("bin", target), link("two", "three"), link("three", "usr/bin"), at("usr/bin"))
    assert "usr/bin/tool" in onto(tree, *BIN)


@pytest.mark.parametrize("target", ["nowhere", "bin", "two"])
def test_a_link_that_leads_nowhere_gives_way(target: str) -> None:
    tree = base(link("bin", target), link("two", "bin"))
    assert onto(tree, *BIN)["bin"] == "/ 755 0"


def test_directories_keep_the_mode_of_the_base_unless_another_was_asked_for() -> None:
    def tree() -> Tree:
        return base(at("tmp", mode=0o700), at("srv", mode=0o700))

    ours = (directory(b"srv", 0o770, uid=5), directory(b"tmp", 0o1777))
    assert onto(tree(), *ours) == {}
    assert onto(tree(), *ours, asked=frozenset({b"srv"})) == {"srv": "/ 770 5"}


def test_defaults_give_way_to_what_the_base_has() -> None:
    passwd = file(b"etc/passwd", b"ours")
    shell = symlink(b"bin/sh", A + b"/bin/tool")
    entries = (directory(b"bin"), shell, directory(b"etc"), passwd)
    defaults = frozenset({b"bin/sh", b"etc/passwd"})
    has_all = base(link("bin", "usr/bin"), at("usr/bin/sh", Kind.FILE), at("etc/passwd", Kind.FILE))
    assert onto(has_all, *entries, defaults=defaults) == {}
    assert set(onto(base(), *entries, defaults=defaults)) == {"bin", "bin/sh", "etc", "etc/passwd"}


def test_a_file_replaces_a_file_whatever_the_two_are() -> None:
    for below in (at("bin/tool", Kind.FILE), link("bin/tool", "/etc/alternatives/tool")):
        assert onto(base(below), *BIN)["bin/tool"] == "/nix/store/a/bin/tool"


def test_what_is_the_same_is_left_out() -> None:
    tree = base(at("bin"), link("bin/tool", "/nix/store/a/bin/tool"))
    assert onto(tree, *BIN) == {}


def test_a_link_to_a_directory_becomes_links_into_it_where_the_base_has_a_directory() -> None:
    tree = base(at("share/man/man1/base.1", Kind.FILE))
    assert onto(tree, *MAN) == {
        "share": "/ 755 0",
        "share/man": "/ 755 0",
        "share/man/index": "/nix/store/a/share/man/index",
        "share/man/man1": "/ 755 0",
        "share/man/man1/tool.1": "/nix/store/a/share/man/man1/tool.1",
    }


def test_a_link_of_the_base_into_its_store_is_taken_apart() -> None:
    tree = base(at("share"), link("share/man", "/nix/store/b/share/man"), at("nix/store/b"))
    assert onto(tree, *MAN) == {
        "share": "/ 755 0",
        "share/man": "/ 755 0",
        "share/man/index": "/nix/store/a/share/man/index",
        "share/man/man1": "/ 755 0",
        "share/man/man1/tool.1": "/nix/store/a/share/man/man1/tool.1",
        "share/man/other": "/nix/store/b/share/man/other",
    }


@pytest.mark.parametrize(
    ("below", "entries", "words"),
    [
        ([at("bin", Kind.FILE)], BIN, "/bin: a file in the base, a directory in the image"),
        (
            [at("bin/tool/x")],
            BIN,
            "/bin/tool: a directory in the base, a file in the image (/nix/store/a/bin/tool)",
        ),
        (
            [link("bin/tool", "/opt"), at("opt")],
            BIN,
            "/bin/tool: a directory in the base, a file in the image (/nix/store/a/bin/tool)",
        ),
        (
            [at("share/man", Kind.FILE)],
            MAN,
            "/share/man: a file in the base, a directory in the image (/nix/store/a/share/man)",
        ),
        (
            [link("bin", "usr/bin"), at("usr/bin")],
            (*BIN, directory(b"usr"), directory(b"usr/bin"), file(b"usr/bin/tool", b"")),
            "/usr/bin/tool: two files of the image, by way of a link",
        ),
        ([link("nix", "opt/nix"), at("opt/nix")], BIN, "/nix is no directory in the base"),
    ],
)
def test_what_cannot_be_merged_is_told(
    below: list[Listed], entries: tuple[FileEntry, ...], words: str
) -> None:
    with pytest.raises(Terminal) as caught:
        onto(base(*below), *entries)
    assert caught.value.reason is Reason.FILE_CONFLICT
    assert words in caught.value.message.splitlines()


def test_many_conflicts_are_told_at_once_and_bounded() -> None:
    tree = base(*(at(f"bin/{n}/x") for n in range(30)))
    with pytest.raises(Terminal) as caught:
        onto(tree, directory(b"bin"), *(file(b"bin/%d" % n, b"") for n in range(30)))
    assert caught.value.message.count("a directory in the base") == 10
    assert caught.value.message.endswith("and 20 more")


def test_nothing_is_put_below_a_conflict() -> None:
    tree = base(at("etc", Kind.FILE))
    with pytest.raises(Terminal) as caught:
        onto(tree, directory(b"etc"), directory(b"etc/a"), file(b"etc/a/b", b""))
    assert caught.value.message.count("\n") == 1
