"""A gateway on loopback, in a thread of its own, so that tests can use any client."""

import asyncio
import http.client
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import pytest

from niximage.bucket import ObjectStore
from niximage.gateway import Options, serve

ANY_PORT = Options(port=0)


@dataclass(frozen=True)
class Answer:
    """A response, read to its end."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Client:
    """Plain HTTP requests to one server, bytes for bytes."""

    url: str

    @property
    def address(self) -> str:
        return urlsplit(self.url).netloc

    def ask(self, path: str, method: str = "GET", body: str = "", **headers: str) -> Answer:
        """One request on a connection of its own; `_` in header names stands for `-`."""
        connection = http.client.HTTPConnection(self.address, timeout=20)
        try:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body=body or None, headers=named)
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            connection.close()


@contextmanager
def running(store: ObjectStore, options: Options = ANY_PORT, **how: Any) -> Iterator[Client]:
    """A gateway over a store, stopped at the end; `how` goes to `serve`."""
    started = threading.Event()
    seen: dict[str, Any] = {}

    async def main() -> None:
        seen["loop"], seen["stop"] = asyncio.get_running_loop(), asyncio.Event()

        def on_start(url: str) -> None:
            seen["url"] = url
            started.set()

        await serve(store, options, stop=seen["stop"], on_start=on_start, **how)

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
