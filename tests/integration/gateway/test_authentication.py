"""Who comes without credentials is told where to get a token; who has some is let through."""

import base64
import json
import re
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import bcrypt
import pytest

from integration.gateway.conftest import Answer, Client, running
from integration.tiny import tiny_image
from niximage.bucket.file import FileStore
from niximage.gateway import HtpasswdAuthority, Options
from niximage.gateway.authority import Identity

IMAGE = tiny_image(b"one")
MINE = f"/v2/team-a/web/manifests/{IMAGE.digest}"
THEIRS = f"/v2/team-b/api/manifests/{IMAGE.digest}"
OPTIONS = Options(port=0, token_key=b"k" * 32)


def basic(user: str, password: str) -> str:
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"


GOOD = basic("ci", "secret")


@pytest.fixture
def users(tmp_path: Path) -> Path:
    hashed = bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode()
    (tmp_path / "users").write_text(f"ci:{hashed}:team-a/*\nadmin:{hashed}\n")
    return tmp_path / "users"


@pytest.fixture
def gateway(tmp_path: Path, users: Path) -> Iterator[Client]:
    store = FileStore(tmp_path / "bucket")
    for repository in ("team-a/web", "team-b/api"):
        IMAGE.publish(store, repository, "latest")
    with running(store, OPTIONS, authority=HtpasswdAuthority(users)) as client:
        yield client


def challenge(answer: Answer) -> dict[str, str]:
    """The fields of a Bearer challenge."""
    assert answer.status == 401
    assert answer.json()["errors"][0]["code"] == "UNAUTHORIZED"
    kind, _, fields = answer.headers["WWW-Authenticate"].partition(" ")
    assert kind == "Bearer"
    return dict(re.findall(r'([a-z]+)="([^"]*)"', fields))


def token(client: Client, *scopes: str, authorization: str = GOOD) -> Any:
    query = urlencode([("service", "niximage"), *(("scope", scope) for scope in scopes)])
    answer = client.ask(f"/token?{query}", Authorization=authorization)
    assert answer.status == 200
    assert answer.headers["Cache-Control"] == "no-store"
    return answer.json()


def test_nobody_is_told_where_tokens_are_made(gateway: Client) -> None:
    assert challenge(gateway.ask("/v2/")) == {
        "realm": f"{gateway.url}/token",
        "service": "niximage",
    }
    assert challenge(gateway.ask(MINE))["scope"] == "repository:team-a/web:pull"
    assert challenge(gateway.ask("/v2/team-a/absent/tags/list"))["scope"]
    assert challenge(gateway.ask(MINE, "PUT"))
    behind = challenge(gateway.ask("/v2/", Host="registry.example", X_Forwarded_Proto="https"))
    assert behind["realm"] == "https://registry.example/token"
    assert gateway.ask("/v2/", Host='evil",x="').status == 400


def test_probes_need_no_credentials(gateway: Client) -> None:
    for path in ("/healthz", "/readyz", "/metrics"):
        assert gateway.ask(path).status == 200


def test_basic_credentials_are_enough(gateway: Client) -> None:
    for _ in range(3):  # the third time from memory
        assert gateway.ask(MINE, Authorization=GOOD).body == IMAGE.manifest
    assert gateway.ask("/v2/", Authorization=GOOD).status == 200
    denied = gateway.ask(THEIRS, Authorization=GOOD)
    assert (denied.status, denied.json()["errors"][0]["code"]) == (403, "DENIED")
    assert gateway.ask(THEIRS, Authorization=basic("admin", "secret")).status == 200


def test_what_one_was_given_from_memory_another_is_not(gateway: Client) -> None:
    for _ in range(3):
        assert gateway.ask(THEIRS, Authorization=basic("admin", "secret")).status == 200
    assert gateway.ask(THEIRS).status == 401
    assert gateway.ask(THEIRS, Authorization=GOOD).status == 403


@pytest.mark.parametrize(
    "authorization",
    [
        basic("ci", "wrong"),
        basic("nobody", "secret"),
        basic("", ""),
        "Basic",
        "Basic é",
        "Basic bm9jb2xvbg==",
        "Bearer x.y.z",
        "Digest x",
        "Bearer",
    ],
)
def test_wrong_credentials_are_refused(gateway: Client, authorization: str) -> None:
    assert gateway.ask(MINE, Authorization=authorization).status == 401
    assert gateway.ask("/token", Authorization=authorization).status == 401
    assert gateway.ask("/token").status == 401


def test_a_token_opens_what_it_was_made_for(gateway: Client) -> None:
    made = token(gateway, "repository:team-a/web:pull", "repository:team-b/api:pull,push")
    bearer = f"Bearer {made['token']}"
    for _ in range(3):
        assert gateway.ask(MINE, Authorization=bearer).body == IMAGE.manifest
    assert gateway.ask("/v2/", Authorization=bearer).status == 200
    again = challenge(gateway.ask(THEIRS, Authorization=bearer))
    assert (again["error"], again["scope"]) == ("insufficient_scope", "repository:team-b/api:pull")
    assert gateway.ask(MINE, Authorization=f"Bearer {token(gateway)['token']}").status == 401


def test_a_token_by_post(gateway: Client) -> None:
    form = {"grant_type": "password", "username": "ci", "password": "secret", "service": "niximage"}
    kind = "application/x-www-form-urlencoded"
    scope = {"scope": "repository:team-a/web:pull repository:team-b/api:pull"}
    answer = gateway.ask("/token", "POST", urlencode({**form, **scope}), Content_Type=kind)
    assert answer.status == 200
    bearer = f"Bearer {answer.json()['access_token']}"
    assert gateway.ask(MINE, Authorization=bearer).status == 200
    assert gateway.ask(THEIRS, Authorization=bearer).status == 401
    for changed, status in (
        ({**form, "password": "wrong"}, 401),
        ({**form, "grant_type": "refresh_token"}, 400),
        ({}, 400),
        ({**form, "scope": "x" * 40_000}, 413),
    ):
        answer = gateway.ask("/token", "POST", urlencode(changed), Content_Type=kind)
        assert answer.status == status
    assert gateway.ask("/token", "POST", "{}", Content_Type="application/json").status == 415
    assert gateway.ask("/token", "PUT", Authorization=GOOD).status == 405


@pytest.mark.parametrize(
    ("head", "body", "status"),
    [
        ("", b"grant_type=\xff", 400),
        ("; charset=nothing", b"grant_type=password", 401),
        ("; charset=utf-16", b"grant_type=password", 401),
        ("", b"&".join(b"a=b" for _ in range(200)), 400),
        ("\r\nContent-Encoding: gzip", b"no gzip", 400),
    ],
)
def test_a_form_that_is_none_is_told_so(
    gateway: Client, head: str, body: bytes, status: int
) -> None:
    assert posted(gateway, f"{head}\r\nContent-Length: {len(body)}", body) == status


def test_a_form_without_end_is_refused(gateway: Client) -> None:
    pieces = b"%x\r\n%b\r\n" % (30_000, b"x" * 30_000) * 2
    assert posted(gateway, "\r\nTransfer-Encoding: chunked", pieces) == 413


def posted(gateway: Client, head: str, body: bytes) -> int:
    """The status that a token request gets, its header lines and its body as they are."""
    host, _, port = gateway.address.partition(":")
    kind = "Content-Type: application/x-www-form-urlencoded"
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(
            f"POST /token HTTP/1.1\r\nHost: x\r\n{kind}{head}\r\n\r\n".encode() + body
        )
        return int(connection.recv(100).split()[1])


def test_a_token_that_is_no_text_is_refused(tmp_path: Path) -> None:
    class Cluster:
        takes_tokens = True

        async def identify(self, user: str, password: str) -> Identity | None:
            raise AssertionError(password)

        async def may_pull(self, identity: Identity, repository: str) -> bool:
            raise AssertionError(repository)

    with running(FileStore(tmp_path), OPTIONS, authority=Cluster()) as client:
        assert client.ask(MINE, Authorization="Bearer \xe9").status == 401


def test_without_authentication_there_are_no_tokens(tmp_path: Path) -> None:
    with running(FileStore(tmp_path)) as client:
        assert client.ask("/token").status == 404
        assert client.ask("/v2/").status == 200


def test_metrics_count_credentials_that_were_looked_at(gateway: Client) -> None:
    for authorization in (GOOD, GOOD, basic("ci", "wrong")):
        gateway.ask("/v2/", Authorization=authorization)
    text = gateway.ask("/metrics").body.decode()
    assert 'niximage_gateway_credentials_checked_total{result="accepted"} 1.0' in text
    assert 'niximage_gateway_credentials_checked_total{result="refused"} 1.0' in text


def test_skopeo_logs_in_and_pulls(gateway: Client, tmp_path: Path) -> None:
    file = str(tmp_path / "auth.json")
    login = ["skopeo", "login", "--tls-verify=false", "--authfile", file]
    host = urlsplit(gateway.url).netloc
    wrong = subprocess.run([*login, "-u", "ci", "-p", "wrong", host], timeout=60, check=False)
    assert wrong.returncode != 0
    subprocess.run([*login, "-u", "ci", "-p", "secret", host], timeout=60, check=True)
    pull = ["skopeo", "copy", "--src-tls-verify=false", "--authfile", file]
    for name, works in (("team-a/web", True), ("team-b/api", False)):
        done = subprocess.run(
            [*pull, f"docker://{host}/{name}:latest", f"dir:{tmp_path / 'copy'}"],
            capture_output=True,
            timeout=60,
            check=False,
        )
        assert (done.returncode == 0) is works, done.stderr.decode()


def test_crane_pulls_with_dockers_config(gateway: Client, tools: Path, tmp_path: Path) -> None:
    host = urlsplit(gateway.url).netloc
    auth = base64.b64encode(b"ci:secret").decode()
    (tmp_path / "config.json").write_text(json.dumps({"auths": {host: {"auth": auth}}}))
    for name, config, works in (
        ("team-a/web", tmp_path, True),
        ("team-b/api", tmp_path, False),
        ("team-a/web", tmp_path / "none", False),
    ):
        done = subprocess.run(
            [tools / "crane", "digest", f"{host}/{name}:latest"],
            capture_output=True,
            timeout=60,
            check=False,
            env={"DOCKER_CONFIG": str(config), "HOME": str(tmp_path), "PATH": "/usr/bin"},
        )
        assert (done.stdout.decode().strip() == IMAGE.digest) is works, done.stderr.decode()
