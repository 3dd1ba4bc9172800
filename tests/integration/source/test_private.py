"""Private repositories open with the right keys, and nothing tells of these keys."""

import asyncio
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from integration.private_git import (
    BASIC,
    BEARER,
    PASSWORD,
    TOKEN,
    Asked,
    Ssh,
    credentials,
    make_key,
    private_http,
    private_ssh,
)
from integration.source.conftest import Repository, Server
from niximage.api.build import PinnedSource
from niximage.api.source import Source
from niximage.errors import NixImageError, Reason, Retryable
from niximage.source import fetch, resolve
from niximage.source.credentials import Credentials


@pytest.fixture
def asked() -> Asked:
    """What the HTTP server was asked."""
    return Asked()


@pytest.fixture
def private(repository: Repository, asked: Asked) -> Iterator[str]:
    """The repository's URL at an HTTP server that asks for credentials."""
    with private_http(repository.bare.parent, asked) as url:
        yield f"{url}/{repository.bare.name}"


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ssh]:
    """A real sshd."""
    with private_ssh(tmp_path_factory.mktemp("sshd")) as found:
        yield found


def look_up(url: str, given: Credentials | None, branch: str = "main") -> PinnedSource:
    source = Source.model_validate({"git": {"url": url, "ref": {"branch": branch}}})
    return asyncio.run(resolve(source, nixpkgs_url="", timeout=20, credentials=given))


def refused(url: str, given: Credentials | None, branch: str = "main") -> NixImageError:
    with pytest.raises(NixImageError) as caught:
        look_up(url, given, branch)
    return caught.value


@pytest.mark.parametrize("values", [BASIC, BEARER], ids=["user and password", "token"])
def test_https_opens_with(
    private: str, repository: Repository, tmp_path: Path, values: dict[str, str]
) -> None:
    given = credentials({k: v + "\n" for k, v in values.items()})  # as editors leave them
    pinned = look_up(private, given)
    assert pinned.revision == repository.git("rev-parse", "HEAD")
    fetched = fetch(pinned, tmp_path / "out", timeout=30, credentials=given)
    assert (fetched.path / "nix/set.nix").read_text() == "{ }"


def test_ssh_opens_with_a_key(sshd: Ssh, repository: Repository, tmp_path: Path) -> None:
    url = f"{sshd.url}{repository.bare}"
    for values in (
        sshd.keys(),
        sshd.keys(identity=sshd.sealed, password=PASSWORD.encode()),
        sshd.keys(known_hosts=sshd.known_hosts.rstrip(b"\n")),
    ):
        pinned = look_up(url, credentials(values))
        assert pinned.revision == repository.git("rev-parse", "HEAD")
    fetched = fetch(pinned, tmp_path / "out", timeout=30, credentials=credentials(sshd.keys()))
    assert (fetched.path / "nix/set.nix").exists()


@pytest.mark.parametrize(
    "values",
    [
        {**BASIC, "password": "hunter22"},
        {**BASIC, "username": "somebody"},
        {"bearerToken": "glpat-wrong0wrong0"},
    ],
    ids=["password", "user", "token"],
)
def test_wrong_ones_do_not_open_https(private: str, values: dict[str, str]) -> None:
    error = refused(private, credentials(values))
    assert isinstance(error, Retryable), "the Secret may be mended without a new spec"
    assert error.reason is Reason.AUTHENTICATION_FAILED
    assert error.message.startswith(f"{private} does not open with the Secret team-a/packages")
    assert "read again at each try" in error.hint
    for secret in ("hunter22", "glpat-wrong", PASSWORD):
        assert secret not in str(error)


def test_wrong_ones_do_not_open_a_commit_either(
    private: str, repository: Repository, tmp_path: Path
) -> None:
    source = PinnedSource(url=private, revision=repository.git("rev-parse", "HEAD"))
    with pytest.raises(Retryable) as caught:
        fetch(source, tmp_path / "out", timeout=30, credentials=credentials({"bearerToken": "no"}))
    assert caught.value.reason is Reason.AUTHENTICATION_FAILED


def test_a_key_that_nobody_knows_does_not_open_ssh(
    sshd: Ssh, repository: Repository, tmp_path: Path
) -> None:
    make_key(tmp_path / "other")
    other = (tmp_path / "other").read_bytes()
    error = refused(f"{sshd.url}{repository.bare}", credentials(sshd.keys(identity=other)))
    assert isinstance(error, Retryable)
    assert error.reason is Reason.AUTHENTICATION_FAILED
    assert "Permission denied" in error.message


@pytest.mark.parametrize("which", ["of another host", "another key"])
def test_a_host_that_is_not_known_is_not_trusted(
    sshd: Ssh, repository: Repository, tmp_path: Path, which: str
) -> None:
    known = sshd.known_hosts.replace(b"127.0.0.1", b"127.0.0.2")
    if which == "another key":
        make_key(tmp_path / "host")
        public = (tmp_path / "host.pub").read_bytes()
        known = sshd.known_hosts.partition(b" ")[0] + b" " + public
    error = refused(f"{sshd.url}{repository.bare}", credentials(sshd.keys(known_hosts=known)))
    assert isinstance(error, Retryable)
    assert error.reason is Reason.AUTHENTICATION_FAILED
    assert "known_hosts" in error.hint


def test_a_missing_branch_is_told_as_of_any_repository(private: str) -> None:
    error = refused(private, credentials(BASIC), branch="mian")
    assert error.reason is Reason.REFERENCE_NOT_FOUND
    assert "Did you mean main?" in error.hint


def test_what_is_not_there_may_be_closed(private: str) -> None:
    error = refused(private.replace("packages.git", "other.git"), credentials(BASIC))
    assert isinstance(error, Retryable)
    assert error.reason is Reason.AUTHENTICATION_FAILED
    assert "Check the URL" in error.hint


def test_without_a_secret_the_message_names_the_field(private: str) -> None:
    error = refused(private, None)
    assert error.reason is Reason.AUTHENTICATION_FAILED
    assert "source.git.secretRef" in error.hint


def test_keys_are_in_no_command_line_and_no_environment(
    private: str, repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each git is seen as any process of the machine would see it."""
    seen = tmp_path / "seen"
    spy = tmp_path / "bin" / "git"
    spy.parent.mkdir()
    real = next(p for d in os.environ["PATH"].split(":") if (p := Path(d) / "git").exists())
    spy.write_text(
        f'#!/bin/sh\ncat /proc/$$/cmdline /proc/$$/environ >> {seen}\nexec {real} "$@"\n'
    )
    spy.chmod(0o755)
    monkeypatch.setenv("PATH", f"{spy.parent}:{os.environ['PATH']}")
    for number, values in enumerate((BASIC, BEARER)):
        pinned = look_up(private, credentials(values))
        fetch(pinned, tmp_path / str(number), timeout=30, credentials=credentials(values))
    shown = seen.read_text()
    assert "ls-remote" in shown
    assert PASSWORD not in shown
    assert TOKEN not in shown
    assert not re.search("Bearer|pa%3Ass", shown)


class _Elsewhere(BaseHTTPRequestHandler):
    to = ""

    def _answer(self) -> None:
        self.send_response(302)
        self.send_header("Location", f"{self.to}{self.path}")
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_POST = _answer  # noqa: N815 (named by http.server)

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002 (so named above)
        pass


@pytest.mark.parametrize("values", [BASIC, BEARER], ids=["user and password", "token"])
def test_a_redirect_carries_no_keys_to_another_host(
    private: str, asked: Asked, values: dict[str, str]
) -> None:
    server = Server(type("Handler", (_Elsewhere,), {"to": private.rpartition("/")[0]}))
    try:
        error = refused(f"{server.url}/packages.git", credentials(values))
    finally:
        server.stop()
    assert error.reason is Reason.AUTHENTICATION_FAILED
    assert all(not authorization for _, authorization in asked.requests), asked.requests


def test_a_server_that_repeats_the_password_is_not_quoted(repository: Repository) -> None:
    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            self.send_response(403)
            body = f"your password {PASSWORD} is bad\n".encode()
            self.send_header("Content-Type", "text/plain")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = _answer  # noqa: N815 (named by http.server)

        def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002 (so named above)
            pass

    server = Server(Handler)
    try:
        error = refused(f"{server.url}/x.git", credentials(BASIC))
    finally:
        server.stop()
    assert PASSWORD not in str(error)


def test_values_are_not_shown_by_repr() -> None:
    given = credentials(BASIC)
    assert PASSWORD not in repr(given)
    assert PASSWORD not in repr(replace(given, where="x"))
