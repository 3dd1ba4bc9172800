"""A revision's files come from every kind of server, and nothing leads out of them."""

import time
from pathlib import Path

import pytest

from integration.conftest import free_port
from integration.source.conftest import Repository
from niximage.api.build import PinnedSource
from niximage.errors import NixImageError, Reason, Retryable, Terminal
from niximage.source import fetch


def pinned(url: str, revision: str, path: str = ".", ref: str = "refs/heads/main") -> PinnedSource:
    return PinnedSource(url=url, ref=ref, revision=revision, path=path)


def failing(source: PinnedSource, folder: Path, timeout: float = 30) -> NixImageError:
    with pytest.raises(NixImageError) as caught:
        fetch(source, folder, timeout=timeout)
    return caught.value


def names(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if not p.is_dir())


def test_the_files_of_a_branch_s_commit(url: str, repository: Repository, tmp_path: Path) -> None:
    revision = repository.commit("more", **{"default.nix": "42", "nix__lib.nix": "{ }"})
    target = fetch(pinned(url, revision), tmp_path / "out", timeout=30).path
    assert target == tmp_path / "out"
    assert (target / "default.nix").read_text() == "42"
    assert names(target) == ["default.nix", "nix/lib.nix", "nix/set.nix"]


def test_the_commit_s_time_comes_along(smart: str, repository: Repository, tmp_path: Path) -> None:
    fetched = fetch(pinned(smart, repository.git("rev-parse", "HEAD")), tmp_path / "o", timeout=30)
    assert fetched.time == int(repository.git("show", "--no-patch", "--format=%ct", "HEAD"))
    assert fetched.time > 1_700_000_000


def test_an_older_commit_after_the_branch_moved(
    url: str, repository: Repository, tmp_path: Path
) -> None:
    old = repository.commit("old", **{"default.nix": "old"})
    repository.commit("new", **{"default.nix": "new"})
    target = fetch(pinned(url, old), tmp_path / "out", timeout=30).path
    assert (target / "default.nix").read_text() == "old"


@pytest.mark.parametrize("ref", ["", "refs/heads/main"])
def test_a_commit_of_another_branch(
    url: str, repository: Repository, tmp_path: Path, ref: str
) -> None:
    repository.git("checkout", "--quiet", "-b", "side")
    side = repository.commit("side", **{"default.nix": "side"})
    repository.git("checkout", "--quiet", "main")
    repository.commit("main goes on")
    target = fetch(pinned(url, side, ref=ref), tmp_path / "out", timeout=30).path
    assert (target / "default.nix").read_text() == "side"


def test_equal_revisions_give_equal_folders(
    smart: str, repository: Repository, tmp_path: Path
) -> None:
    revision = repository.commit("one")
    folders = [fetch(pinned(smart, revision), tmp_path / n, timeout=30).path for n in "ab"]
    assert names(folders[0]) == names(folders[1])
    assert not any(".git" in name for name in names(folders[0]))


def test_a_file_or_folder_within(url: str, repository: Repository, tmp_path: Path) -> None:
    revision = repository.git("rev-parse", "HEAD")
    assert (
        fetch(pinned(url, revision, "nix"), tmp_path / "a", timeout=30).path == tmp_path / "a/nix"
    )
    file = fetch(pinned(url, revision, "nix/set.nix"), tmp_path / "b", timeout=30).path
    assert file.read_text() == "{ }"


@pytest.mark.parametrize(
    ("link", "path"),
    [
        (("out", "../.."), "out"),
        (("out", "/etc"), "out"),
        (("out", "/etc"), "out/passwd"),
        (("circle", "circle"), "circle"),
        (("gone", "nowhere"), "gone"),
        (("deep", "nix/../../.."), "deep/tree"),
    ],
)
def test_a_link_never_leads_out(
    smart: str, repository: Repository, tmp_path: Path, link: tuple[str, str], path: str
) -> None:
    (repository.tree / link[0]).symlink_to(link[1])
    revision = repository.commit("link")
    error = failing(pinned(smart, revision, path), tmp_path / "out")
    assert isinstance(error, Terminal)
    assert error.reason is Reason.INVALID_SOURCE
    assert "source.git.path" in error.hint


def test_a_link_within_is_followed(smart: str, repository: Repository, tmp_path: Path) -> None:
    (repository.tree / "link.nix").symlink_to("nix/set.nix")
    revision = repository.commit("link")
    target = fetch(pinned(smart, revision, "link.nix"), tmp_path / "out", timeout=30).path
    assert target == tmp_path / "out/nix/set.nix"


@pytest.mark.parametrize("path", ["..", "../tree", "nix/../..", "/etc", "absent", "x\0y", ".git"])
def test_a_bad_path_is_told(smart: str, repository: Repository, tmp_path: Path, path: str) -> None:
    revision = repository.git("rev-parse", "HEAD")
    error = failing(pinned(smart, revision, path), tmp_path / "out")
    assert isinstance(error, Terminal)
    assert error.reason is Reason.INVALID_SOURCE


def test_a_commit_that_is_not_there(url: str, tmp_path: Path) -> None:
    error = failing(pinned(url, "0123456789" * 4), tmp_path / "out")
    assert isinstance(error, Terminal)
    assert error.reason is Reason.REFERENCE_NOT_FOUND
    assert "0123456789" in error.message


def test_a_tag_object_is_no_commit(smart: str, repository: Repository, tmp_path: Path) -> None:
    repository.git("tag", "-a", "v1", "-m", "release")
    repository.push()
    error = failing(pinned(smart, repository.git("rev-parse", "v1")), tmp_path / "out")
    assert error.reason is Reason.REFERENCE_NOT_FOUND


def test_an_unreachable_port_is_retryable(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}/x.git"
    error = failing(pinned(url, "a" * 40), tmp_path / "out")
    assert isinstance(error, Retryable)
    assert error.reason is Reason.SOURCE_UNAVAILABLE


def test_a_hanging_server_ends_in_time(hanging: str, tmp_path: Path) -> None:
    began = time.monotonic()
    error = failing(pinned(hanging, "a" * 40), tmp_path / "out", timeout=0.5)
    assert isinstance(error, Retryable)
    assert "did not answer within 0.5 s" in error.message
    assert time.monotonic() - began < 5


def test_a_repository_that_is_not_there(url: str, tmp_path: Path) -> None:
    error = failing(pinned(url.replace("packages", "nothing"), "a" * 40), tmp_path / "out")
    assert isinstance(error, Terminal)
    assert error.reason is Reason.INVALID_SOURCE


def test_local_paths_are_refused(repository: Repository, tmp_path: Path) -> None:
    revision = repository.git("rev-parse", "HEAD")
    source = pinned(repository.bare.as_uri(), revision)
    assert failing(source, tmp_path / "out").reason is Reason.INVALID_SOURCE
    target = fetch(source, tmp_path / "allowed", timeout=30, allow_file=True).path
    assert (target / "nix/set.nix").exists()


def test_a_folder_with_something_in_it_is_left_alone(smart: str, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("keep")
    error = failing(pinned(smart, "a" * 40), tmp_path)
    assert isinstance(error, Terminal)
    assert (tmp_path / "precious").read_text() == "keep"


def test_neither_submodules_nor_filters_nor_hooks_run(
    smart: str, repository: Repository, tmp_path: Path
) -> None:
    repository.git("config", "protocol.file.allow", "always")
    revision = repository.commit(
        "hostile",
        **{
            ".gitattributes": "*.nix filter=lfs diff=lfs merge=lfs -text\n",
            ".gitmodules": '[submodule "x"]\n\tpath = x\n\turl = file:///etc\n\tupdate = !id\n',
            ".lfsconfig": "[lfs]\n\turl = http://127.0.0.1:1/\n",
        },
    )
    target = fetch(pinned(smart, revision), tmp_path / "out", timeout=30).path
    assert (target / "nix/set.nix").read_text() == "{ }"
