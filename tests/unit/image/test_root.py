"""The root file system: merges, conflicts, and what every image has."""

import base64
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from niximage.api.contents import ImageFile
from niximage.api.spec import Config
from niximage.errors import Reason, Terminal
from niximage.image.closure import Closure
from niximage.image.entries import FileEntry, Kind
from niximage.image.forest import Target
from niximage.image.root import Root, RootPackage, build_root
from unit.image.closures import closure, store_path

# A tree: names to trees, or to where a file's links end; "" is the file itself.
Tree = Mapping[str, "Tree | str"]

OWN = {
    b"etc",
    b"etc/group",
    b"etc/nsswitch.conf",
    b"etc/passwd",
    b"root",
    b"tmp",
    b"var",
    b"var/empty",
    b"var/tmp",
}


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

    def build(
        self,
        *files: dict[str, Any],
        registered: Closure | None = None,
        **config: Any,
    ) -> Root:
        return build_root(
            self.packages,
            self.list,
            config=Config.model_validate(config),
            files=[ImageFile.model_validate(file) for file in files],
            registered=registered,
        )

    def links(self, *files: dict[str, Any]) -> dict[str, str]:
        """The links into packages: name to package and path below it."""
        return {
            entry.name.decode(): entry.target.decode()[len("/nix/store/") + 33 :]
            for entry in self.build(*files).entries
            if entry.kind is Kind.SYMLINK and entry.target.startswith(b"/nix/store/")
        }


def entry(root: Root, name: str) -> FileEntry | None:
    return next((each for each in root.entries if each.name == name.encode()), None)


def had(root: Root, name: str) -> FileEntry:
    found = entry(root, name)
    assert found is not None
    return found


def access(root: Root, name: str) -> tuple[Kind, int, int, int]:
    """What an entry is, its mode, owner and group."""
    found = had(root, name)
    return found.kind, found.mode, found.uid, found.gid


def test_a_directory_of_one_package_is_one_link() -> None:
    assert Packages(a={"share": {"doc": {"x": "", "y": ""}}}).links() == {
        "share/doc": "a/share/doc"
    }


def test_directories_at_the_top_are_real_ones() -> None:
    root = Packages(a={"etc": {"conf": ""}}).build()
    assert access(root, "etc") == (Kind.DIRECTORY, 0o755, 0, 0)


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
    assert access(root, "tmp") == access(root, "var/tmp") == (Kind.DIRECTORY, 0o1777, 0, 0)
    assert access(root, "root") == (Kind.DIRECTORY, 0o700, 0, 0)
    assert access(root, "var/empty") == (Kind.DIRECTORY, 0o555, 0, 0)
    assert access(root, "etc/passwd") == (Kind.FILE, 0o644, 0, 0)
    assert had(root, "etc/passwd").content.startswith(b"root:x:0:0:")
    assert root.defaults == {b"etc/passwd", b"etc/group", b"etc/nsswitch.conf"}


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
    assert entry(root, "bin/sh") is None
    assert entry(root, "usr") is None


CA_PLACES = {
    "etc/pki/tls/certs/ca-bundle.crt",
    "etc/ssl/certs/ca-bundle.crt",
    "etc/ssl/certs/ca-certificates.crt",
}


@pytest.mark.parametrize("place", sorted(CA_PLACES))
def test_a_ca_bundle_is_in_all_usual_places(place: str) -> None:
    tree: Tree = {"": ""}
    for part in reversed(place.split("/")):
        tree = {part: "" if tree == {"": ""} else tree}
    packages = Packages(cacert=tree)
    assert packages.build().ca_bundle == "/" + place
    assert packages.links() == dict.fromkeys(CA_PLACES, f"cacert/{place}")


def test_a_user_s_ca_bundle_is_believed_before_a_package_s() -> None:
    packages = Packages(cacert={"etc": {"ssl": {"certs": {"ca-bundle.crt": ""}}}})
    root = packages.build({"path": "/etc/pki/tls/certs/ca-bundle.crt", "content": "mine"})
    assert root.ca_bundle == "/etc/pki/tls/certs/ca-bundle.crt"
    assert had(root, "etc/pki/tls/certs/ca-bundle.crt").content == b"mine"
    assert had(root, "etc/ssl/certs/ca-certificates.crt").target == root.ca_bundle.encode()


def test_without_a_ca_bundle_none_is_named() -> None:
    assert Packages(a={}).build().ca_bundle == ""


# Whom config.user means: name, uid, gid, home, and its lines.
USERS = {
    None: ("root", 0, 0, "/root"),
    "root": ("root", 0, 0, "/root"),
    "0:0": ("root", 0, 0, "/root"),
    "nobody": ("nobody", 65534, 65534, "/var/empty"),
    "65534": ("nobody", 65534, 65534, "/var/empty"),
    "1000": ("user", 1000, 1000, "/home/user"),
    "2000:3000": ("user", 2000, 3000, "/home/user"),
    "app": ("app", 1000, 1000, "/home/app"),
    "app:staff": ("app", 1000, 1000, "/home/app"),
    "app:0": ("app", 1000, 0, "/home/app"),
    "app:root": ("app", 1000, 0, "/home/app"),
    "5000:staff": ("user", 5000, 5000, "/home/user"),
    "root:staff": ("root", 0, 1000, "/root"),
    "2147483647": ("user", 2147483647, 2147483647, "/home/user"),
}


@pytest.mark.parametrize(("given", "meant"), USERS.items(), ids=map(str, USERS))
def test_the_user_has_entries_and_a_home(
    given: str | None, meant: tuple[str, int, int, str]
) -> None:
    root = Packages(a={}).build(user=given)
    name, uid, gid, home = meant
    lines = had(root, "etc/passwd").content.decode().splitlines()
    users = {line.split(":")[0]: line.split(":") for line in lines}
    assert len(users) == len(lines) == (2 if uid in {0, 65534} else 3)
    assert (int(users[name][2]), users[name][5]) == (uid, home)
    groups = [line.split(":") for line in had(root, "etc/group").content.decode().splitlines()]
    assert [int(number) for _, _, number, _ in groups].count(gid) == 1
    group = (given or "").partition(":")[2]
    assert group.isdigit() or not group or group in [line[0] for line in groups]
    if uid not in {0, 65534}:
        assert int(users[name][3]) == gid
        assert access(root, home[1:]) == (Kind.DIRECTORY, 0o755, uid, gid)


def test_a_user_number_that_no_kernel_takes_is_refused() -> None:
    with pytest.raises(Terminal, match="no user or group 4294967296"):
        Packages(a={}).build(user="4294967296")


PASSWD = {"path": "/etc/passwd", "content": "root:x:0:0::/:/bin/sh\napp:x:42:43::/srv:/bin/sh\n"}


@pytest.mark.parametrize("user", ["app", "42"])
def test_a_user_s_own_passwd_says_who_is_who(user: str) -> None:
    root = Packages(a={}).build(PASSWD, user=user, workingDir="/work")
    assert access(root, "srv") == access(root, "work") == (Kind.DIRECTORY, 0o755, 42, 43)
    assert b"42" not in had(root, "etc/group").content


def test_a_user_who_is_not_in_the_own_passwd_is_told() -> None:
    with pytest.raises(Terminal) as caught:
        Packages(a={}).build(PASSWD, user="web")
    assert caught.value.reason is Reason.INVALID_SPEC
    assert caught.value.message == (
        "config.user is web, whom /etc/passwd of spec.files does not have"
    )


@pytest.mark.parametrize(
    ("line", "home"),
    [
        ("app:x:42:43::../../evil:/bin/sh", "evil"),
        ("app:x:42:43::evil/../..:/bin/sh", None),
        ("app:x:42:43::a\0b:/bin/sh", None),
    ],
)
def test_a_home_never_leads_out_of_the_image(line: str, home: str | None) -> None:
    data = base64.b64encode(f"{line}\nuser:x:42:43::/srv:/bin/sh\n".encode()).decode()
    root = Packages(a={}).build({"path": "/etc/passwd", "contentBase64": data}, user="42")
    assert not any(
        part in {b"..", b""} or b"\0" in part for e in root.entries for part in e.name.split(b"/")
    )
    assert home is None or access(root, home) == (Kind.DIRECTORY, 0o755, 42, 43)


@pytest.mark.parametrize("number", ["\u00b2", "9" * 5000, "-1", "4294967296"])
def test_numbers_that_are_none_are_passed_over(number: str) -> None:
    passwd = {
        "path": "/etc/passwd",
        "content": f"app:x:{number}:1::/a:/b\napp:x:1:{number}::/a:/b\n",
    }
    with pytest.raises(Terminal, match=r"whom /etc/passwd of spec\.files does not have"):
        Packages(a={}).build(passwd, user="app")


def test_working_directory_and_volumes_are_the_user_s() -> None:
    root = Packages(a={"srv": {"x": ""}}).build(
        user="1000", workingDir="/srv/data/", volumes=["/var/lib/app", "/proc/x", "/"]
    )
    assert access(root, "srv/data") == (Kind.DIRECTORY, 0o755, 1000, 1000)
    assert access(root, "srv") == (Kind.DIRECTORY, 0o755, 0, 0)
    assert access(root, "var/lib/app") == (Kind.DIRECTORY, 0o755, 1000, 1000)
    assert entry(root, "proc") is None


def test_a_working_directory_that_packages_have_stays_as_it_is() -> None:
    packages = Packages(a={"share": {"site": {"index.html": ""}}})
    root = packages.build(user="1000", workingDir="/share/site")
    assert had(root, "share/site").target.endswith(b"-a/share/site")


def test_a_file_in_the_way_of_the_working_directory_is_told() -> None:
    with pytest.raises(Terminal) as caught:
        Packages(hello={"bin": {"hello": ""}}).build(workingDir="/bin/hello/x")
    assert caught.value.reason is Reason.FILE_CONFLICT
    assert caught.value.message == (
        "/bin/hello/x cannot be made: hello has /bin/hello, which is no directory"
    )


def test_files_come_with_mode_and_owner() -> None:
    root = Packages(a={}).build(
        {"path": "/etc/app/conf", "content": "ä", "mode": "0640", "uid": 1, "gid": 2},
        {"path": "/etc/app/raw", "contentBase64": "AP8="},
        {"path": "/var/lib/app", "directory": True, "mode": "1770", "uid": 3},
        {"path": "/opt/link", "symlink": "../bin", "gid": 4},
    )
    assert access(root, "etc/app/conf") == (Kind.FILE, 0o640, 1, 2)
    assert had(root, "etc/app/conf").content == "ä".encode()
    assert access(root, "etc/app/raw") == (Kind.FILE, 0o644, 0, 0)
    assert had(root, "etc/app/raw").content == b"\0\xff"
    assert access(root, "etc/app") == (Kind.DIRECTORY, 0o755, 0, 0)
    assert access(root, "var/lib/app") == (Kind.DIRECTORY, 0o1770, 3, 0)
    assert access(root, "opt/link") == (Kind.SYMLINK, 0o777, 0, 4)
    assert had(root, "opt/link").target == b"../bin"


def test_a_file_wins_over_a_package_s_and_leaves_its_neighbours() -> None:
    packages = Packages(a={"etc": {"app": {"conf": "", "other": ""}}})
    conf = {"path": "/etc/app/conf", "content": "mine"}
    assert packages.links(conf) == {"etc/app/other": "a/etc/app/other"}
    assert had(packages.build(conf), "etc/app/conf").content == b"mine"


def test_a_file_settles_a_conflict() -> None:
    packages = Packages(loud={"bin": {"greet": ""}}, soft={"bin": {"greet": ""}})
    chosen = {"path": "/bin/greet", "symlink": "/nix/store/x-soft/bin/greet"}
    assert had(packages.build(chosen), "bin/greet").target == b"/nix/store/x-soft/bin/greet"
    with pytest.raises(Terminal, match="/bin/greet: loud and soft"):
        packages.build({"path": "/bin/greet", "directory": True})


def test_a_directory_gives_mode_and_owner_to_one_of_packages() -> None:
    packages = Packages(a={"etc": {"app": {"conf": ""}}})
    root = packages.build({"path": "/etc/app", "directory": True, "mode": "700", "uid": 5})
    assert access(root, "etc/app") == (Kind.DIRECTORY, 0o700, 5, 0)
    assert had(root, "etc/app/conf").target.endswith(b"-a/etc/app/conf")


def test_a_user_s_directory_keeps_its_mode_where_the_image_has_one_too() -> None:
    root = Packages(a={}).build(
        {"path": "/home/app", "directory": True, "mode": "0700", "uid": 9},
        {"path": "/var/empty", "directory": True, "mode": "0755"},
        user="app",
    )
    assert access(root, "home/app") == (Kind.DIRECTORY, 0o700, 9, 0)
    assert access(root, "var/empty") == (Kind.DIRECTORY, 0o755, 0, 0)


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (
            [{"path": "/share", "content": ""}],
            "spec.files has /share, where hello has a directory",
        ),
        (
            [{"path": "/share/doc", "symlink": "/x"}],
            "spec.files has /share/doc, where hello has a directory",
        ),
        (
            [{"path": "/bin/hello/x", "content": ""}],
            "/bin/hello/x cannot be made: hello has /bin/hello, which is no directory",
        ),
        (
            [{"path": "/a", "content": ""}, {"path": "/a/b", "content": ""}],
            "/a/b cannot be made: spec.files has /a, which is no directory",
        ),
        (
            [{"path": "/a", "symlink": "/etc"}, {"path": "/a/b", "content": ""}],
            "/a/b cannot be made: spec.files has /a, which is no directory",
        ),
        (
            [{"path": "/root", "content": ""}],
            "/root cannot be made: spec.files has /root, which is no directory",
        ),
    ],
)
def test_files_that_cannot_be_are_told(files: list[dict[str, Any]], words: str) -> None:
    packages = Packages(hello={"bin": {"hello": ""}, "share": {"doc": {"x": ""}}})
    with pytest.raises(Terminal) as caught:
        packages.build(*files)
    assert caught.value.reason is Reason.FILE_CONFLICT
    assert caught.value.message == words
    assert caught.value.hint


def test_a_user_s_link_is_followed_for_homes_by_nobody_but_the_kernel() -> None:
    root = Packages(a={}).build({"path": "/srv", "symlink": "/mnt"}, workingDir="/srv/x")
    assert entry(root, "srv/x") is None


def test_empty_directories_are_kept() -> None:
    packages = Packages(a={"var": {"lib": {"a": {}}}, "empty": {}}, b={"var": {"lib": {"a": {}}}})
    root = packages.build()
    assert access(root, "empty") == (Kind.DIRECTORY, 0o755, 0, 0)
    assert access(root, "var/lib/a") == (Kind.DIRECTORY, 0o755, 0, 0)


def test_a_nix_database_comes_with_what_nix_needs_around_it() -> None:
    registered = closure({"a": (10, ["b"]), "b": (20, [])})
    packages = Packages(a={"bin": {"nix": ""}})
    root = packages.build(registered=registered)
    state = "nix/var/nix"
    assert had(root, f"{state}/db/db.sqlite").content.startswith(b"SQLite format 3\0")
    assert had(root, f"{state}/db/schema").content == b"10"
    assert had(root, "etc/nix/nix.conf").content == b"build-users-group =\n"
    roots = [e for e in root.entries if b"/gcroots/niximage/" in e.name]
    assert [e.target.decode() for e in roots] == [store_path("a")]
    assert access(root, "nix/store") == (Kind.DIRECTORY, 0o755, 0, 0)
    assert entry(packages.build(), "nix") is None


def test_the_user_owns_the_store_that_nix_is_to_write() -> None:
    root = Packages(a={}).build(registered=closure({"a": (1, [])}), user="1000")
    for name in ("nix/store", "nix/var/nix", "nix/var/nix/db", "nix/var/nix/db/db.sqlite"):
        assert (had(root, name).uid, had(root, name).gid) == (1000, 1000)
    seen: set[bytes] = {b""}
    for each in root.entries:
        assert each.name.rpartition(b"/")[0] in seen
        seen.add(each.name)


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
