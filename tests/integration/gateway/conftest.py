"""A gateway on loopback, in a thread of its own, so that tests can use any client."""

import asyncio
import http.client
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import pytest

from niximage.bucket import ObjectStore
from niximage.gateway import serve


@dataclass(frozen=True)
class Answer:
    """A response, read to its end."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    def json(self) -> Any:
        import json

        return json.loads(self.body)


@dataclass(frozen=True)
class Client:
    """Plain HTTP requests to one server, bytes for bytes."""

    url: str

    @property
    def address(self) -> str:
        return urlsplit(self.url).netloc

    def ask(self, path: str, method: str = "GET", **headers: str) -> Answer:
        """One request on a connection of its own; `_` in header names stands for `-`."""
        connection = http.client.HTTPConnection(self.address, timeout=20)
        try:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, headers=named)
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            connection.close()


@contextmanager
def running(store: ObjectStore) -> Iterator[Client]:
    """A gateway over a store, stopped at the end."""
    started = threading.Event()
    seen: dict[str, Any] = {}

    async def main() -> None:
        seen["loop"], seen["stop"] = asyncio.get_running_loop(), asyncio.Event()

        def on_start(url: str) -> None:
            seen["url"] = url
            started.set()

        await serve(store, "127.0.0.1", 0, stop=seen["stop"], on_start=on_start)

    thread = threading.Thread(target=lambda: asyncio.run(main()))
    thread.start()
    assert started.wait(10)
    try:
        yield Client(seen["url"])
    finally:
        seen["loop"].call_soon_threadsafe(seen["stop"].set)
        thread.join(30)
        assert not thread.is_alive()


@pytest.fixture
def gateway(store: ObjectStore) -> Iterator[Client]:
    """A gateway over an empty bucket of each kind."""
    with running(store) as client:
        yield client
