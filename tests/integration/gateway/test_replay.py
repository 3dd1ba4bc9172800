"""Equal requests get equal answers without being read again, and nothing else does."""

import re
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from integration.gateway.conftest import Client, running
from integration.tiny import tiny_image
from niximage.bucket.file import FileStore
from niximage.gateway import Limits, Options
from support.stores import Hooked

IMAGE = tiny_image(b"one")
NEWER = tiny_image(b"two")
PATH = f"/v2/team/app/manifests/{IMAGE.digest}"


@pytest.fixture
def slow() -> threading.Event:
    """While it is cleared, lists of the bucket wait."""
    event = threading.Event()
    event.set()
    return event


@pytest.fixture
def gateway(tmp_path: Path, slow: threading.Event) -> Iterator[Client]:
    def wait(verb: str, _key: str) -> None:
        assert verb != "list" or slow.wait(10)

    store = Hooked(FileStore(tmp_path), before=wait)
    IMAGE.publish(store, "team/app", "latest")
    NEWER.publish(store, "team/app", "newer")
    with running(store) as client:
        yield client


def replayed(client: Client) -> int:
    """How many answers came from memory."""
    text = client.ask("/metrics").body.decode()
    found = re.search(r"^niximage_gateway_replayed_requests_total (\S+)$", text, re.MULTILINE)
    assert found is not None
    return int(float(found[1]))


def request(path: str, *headers: str, method: str = "GET") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: registry", *headers, "", ""]
    return "\r\n".join(lines).encode()


class Raw:
    """A connection that sends what it is told."""

    def __init__(self, client: Client) -> None:
        host, _, port = client.address.rpartition(":")
        self._socket = socket.create_connection((host, int(port)), timeout=10)
        # Else the kernel holds back what is sent before an answer came.
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._file = self._socket.makefile("rb")

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def answer(self, *, body: bool = True) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of the next answer."""
        status = int(self._file.readline().split()[1])
        headers = {}
        while (line := self._file.readline().decode().strip()) != "":
            name, _, value = line.partition(": ")
            headers[name.lower()] = value
        length = int(headers.get("content-length", 0)) if body and status != 304 else 0
        return status, headers, self._file.read(length)

    def is_ended(self) -> bool:
        return self._file.read(1) == b""

    def close(self) -> None:
        self._file.close()
        self._socket.close()


@pytest.fixture
def connect(gateway: Client) -> Iterator[Callable[[], Raw]]:
    opened: list[Raw] = []

    def one() -> Raw:
        opened.append(Raw(gateway))
        return opened[-1]

    yield one
    for each in opened:
        each.close()


@pytest.mark.parametrize(
    ("asked", "body"),
    [
        (request(PATH), True),
        (request(PATH, method="HEAD"), False),
        (request(PATH, f'If-None-Match: "{IMAGE.digest}"'), True),
        (request(f"/v2/team/app/blobs/{IMAGE.config[0].digest}"), True),
    ],
)
def test_a_repeated_request_gets_the_same_answer(
    gateway: Client, connect: Callable[[], Raw], asked: bytes, body: bool
) -> None:
    one, two = connect(), connect()
    seen = []
    for connection in (one, two, one, two):
        connection.send(asked)
        status, headers, content = connection.answer(body=body)
        headers.pop("date")
        seen.append((status, headers, content))
    assert seen == [seen[0]] * 4
    assert replayed(gateway) >= 2


@pytest.mark.parametrize(
    "asked",
    [
        request("/v2/team/app/manifests/latest"),  # a tag may move
        request("/v2/team/app/tags/list"),
        request(f"/v2/team/app/manifests/sha256:{'0' * 64}"),  # may come
        request(PATH).replace(b"HTTP/1.1", b"HTTP/1.0"),
        request(PATH, "Connection: close"),
        request(PATH, "Content-Length: 0").replace(b"GET", b"POST"),
        request(f"/v2/team/app/blobs/{IMAGE.config[0].digest}", "Range: bytes=0-3"),
    ],
)
def test_what_may_change_or_ends_a_connection_is_looked_at_again(
    gateway: Client, connect: Callable[[], Raw], asked: bytes
) -> None:
    for _ in range(3):
        connection = connect()
        connection.send(asked)
        connection.answer()
    assert replayed(gateway) == 0


def settle(other: Raw) -> None:
    """Let the gateway read what was sent on other connections: it takes them in turn."""
    for _ in range(10):
        other.send(request(PATH))
        assert other.answer()[2] == IMAGE.manifest


def opened(connect: Callable[[], Raw]) -> Raw:
    """A connection on which all is well, and `PATH` in memory."""
    connection = connect()
    settle(connection)
    return connection


def test_a_request_that_is_the_body_of_another_is_not_answered(
    connect: Callable[[], Raw],
) -> None:
    inner, other, attack = request(PATH), opened(connect), opened(connect)
    attack.send(request("/v2/", f"Content-Length: {len(inner)}"))
    assert attack.answer()[2] == b"{}"
    settle(other)
    attack.send(inner)
    settle(other)
    attack.send(request(f"/v2/team/app/manifests/{NEWER.digest}"))
    assert attack.answer()[2] == NEWER.manifest


def test_a_request_that_ends_another_ones_headers_is_not_answered(
    connect: Callable[[], Raw],
) -> None:
    other, attack = opened(connect), opened(connect)
    attack.send(f"GET /v2/team/app/manifests/{NEWER.digest} HTTP/1.1\r\nX-Note: ".encode())
    settle(other)
    attack.send(request(PATH))
    assert attack.answer()[2] == NEWER.manifest
    # Such a connection is never trusted again, but served.
    attack.send(request(PATH))
    assert attack.answer()[2] == IMAGE.manifest


def test_pipelined_requests_are_answered_in_order(connect: Callable[[], Raw]) -> None:
    first, second = request(PATH), request(f"/v2/team/app/manifests/{NEWER.digest}")
    connection = connect()
    for _ in range(3):
        connection.send(second + first + second)
        bodies = [connection.answer()[2] for _ in range(3)]
        assert bodies == [NEWER.manifest, IMAGE.manifest, NEWER.manifest]


def test_a_known_answer_does_not_overtake_one_under_way(
    gateway: Client, connect: Callable[[], Raw], slow: threading.Event
) -> None:
    other, connection = opened(connect), opened(connect)
    slow.clear()
    connection.send(request("/v2/team/app/tags/list"))
    settle(other)
    connection.send(request(PATH))
    settle(other)
    slow.set()
    assert b"latest" in connection.answer()[2]
    assert connection.answer()[2] == IMAGE.manifest


def test_nonsense_after_a_request_is_refused(connect: Callable[[], Raw]) -> None:
    connection = connect()
    for _ in range(2):
        connection.send(request(PATH))
        assert connection.answer()[2] == IMAGE.manifest
    connection.send(b"nonsense\r\n\r\n")
    assert connection.answer()[0] == 400
    assert connection.is_ended()


def test_answers_are_forgotten_in_time(tmp_path: Path) -> None:
    store = FileStore(tmp_path)
    IMAGE.publish(store, "team/app")
    with running(store, Options(port=0, limits=Limits(lifetime=0.0))) as client:
        for _ in range(4):
            assert client.ask(PATH).status == 200
        assert replayed(client) == 0
