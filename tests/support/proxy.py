"""A reverse proxy before a real API server, which does to requests what a network may do.

It listens on loopback without TLS and speaks to the API server as the kubeconfig's user, so a
program that gets its own kubeconfig needs nothing else. What it lets through it notes, what it
shall do wrong it is told: answer in the API server's stead, swallow an answer, end a watch,
call a function between request and answer.
"""

import asyncio
import base64
import json
import re
import ssl
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

import aiohttp
import yaml
from aiohttp import web

READS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_HOP: Final = frozenset({"host", "connection", "transfer-encoding", "content-length", "keep-alive"})
KEPT: Final = 10_000  # requests that are remembered
_LIMIT: Final = 64 << 20  # bytes of a request
_STATUS: Final = {
    409: ("Conflict", "the object has been modified"),
    410: ("Expired", "too old resource version"),
    422: ("Invalid", "the status is invalid"),
    429: ("TooManyRequests", "the server has received too many requests"),
    500: ("InternalError", "etcdserver: leader changed"),
}


@dataclass(frozen=True, slots=True)
class Request:
    """A request that came to the proxy; a write, if it may have changed something."""

    method: str
    path: str
    query: dict[str, str]
    body: bytes = field(repr=False)
    at: float = field(default_factory=time.monotonic)

    @property
    def is_write(self) -> bool:
        return self.method not in READS and "accessreviews" not in self.path

    @property
    def is_watch(self) -> bool:
        return self.query.get("watch") in {"1", "true"}


@dataclass(slots=True)
class Fault:
    """What becomes of the next requests of a kind.

    Attributes:
        method: of which requests, as a regular expression.
        path: of which, likewise; searched for.
        status: what to answer instead of asking; 0 asks.
        headers: of that answer.
        lost: whether the connection ends without the answer, after the API server gave it.
        before: called before the API server is asked.
        after: called once it has answered, before that answer goes out.
        watches: whether it is for watches only.
        times: how many requests are left to meet it.
    """

    method: str
    path: str
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    lost: bool = False
    before: Callable[[Request], None] | None = None
    after: Callable[[Request], None] | None = None
    watches: bool = False
    times: int = 1

    def meets(self, request: Request) -> bool:
        if self.watches and not request.is_watch:
            return False
        return bool(
            re.fullmatch(self.method, request.method) and re.search(self.path, request.path)
        )


class FaultProxy:
    """The proxy, in a thread of its own. Use as a context manager."""

    def __init__(self, kubeconfig: Path) -> None:
        """Nothing listens yet.

        Args:
            kubeconfig: of the API server, with a client certificate.
        """
        self.upstream, self._tls = server_of(kubeconfig)
        self.seen: deque[tuple[Request, int]] = deque(maxlen=KEPT)  # and the answer's status
        self.listener: Callable[[Request], None] = lambda _: None  # told of each request
        self._faults: list[Fault] = []
        self._watches: dict[asyncio.Transport, asyncio.Task[Any]] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._session: aiohttp.ClientSession | None = None
        self._runner: web.AppRunner | None = None
        self.port = 0

    def __enter__(self) -> Self:
        self._thread.start()
        self._do(self._open())
        return self

    def __exit__(self, *_: object) -> None:
        self._do(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    # What tests ask for -------------------------------------------------------------------------

    def kubeconfig(self, path: Path) -> Path:
        """Write a kubeconfig whose API server is this proxy."""
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "x", "cluster": {"server": f"http://127.0.0.1:{self.port}"}}],
            "users": [{"name": "x", "user": {}}],
            "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
            "current-context": "x",
        }
        path.write_text(json.dumps(document))
        return path

    def add(self, fault: Fault) -> Fault:
        """Have the next matching requests meet a fault; one that was added first comes first."""
        self._faults.append(fault)
        return fault

    def heal(self) -> None:
        """Forget all faults."""
        self._faults.clear()

    def writes(self) -> list[tuple[Request, int]]:
        """What changed something, or tried to, in order."""
        return [(request, status) for request, status in self.seen if request.is_write]

    def cut_watches(self) -> int:
        """End all watches in the middle of a stream; returns how many there were."""
        return int(self._do(self._cut()))

    def go(self) -> None:
        """Refuse connections, and end those that are open."""
        self._do(self._stop_listening())

    def come_back(self) -> None:
        """Listen again, at the same port."""
        self._do(self._listen())

    # The proxy ----------------------------------------------------------------------------------

    def _do(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(20)

    async def _open(self) -> None:
        connector = aiohttp.TCPConnector(ssl=self._tls, limit=0)
        self._session = aiohttp.ClientSession(connector=connector, auto_decompress=False)
        await self._listen()

    async def _close(self) -> None:
        await self._stop_listening()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        if self._session is not None:
            await self._session.close()
            # aiohttp closes TLS behind our back; its documentation asks for this grace.
            await asyncio.sleep(0.25)

    async def _listen(self) -> None:
        app = web.Application(client_max_size=_LIMIT)
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True)
        await site.start()
        assert site._server is not None
        self.port = site._server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]

    async def _stop_listening(self) -> None:
        await self._cut()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _cut(self) -> int:
        watches = dict(self._watches)
        for transport, task in watches.items():
            transport.abort()
            task.cancel()
        return len(watches)

    def _fault_of(self, request: Request) -> Fault | None:
        for fault in self._faults:
            if fault.times > 0 and fault.meets(request):
                fault.times -= 1
                return fault
        return None

    async def _answer(self, given: web.Request) -> web.StreamResponse:
        request = Request(given.method, given.path, dict(given.query), await given.read())
        self.listener(request)
        fault = self._fault_of(request) or Fault("", "")
        if fault.before is not None:
            await asyncio.to_thread(fault.before, request)
        if fault.status:
            self.seen.append((request, fault.status))
            return _refusal(request, fault)
        return await self._pass_on(given, request, fault)

    async def _pass_on(
        self, given: web.Request, request: Request, fault: Fault
    ) -> web.StreamResponse:
        assert self._session is not None
        headers = {k: v for k, v in given.headers.items() if k.lower() not in _HOP}
        try:
            async with self._session.request(
                given.method,
                f"{self.upstream}{given.raw_path}",
                headers=headers,
                data=request.body or None,
                skip_auto_headers=("Content-Type",),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=5),
            ) as answer:
                self.seen.append((request, answer.status))
                kept = {k: v for k, v in answer.headers.items() if k.lower() not in _HOP}
                if request.is_watch:
                    return await self._stream(given, answer, kept)
                body = await answer.read()
        except aiohttp.ClientError:
            return _refusal(request, Fault("", "", status=503))
        if fault.after is not None:
            await asyncio.to_thread(fault.after, request)
        if fault.lost and given.transport is not None:
            given.transport.abort()
        return web.Response(status=answer.status, headers=kept, body=body)

    async def _stream(
        self, given: web.Request, answer: aiohttp.ClientResponse, headers: dict[str, str]
    ) -> web.StreamResponse:
        response = web.StreamResponse(status=answer.status, headers=headers)
        transport = given.transport
        if transport is None:  # who asked is gone already
            return response
        task = asyncio.current_task()
        assert task is not None
        self._watches[transport] = task
        try:
            await response.prepare(given)
            async for chunk in answer.content.iter_any():
                await response.write(chunk)
        except (OSError, aiohttp.ClientError):
            transport.abort()
        finally:
            self._watches.pop(transport, None)
        return response


def _refusal(request: Request, fault: Fault) -> web.Response:
    """An error as the API server would put it; to a watch, 410 is told as an event."""
    reason, message = _STATUS.get(fault.status, ("ServiceUnavailable", "no answer"))
    status: dict[str, Any] = {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "code": fault.status,
        "reason": reason,
        "message": message,
    }
    if request.is_watch and fault.status == 410:
        return web.json_response({"type": "ERROR", "object": status})
    return web.json_response(status, status=fault.status, headers=fault.headers)


def server_of(kubeconfig: Path) -> tuple[str, ssl.SSLContext]:
    """The API server's URL, and how to be its administrator."""
    document = yaml.safe_load(kubeconfig.read_text())
    cluster = document["clusters"][0]["cluster"]
    user = document["users"][0]["user"]
    authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
    context = ssl.create_default_context(cadata=authority)
    with tempfile.NamedTemporaryFile() as file:  # OpenSSL takes certificates from nowhere else
        for part in ("client-certificate-data", "client-key-data"):
            file.write(base64.b64decode(user[part]))
        file.flush()
        context.load_cert_chain(file.name)
    return cluster["server"], context
