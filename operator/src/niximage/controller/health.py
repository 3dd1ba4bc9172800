"""The operator's own HTTP server: is it alive, is it ready, and its figures.

It answers before the operator acts, too: one that waits for the Lease is alive and ready to
take over. Alive means that a full list succeeded lately, for a watch that fell silent shows
nowhere else.
"""

import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Final

from aiohttp import web

from niximage.controller.metrics import CONTENT_TYPE, Metrics
from niximage.errors import Reason, Terminal

_DIGITS: Final = 5  # of a port


@dataclass
class Health:
    """How the operator is.

    Attributes:
        patience: seconds without a full list after which it counts as dead.
        acting: whether it holds the Lease.
        bucket: why the bucket cannot be used, or ""; looked at when the operator starts.
        listed: when all objects were listed last, in seconds of the clock; None: not yet.
    """

    patience: float
    clock: Callable[[], float] = time.monotonic
    acting: bool = False
    bucket: str = ""
    listed: float | None = None
    since: float = field(default=0.0)

    def __post_init__(self) -> None:
        """It begins now."""
        self.since = self.clock()

    @property
    def trouble(self) -> str:
        """Why it should be started again, or ""."""
        if not self.acting:
            return ""
        last = self.since if self.listed is None else self.listed
        silent = self.clock() - last
        return f"no full list for {silent:.0f} s" if silent > self.patience else ""

    @property
    def ready(self) -> bool:
        """Whether it does its work, or stands by to take over."""
        return not self.waits_for

    @property
    def waits_for(self) -> str:
        """Why it is not ready, or ""."""
        if self.trouble:
            return self.trouble
        if self.acting and self.listed is None:
            return "what there is was not listed yet"
        return self.bucket

    def began(self) -> None:
        """It holds the Lease from now on."""
        self.acting = True
        self.since = self.clock()

    def was_listed(self) -> None:
        """All objects were listed just now."""
        self.listed = self.clock()


@contextlib.asynccontextmanager
async def serve_health(listen: str | None, health: Health, metrics: Metrics) -> AsyncIterator[None]:
    """Answer at `host:port` while the body runs; nowhere without an address.

    Raises:
        Terminal: the address is none, or in use.
    """
    if not listen:
        yield
        return
    host, _, port = listen.rpartition(":")
    if not host or not port.isdecimal() or len(port) > _DIGITS:
        raise Terminal(
            Reason.INVALID_SPEC, f"{listen!r} is no address", hint="Write it as 0.0.0.0:8080"
        )
    app = web.Application()

    async def alive(_: web.Request) -> web.Response:
        return web.Response(text=health.trouble or "ok", status=503 if health.trouble else 200)

    async def ready(_: web.Request) -> web.Response:
        words = f"not ready: {health.waits_for}"
        return web.Response(
            text="ok" if health.ready else words, status=200 if health.ready else 503
        )

    async def figures(_: web.Request) -> web.Response:
        return web.Response(body=metrics.exposition(), headers={"Content-Type": CONTENT_TYPE})

    app.router.add_get("/healthz", alive)
    app.router.add_get("/readyz", ready)
    app.router.add_get("/metrics", figures)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host.strip("[]"), int(port)).start()
        except (OSError, OverflowError) as error:
            raise Terminal(
                Reason.INVALID_SPEC,
                f"cannot listen at {listen}: {getattr(error, 'strerror', None) or error}",
                hint="Choose another address with --listen",
            ) from None
        yield
    finally:
        await runner.cleanup()
