"""The root file system: merges, conflicts, and what every image has."""

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from niximage.errors import Reason, Terminal
from niximage.image.entries import FileEntry, Kind
from niximage.image.forest import Target
from niximage.image.root import Root, RootPackage, build_root
from unit.image.closures import store_path

# A tree: names to trees, or to where a file's links end; "" is the file itself.
Tree = Mapping[str, "Tree | str"]

OWN = {b"tmp", b"etc", b"etc/passwd", b"etc/group", b"etc/nsswitch.conf"}


class Packages:
    """A store of trees, listed as the real one is."""

    def __init__(self, **trees: Tree) -> None:
        self._trees = {store_path(name).encode(): tree for name, tree in trees.items()}
        self.packages = [RootPackage(name, store_path(name)) for name in trees]

    def list(self, path: bytes) -> Mapping[bytes, Target]:
        top = path[: len(b"/nix/store/") + 32]
        (root,) = (known for known in self._trees if known.startswith(top))
        tree: Tree | str = self._trees[root]
        for part in path[len(root) :].split(b"/")[1:]:
            assert not isinstance(tree, str)
            tree = tree[part.decode()]
        assert not isinstance(tree, str)
        return {
            name.encode(): Target(
                child.encode() if isinstance(child, str) and child else path + b"/" + name.encode(),
                is_directory=not isinstance(child, str),
            )
            for name, child in tree.items()
        }

    def build(self) -> Root:
        return build_root(self.packages, self.list)

    def links(self) -> dict[str, str]:
        """The links into packages: name to package and path below it."""
        return {
            entry.name.decode(): entry.target.decode()[len("/nix/store/") + 33 :]
            for entry in self.build().entries
            if entry.kind is Kind.SYMLINK
        }


def entry(root: Root, name: bytes) -> FileEntry | None:
    return next((each for each in root.entries if each.name == name), None)


def test_a_directory_of_one_package_is_one_link() -> None:
    assert Packages(a={"share": {"doc": {"x": "", "y": ""}}}).links() == {
        "share/doc": "a/share/doc"
    }


def test_directories_at_the_top_are_real_ones() -> None:
    root = Packages(a={"etc": {"conf": ""}}).build()
    found = entry(root, b"etc")
    assert found is not None
    assert (found.kind, found.mode) == (Kind.DIRECTORY, 0o755)


def test_directories_of_several_packages_merge_at_any_depth() -> None:
    packages = Packages(
        a={"share": {"man": {"man1": {"a.1": ""}, "man5": {"a.5": ""}}}},
        b={"share": {"man": {"man1": {"b.1": ""}}, "b": {"x": ""}}},
    )
    assert packages.links() == {
        "share/b": "b/share/b",
        "share/man/man1/a.1": "a/share/man/man1/a.1",
        "share/man/man1/b.1": "b/share/man/man1/b.1",
        "share/man/man5": "a/share/man/man5",
    }


def test_files_of_one_name_are_a_conflict_that_names_both_packages() -> None:
    packages = Packages(
        loud={"bin": {"greet": "", "x": ""}}, soft={"bin": {"greet": "", "x": "", "y": ""}}
    )
    with pytest.raises(Terminal) as caught:
        packages.build()
    assert caught.value.reason is Reason.FILE_CONFLICT
    assert caught.value.message == (
        "packages provide different files of one name:\n"
        "/bin/greet: loud and soft\n"
        "/bin/x: loud and soft"
    )


@pytest.mark.parametrize("other", [{"x": ""}, {}])
def test_a_file_and_a_directory_of_one_name_are_a_conflict(other: Tree) -> None:
    with pytest.raises(Terminal, match="/share/thing"):
        Packages(a={"share": {"thing": ""}}, b={"share": {"thing": other}}).build()


def test_many_conflicts_are_counted() -> None:
    tree: Tree = {"bin": {f"p{i}": "" for i in range(25)}}
    with pytest.raises(Terminal, match="and 15 more"):
        Packages(a=tree, b=tree).build()


def test_links_that_end_at_one_file_are_no_conflict() -> None:
    packages = Packages(
        a={"bin": {"sh": "/nix/store/x/bin/bash"}}, b={"bin": {"sh": "/nix/store/x/bin/bash"}}
    )
    assert set(packages.links()) == {"bin/sh"}


def test_one_package_asked_for_twice_is_no_conflict() -> None:
    packages = Packages(a={"bin": {"x": ""}})
    packages.packages.append(RootPackage("alias", store_path("a")))
    assert packages.links() == {"bin/x": "a/bin/x"}


@pytest.mark.parametrize("name", ["nix", "proc", "sys", "dev", "tmp"])
def test_what_is_the_image_s_own_is_refused(name: str) -> None:
    with pytest.raises(Terminal, match=f"a provides /{name}"):
        Packages(a={name: {"x": ""}}).build()


def test_nix_s_own_bookkeeping_is_not_linked() -> None:
    assert Packages(a={"nix-support": {"x": ""}}, b={"nix-support": {"x": ""}}).links() == {}


def test_an_image_has_a_tmp_for_all_and_names_for_users() -> None:
    root = Packages(a={}).build()
    assert {each.name for each in root.entries} == OWN
    tmp, passwd = entry(root, b"tmp"), entry(root, b"etc/passwd")
    assert tmp is not None
    assert passwd is not None
    assert (tmp.kind, tmp.mode) == (Kind.DIRECTORY, 0o1777)
    assert passwd.mode == 0o644
    assert passwd.content.startswith(b"root:x:0:0:")


def test_a_package_s_passwd_wins() -> None:
    assert Packages(a={"etc": {"passwd": ""}}).links() == {"etc/passwd": "a/etc/passwd"}


def test_a_package_s_bash_is_the_shell() -> None:
    assert Packages(a={"bin": {"bash": ""}}).links() == {
        "bin/bash": "a/bin/bash",
        "bin/sh": "a/bin/bash",
    }


def test_a_package_s_own_sh_stays() -> None:
    packages = Packages(a={"bin": {"bash": ""}}, b={"bin": {"sh": ""}})
    assert packages.links()["bin/sh"] == "b/bin/sh"


def test_env_is_where_scripts_look_for_it() -> None:
    assert Packages(a={"bin": {"env": ""}}).links()["usr/bin/env"] == "a/bin/env"


def test_without_a_shell_there_is_none() -> None:
    root = Packages(a={"bin": {"hello": ""}}).build()
    assert entry(root, b"bin/sh") is None
    assert entry(root, b"usr") is None


def test_a_ca_bundle_is_found_and_has_its_other_name() -> None:
    packages = Packages(cacert={"etc": {"ssl": {"certs": {"ca-bundle.crt": ""}}}})
    root = packages.build()
    assert root.ca_bundle == "/etc/ssl/certs/ca-bundle.crt"
    bundle = "cacert/etc/ssl/certs/ca-bundle.crt"
    assert packages.links() == {
        "etc/ssl/certs/ca-bundle.crt": bundle,
        "etc/ssl/certs/ca-certificates.crt": bundle,
    }


def test_without_a_ca_bundle_none_is_named() -> None:
    assert Packages(a={}).build().ca_bundle == ""


NAMES = st.sampled_from(["bin", "share", "x", "y"])
TREES = st.recursive(
    st.dictionaries(NAMES, st.just(""), max_size=3),
    lambda inner: st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(TREES, min_size=1, max_size=3), st.randoms(use_true_random=False))
def test_no_file_is_dropped_and_order_does_not_matter(trees: list[Tree], chance: object) -> None:
    packages = Packages(**{f"p{i}": tree for i, tree in enumerate(trees)})

    def outcome() -> object:
        try:
            return packages.build().entries
        except Terminal as error:
            return error.message

    first = outcome()
    chance.shuffle(packages.packages)  # type: ignore[attr-defined]
    assert outcome() == first
    if isinstance(first, str):
        return
    assert isinstance(first, tuple)
    names = [each.name for each in first]
    assert len(names) == len(set(names))
    for i, tree in enumerate(trees):
        for path in files(tree):
            # The file is there by a link of its own, or below a link to a directory.
            parts = path.split("/")
            prefixes = {"/".join(parts[:n]).encode() for n in range(1, len(parts) + 1)}
            links = [e for e in first if e.kind is Kind.SYMLINK and e.name in prefixes]
            assert len(links) == 1, (i, path)


def files(tree: Tree, prefix: str = "") -> list[str]:
    found = []
    for name, child in tree.items():
        found += [prefix + name] if isinstance(child, str) else files(child, f"{prefix}{name}/")
    return found
