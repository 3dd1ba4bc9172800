"""Layers over each other: what is there in the end."""

import pytest

from niximage.errors import Terminal
from niximage.image.entries import Kind
from niximage.image.tree import Listed, Node, Tree, tidy


def at(name: str, kind: Kind = Kind.FILE) -> Listed:
    return Listed(name.encode(), kind, 0o644)


def link(name: str, target: str) -> Listed:
    return Listed(name.encode(), Kind.SYMLINK, 0o777, target=target.encode())


def tree(*layers: list[Listed]) -> Tree:
    made = Tree()
    for number, layer in enumerate(layers):
        made.add_layer(number, layer)
    return made


def names(made: Tree) -> set[str]:
    def walk(node: Node, prefix: bytes) -> set[str]:
        found = set()
        for name, child in node.children.items():
            found |= {(prefix + name).decode()} | walk(child, prefix + name + b"/")
        return found

    return walk(made.root, b"")


def test_a_file_makes_its_directories() -> None:
    assert names(tree([at("a/b/c")])) == {"a", "a/b", "a/b/c"}


def test_a_later_layer_replaces_and_adds() -> None:
    made = tree([at("a/b"), at("c")], [at("a", Kind.FILE), at("c/d")])
    assert names(made) == {"a", "c", "c/d"}


def test_a_directory_that_comes_again_keeps_its_children_and_takes_the_mode() -> None:
    made = tree([at("a/b")], [Listed(b"a", Kind.DIRECTORY, 0o700, 5, 6)])
    node = made.look(b"a")
    assert node is not None
    assert (node.mode, node.uid, node.gid) == (0o700, 5, 6)
    assert names(made) == {"a", "a/b"}


@pytest.mark.parametrize(
    ("upper", "left"),
    [
        ([at("a/.wh.b")], {"a", "a/c", "a/d", "a/d/e"}),
        ([at(".wh.a")], set()),
        ([at("a/.wh..wh..opq")], {"a"}),
        ([at("a/.wh..wh..opq"), at("a/new")], {"a", "a/new"}),
        ([at("a/new"), at("a/.wh..wh..opq")], {"a", "a/new"}),
        ([at("a/d/new"), at("a/.wh..wh..opq")], {"a", "a/d", "a/d/new"}),
        ([at("a/b"), at("a/.wh.b")], {"a", "a/b", "a/c", "a/d", "a/d/e"}),
        ([at("a/.wh.absent"), at("x/.wh.y")], {"a", "a/b", "a/c", "a/d", "a/d/e"}),
        ([at(".wh..wh.plnk/1"), at("a/.wh..wh.aufs")], None),
    ],
)
def test_whiteouts_take_away_what_lower_layers_have(
    upper: list[Listed], left: set[str] | None
) -> None:
    made = tree([at("a/b"), at("a/c"), at("a/d/e")], upper)
    if left is None:
        assert {"a/b", "a/c", "a/d/e"} <= names(made)
    else:
        assert names(made) == left


def test_a_name_below_a_link_lands_where_it_leads() -> None:
    made = tree([at("usr/bin", Kind.DIRECTORY), link("bin", "usr/bin")], [at("bin/new")])
    assert {"usr/bin/new", "bin"} <= names(made)
    assert "bin/new" not in names(made)


def test_where_a_link_leads_nowhere_its_target_becomes_a_directory() -> None:
    made = tree([link("bin", "../opt/bin")], [at("bin/new")])
    assert names(made) == {"bin", "opt", "opt/bin", "opt/bin/new"}


def test_a_circle_of_links_is_replaced_by_the_directory() -> None:
    assert "a/new" in names(tree([link("a", "b"), link("b", "a")], [at("a/new")]))


def test_following_stops_at_circles_and_ends() -> None:
    made = tree([link("a", "b"), link("b", "a"), link("c", "/d/../e"), at("e"), at("d/x")])
    assert made.follow(b"a") is None
    assert made.follow(b"absent") is None
    found = made.follow(b"c")
    assert found is not None
    assert found[0] == b"e"
    assert made.follow(b"e/below-a-file") is None


def test_of_the_store_only_the_tops_are_kept_until_they_are_asked_for() -> None:
    asked: list[bytes] = []

    def opener(name: bytes) -> Node:
        asked.append(name)
        return Node(Kind.DIRECTORY, 0o555, children={b"bin": Node(Kind.DIRECTORY, 0o555)})

    made = Tree(opener)
    made.add_layer(0, [at("nix/store/x/bin/tool"), at("nix/store/y", Kind.FILE)])
    made.add_store_path(1, b"z")
    assert made.store_paths() == {"x", "y", "z"}
    assert asked == []
    assert made.follow(b"nix/store/x/bin") is not None
    assert made.follow(b"nix/store/x/lib") is None
    assert made.follow(b"nix/store/y") is not None
    assert asked == [b"x"]


def test_a_store_path_that_was_taken_away_is_not_there() -> None:
    made = tree([at("nix/store/x/bin/tool")], [at("nix/store/.wh.x")])
    assert made.store_paths() == frozenset()


@pytest.mark.parametrize(
    ("name", "tidied"),
    [(b"./", b""), (b"/a//b/", b"a/b"), (b"./a/./b", b"a/b"), (b".a", b".a")],
)
def test_names_are_tidied(name: bytes, tidied: bytes) -> None:
    assert tidy(name) == tidied


@pytest.mark.parametrize("name", [b"../a", b"a/../../b", b"a/" * 600, b"a\0b"])
def test_names_that_lead_outside_are_refused(name: bytes) -> None:
    with pytest.raises(Terminal):
        tidy(name)
