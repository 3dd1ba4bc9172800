"""HTTP connections that answer what they were asked before without parsing it again.

Nodes pull the same images with the same requests, to the byte. What a request's bytes got,
equal bytes get again for a while, in a few microseconds instead of a few hundred: that is
what lets one Python process answer as fast as nginx reads small files. Every first request,
and every one that is unusual in any way, goes through aiohttp.

Why that is safe: bytes count as a whole request only if they begin and end at the edges of
one, on a connection where all before them did; what they mean does then not depend on
anything else. See `_Connection.data_received`.
"""

import asyncio
import hashlib
import socket
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from email.utils import formatdate
from typing import Any, Final, Protocol

from aiohttp import EMPTY_PAYLOAD, HttpVersion11, hdrs, web
from aiohttp.web_protocol import RequestHandler
from cachetools import TLRUCache

HEAD_LIMIT: Final = 8192  # bytes of a request that is looked up
STUCK: Final = 60_000  # milliseconds after which a client that takes no byte is cut off

_OVERHEAD: Final = 1024  # bytes that a replay costs besides its answer

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class Replayable(web.Response):
    """A response that the same request gets again.

    Attributes:
        until: the time of `time.monotonic` after which the request is looked at again.
    """

    until: float = 0.0


class Ending(Protocol):
    """Told of every answer: what logs and counts it."""

    def answered(
        self, request: web.BaseRequest, response: web.StreamResponse
    ) -> "Callable[[str], None]":
        """Note an answer; returns what notes a replay of it to another address."""
        ...


@dataclass(frozen=True, slots=True)
class _Replay:
    """An answer, ready to send again.

    Attributes:
        head: the status line and headers, without the date.
        body: as sent; empty for HEAD.
        until: when it ends.
        again: notes one more.
    """

    head: bytes
    body: bytes
    until: float
    again: Callable[[str], None]


class Replays:
    """The answers that may be sent again, by what was asked, up to so many bytes."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._kept: TLRUCache[bytes, _Replay] = TLRUCache(
            limit,
            lambda _key, replay, _now: replay.until,
            timer=time.monotonic,
            getsizeof=lambda replay: _OVERHEAD + len(replay.head) + len(replay.body),
        )
        self._second = 0
        self._date = b""

    @property
    def used(self) -> int:
        """Bytes that are kept."""
        return int(self._kept.currsize)

    def get(self, asked: bytes) -> _Replay | None:
        """The answer to a request of this digest."""
        return self._kept.get(asked)

    def keep(
        self,
        asked: bytes,
        request: web.BaseRequest,
        response: Replayable,
        again: Callable[[str], None],
    ) -> None:
        """Keep an answer that was sent just now."""
        body = response.body
        if request.method == hdrs.METH_HEAD or body is None:
            body = b""
        if not isinstance(body, bytes) or len(body) > self._limit // 8:
            return
        headers = "".join(
            f"{name}: {value}\r\n" for name, value in response.headers.items() if name != hdrs.DATE
        )
        head = f"HTTP/1.1 {response.status} {response.reason}\r\n{headers}".encode()
        self._kept[asked] = _Replay(head, body, response.until, again)

    def date(self) -> bytes:
        """The Date header and the end of the headers, made once a second."""
        second = int(time.time())
        if second != self._second:
            self._second = second
            self._date = f"Date: {formatdate(second, usegmt=True)}\r\n\r\n".encode()
        return self._date


class ReplayServer(web.Server):
    """aiohttp's low-level server, whose connections replay."""

    def __init__(
        self, handler: Handler, *, replays: Replays, ending: Ending, **options: Any
    ) -> None:
        super().__init__(handler, access_log=None, **options)
        self.replays = replays
        self.ending = ending

    def __call__(self) -> RequestHandler:
        """A new connection's protocol."""
        return _Connection(self, loop=self._loop, **self._kwargs)


class _Connection(RequestHandler):
    """One connection.

    Attributes:
        _aligned: whether all that came so far were whole requests without bodies.
        _asked: the digest of the request under way, if its answer may be kept.
        _remote: the address of the other side.
    """

    __slots__ = ("_aligned", "_asked", "_remote", "_server")

    def __init__(self, server: ReplayServer, **options: Any) -> None:
        super().__init__(server, **options)
        self._server = server
        self._aligned = True
        self._asked: bytes | None = None
        self._remote = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        super().connection_made(transport)
        peer = transport.get_extra_info("peername")
        self._remote = str(peer[0]) if peer else ""
        connection = transport.get_extra_info("socket")
        if connection is not None and connection.family in {socket.AF_INET, socket.AF_INET6}:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, STUCK)

    def data_received(self, data: bytes) -> None:
        """Answer at once what is known, and let aiohttp read the rest."""
        self._asked = None
        if not self._aligned or not _is_request(data):
            self._aligned = False
            super().data_received(data)
            return
        # Idle: nothing before it is still to be answered, nor to be taken by the client.
        idle = self._waiter is not None and not self._waiter.done() and not self._messages
        asked = None
        if idle and not self._paused and self.transport is not None:
            asked = hashlib.sha256(data).digest()
            if (replay := self._server.replays.get(asked)) is not None:
                self._replay(replay)
                return
        before = len(self._messages)
        super().data_received(data)
        self._aligned = (
            len(self._messages) == before + 1
            and self._messages[-1][1] is EMPTY_PAYLOAD
            and not self._upgraded
        )
        if self._aligned:
            self._asked = asked

    def _replay(self, replay: _Replay) -> None:
        assert self.transport is not None
        self.transport.write(b"".join((replay.head, self._server.replays.date(), replay.body)))
        self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
        replay.again(self._remote)

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send what is not sent yet, note the answer, and keep it if it may be."""
        asked, self._asked = self._asked, None
        finished = await super().finish_response(request, resp, start_time)
        again = self._server.ending.answered(request, resp)
        if asked is not None and isinstance(resp, Replayable) and _goes_on(request, resp):
            self._server.replays.keep(asked, request, resp, again)
        return finished


def _is_request(data: bytes) -> bool:
    """Whether bytes are one whole GET or HEAD, if they begin where a request does."""
    return (
        len(data) <= HEAD_LIMIT
        and data.startswith((b"GET ", b"HEAD "))
        and data.find(b"\r\n\r\n") == len(data) - 4
    )


def _goes_on(request: web.BaseRequest, response: web.StreamResponse) -> bool:
    return bool(response.keep_alive) and request.version == HttpVersion11
