"""References are pinned by the real git, against real servers that serve, refuse and hang."""

import time
from pathlib import Path

import pytest

from integration.conftest import free_port
from integration.source.conftest import Repository, Script
from niximage.api.source import Source
from niximage.errors import NixImageError, Reason, Retryable, Terminal
from niximage.source import resolve


def git_source(url: str, **ref: str) -> Source:
    return Source.model_validate({"git": {"url": url, "ref": ref, "path": "nix", "attr": "pkgs"}})


def channel(name: str) -> Source:
    return Source.model_validate({"nixpkgs": {"channel": name}})


async def failing(source: Source, *, patience: float = 20, nixpkgs: str = "") -> NixImageError:
    with pytest.raises(NixImageError) as caught:
        await resolve(source, nixpkgs_url=nixpkgs, timeout=patience)
    return caught.value


async def test_a_branch_is_pinned_and_followed(url: str, repository: Repository) -> None:
    first = await resolve(git_source(url, branch="main"), nixpkgs_url="", timeout=20)
    assert first.revision == repository.git("rev-parse", "HEAD")
    assert (first.url, first.ref, first.path, first.attr) == (url, "refs/heads/main", "nix", "pkgs")
    second = repository.commit("second")
    moved = await resolve(git_source(url, branch="main"), nixpkgs_url="", timeout=20)
    assert moved.revision == second != first.revision


async def test_a_channel_is_a_branch_of_nixpkgs(url: str, repository: Repository) -> None:
    repository.git("branch", "nixos-26.05")
    # A ref that ends alike must not be taken for the channel.
    repository.git("update-ref", "refs/other/refs/heads/nixos-26.05", "HEAD")
    repository.commit("later on main")
    pinned = await resolve(channel("nixos-26.05"), nixpkgs_url=url, timeout=20)
    assert pinned.ref == "refs/heads/nixos-26.05"
    assert pinned.revision == repository.git("rev-parse", "nixos-26.05")
    assert (pinned.path, pinned.attr) == (".", None)


async def test_an_annotated_tag_is_its_commit(url: str, repository: Repository) -> None:
    commit = repository.git("rev-parse", "HEAD")
    repository.git("tag", "-a", "v1", "-m", "release")
    repository.git("tag", "light")
    repository.push()
    assert repository.git("rev-parse", "v1") != commit
    for ref in ({"tag": "v1"}, {"tag": "light"}, {"name": "refs/tags/v1"}):
        pinned = await resolve(git_source(url, **ref), nixpkgs_url="", timeout=20)
        assert pinned.revision == commit


async def test_a_repository_of_too_many_refs_is_told_without_its_password(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("niximage.source.git.OUTPUT_LIMIT", 10)
    error = await failing(git_source(url.replace("://", "://me:secret@"), branch="main"))
    assert error.message == f"git printed more than 10 bytes about {url}"


async def test_any_ref_by_its_full_name(url: str, repository: Repository) -> None:
    repository.git("update-ref", "refs/pull/420/head", "HEAD")
    commit = repository.push()
    pinned = await resolve(git_source(url, name="refs/pull/420/head"), nixpkgs_url="", timeout=20)
    assert (pinned.ref, pinned.revision) == ("refs/pull/420/head", commit)


async def test_a_commit_needs_no_network() -> None:
    source = git_source("http://127.0.0.1:1/nowhere", commit="a" * 40)
    pinned = await resolve(source, nixpkgs_url="", timeout=0)
    assert (pinned.ref, pinned.revision) == ("", "a" * 40)
    source = Source.model_validate({"nixpkgs": {"revision": "b" * 40}})
    assert (await resolve(source, nixpkgs_url="http://x", timeout=0)).url == "http://x"


async def test_a_missing_ref_is_told_with_near_ones(url: str, repository: Repository) -> None:
    for name in ("nixos-25.11", "nixos-26.05", "unrelated"):
        repository.git("branch", name)
    repository.push()
    error = await failing(channel("nixos-26.50"), nixpkgs=url)
    assert isinstance(error, Terminal)
    assert error.reason is Reason.REFERENCE_NOT_FOUND
    assert "refs/heads/nixos-26.50" in error.message
    assert "nixos-26.05" in error.hint
    assert "unrelated" not in error.hint


async def test_an_empty_repository_has_no_refs(url: str, repository: Repository) -> None:
    repository.git("--git-dir", str(repository.bare), "update-ref", "-d", "refs/heads/main")
    repository.git("--git-dir", str(repository.bare), "update-server-info")
    error = await failing(git_source(url, branch="main"))
    assert error.reason in {Reason.REFERENCE_NOT_FOUND, Reason.INVALID_SOURCE}


async def test_a_repository_that_is_not_there_is_terminal(url: str) -> None:
    error = await failing(git_source(url.replace("packages", "nothing"), branch="main"))
    assert isinstance(error, Terminal)
    assert error.reason is Reason.INVALID_SOURCE
    assert "nothing.git" in error.message


async def test_an_unreachable_port_is_retryable() -> None:
    error = await failing(git_source(f"http://127.0.0.1:{free_port()}/x.git", branch="main"))
    assert isinstance(error, Retryable)
    assert error.reason is Reason.SOURCE_UNAVAILABLE
    assert "cannot be reached" in error.message


async def test_an_unknown_host_is_retryable() -> None:
    error = await failing(git_source("http://host.invalid/x.git", branch="main"))
    assert isinstance(error, Retryable)
    assert "host.invalid" in error.message


async def test_a_hanging_server_ends_in_time(hanging: str) -> None:
    began = time.monotonic()
    error = await failing(git_source(hanging, branch="main"), patience=0.5)
    assert isinstance(error, Retryable)
    assert "did not answer within 0.5 s" in error.message
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    ("status", "kind", "reason"),
    [
        (401, Terminal, Reason.AUTHENTICATION_FAILED),
        (403, Terminal, Reason.AUTHENTICATION_FAILED),
        (404, Terminal, Reason.INVALID_SOURCE),
        (429, Retryable, Reason.SOURCE_UNAVAILABLE),
        (500, Retryable, Reason.SOURCE_UNAVAILABLE),
        (503, Retryable, Reason.SOURCE_UNAVAILABLE),
    ],
)
async def test_a_server_that_refuses(
    scripted: str, script: Script, status: int, kind: type[NixImageError], reason: Reason
) -> None:
    script.status = status
    script.headers = {"WWW-Authenticate": 'Basic realm="x"'} if status == 401 else {}
    error = await failing(git_source(f"{scripted}/x.git", branch="main"))
    assert (type(error), error.reason) == (kind, reason)
    assert scripted in error.message
    assert error.hint


async def test_a_page_that_is_no_repository(scripted: str, script: Script) -> None:
    script.body = b"<html>welcome</html>"
    error = await failing(git_source(f"{scripted}/x.git", branch="main"))
    assert error.reason in {Reason.INVALID_SOURCE, Reason.REFERENCE_NOT_FOUND}


async def test_a_flood_of_refs_is_cut(scripted: str, script: Script) -> None:
    # A dumb server may say what it likes: only what was asked for, or nothing, is taken.
    lines = [b"%040x\trefs/heads/branch-%d\n" % (n, n) for n in range(150_000)]
    script.body = b"".join(lines)
    error = await failing(git_source(f"{scripted}/x.git", branch="main"))
    assert error.reason is Reason.REFERENCE_NOT_FOUND
    assert error.hint == "Check the name of the ref"


async def test_credentials_are_never_shown(scripted: str, script: Script) -> None:
    script.status = 500
    secret = scripted.replace("http://", "http://user:s3cret@")
    error = await failing(git_source(f"{secret}/x.git", branch="main"))
    assert "s3cret" not in str(error)
    assert "user" not in str(error)


async def test_a_redirect_to_a_file_is_not_followed(scripted: str, script: Script) -> None:
    script.status, script.headers = 302, {"Location": "file:///etc/passwd"}
    error = await failing(git_source(f"{scripted}/x.git", branch="main"))
    assert "root:" not in str(error)


@pytest.mark.parametrize(
    "url", ["file:///srv", "/srv", "ext::sh -c id", "git://127.0.0.1/x", "--upload-pack=id"]
)
async def test_other_protocols_are_refused(url: str) -> None:
    error = await failing(channel("nixos-26.05"), nixpkgs=url)
    assert isinstance(error, Terminal)
    assert error.reason is Reason.INVALID_SOURCE


async def test_files_are_read_when_that_is_allowed(repository: Repository) -> None:
    repository.git("branch", "nixos-26.05")
    commit = repository.push()
    pinned = await resolve(
        channel("nixos-26.05"),
        nixpkgs_url=repository.bare.as_uri(),
        timeout=20,
        allow_file=True,
    )
    assert pinned.revision == commit


async def test_the_user_s_configuration_is_not_read(
    url: str, repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "gitconfig"
    config.write_text(f'[url "http://127.0.0.1:1/"]\n\tinsteadOf = {url}\n')
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".gitconfig").write_text(config.read_text())
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    pinned = await resolve(git_source(url, branch="main"), nixpkgs_url="", timeout=20)
    assert pinned.revision == repository.git("rev-parse", "HEAD")


async def test_no_git_on_path_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    error = await failing(git_source("http://127.0.0.1:1/x", branch="main"))
    assert isinstance(error, Retryable)
    assert "Install git" in error.hint
