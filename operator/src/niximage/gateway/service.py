"""Listening, TLS, and a stop that lets pulls under way finish."""

import asyncio
import contextlib
import logging
import signal
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from aiohttp import web

from niximage.bucket.store import ObjectStore
from niximage.errors import Reason, Terminal
from niximage.gateway.access import AccessLog
from niximage.gateway.app import Gateway
from niximage.gateway.authority import Authority, RememberingAuthority
from niximage.gateway.backend import Limits
from niximage.gateway.guard import Guard
from niximage.gateway.metrics import Metrics
from niximage.gateway.tls import Certificate
from niximage.gateway.tokens import KEY_SIZE, Tokens

LOGGER = logging.getLogger("niximage.gateway")

SHUTDOWN_TIMEOUT: Final = 20.0  # seconds for pulls under way; kubelets wait 30
BACKLOG: Final = 1024  # connections that wait to be taken


@dataclass(frozen=True, slots=True)
class Options:
    """How a bucket is served.

    Attributes:
        host: the address to listen at.
        port: the port, or 0 for a free one.
        certificate: a PEM file with the chain; without it plain HTTP is spoken.
        key: a PEM file with the certificate's key.
        url: what clients call this gateway, where that is not the Host header they send.
        token_key: what signs tokens; the same for all gateways behind one name.
        drain: seconds between the first word of a stop and the last connection taken.
        limits: what may be spent.
    """

    host: str = "127.0.0.1"
    port: int = 5000
    certificate: Path | None = None
    key: Path | None = None
    url: str = ""
    token_key: bytes = b""
    drain: float = 0.0
    limits: Limits = field(default_factory=Limits)


async def serve(
    store: ObjectStore,
    options: Options,
    *,
    authority: Authority | None = None,
    access_log: AccessLog | None = None,
    stop: asyncio.Event | None = None,
    on_start: Callable[[str], None] | None = None,
) -> None:
    """Serve a bucket until told to stop; pulls under way may finish.

    Args:
        store: the bucket; the caller closes it.
        options: where, and how.
        authority: who knows people; None lets everybody pull everything.
        access_log: where each request gets a line.
        stop: ends the service when set; without it SIGTERM and SIGINT do.
        on_start: called with the URL once requests are taken.

    Raises:
        Terminal: the address cannot be listened on, or the certificate not be used.
    """
    if stop is None:
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
    metrics = Metrics()
    gateway = Gateway(
        store,
        limits=options.limits,
        metrics=metrics,
        guard=_guard(authority, options, metrics),
        access_log=access_log,
    )
    try:
        async with _tls(options, metrics) as context, _listening(gateway, options, context) as url:
            LOGGER.info("serving %s at %s", store.url, url)
            if on_start is not None:
                on_start(url)
            await stop.wait()
            gateway.drain()
            LOGGER.info("stopping: pulls under way have %g s to finish", SHUTDOWN_TIMEOUT)
            await asyncio.sleep(options.drain)
    finally:
        gateway.close()


def _guard(authority: Authority | None, options: Options, metrics: Metrics) -> Guard | None:
    if authority is None:
        return None
    key = options.token_key
    if len(key) < KEY_SIZE:
        raise Terminal(
            Reason.INVALID_SPEC,
            f"the key that signs tokens has {len(key)} bytes",
            hint=f"Give at least {KEY_SIZE} random ones: head -c {KEY_SIZE} /dev/urandom > FILE",
        )
    remembering = RememberingAuthority(
        authority, lambda result: metrics.credentials.labels(result).inc()
    )
    return Guard(remembering, Tokens(key), options.url)


@contextlib.asynccontextmanager
async def _tls(options: Options, metrics: Metrics) -> AsyncIterator[ssl.SSLContext | None]:
    if options.certificate is None or options.key is None:
        yield None
        return
    certificate = Certificate(options.certificate, options.key, metrics.certificate_expiry.set)
    watching = asyncio.create_task(certificate.watch())
    try:
        yield certificate.context
    finally:
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching


@contextlib.asynccontextmanager
async def _listening(
    gateway: Gateway, options: Options, context: ssl.SSLContext | None
) -> AsyncIterator[str]:
    """The URL at which requests are taken; at the end those under way may finish."""
    host = options.host
    runner = web.ServerRunner(gateway.server(), shutdown_timeout=SHUTDOWN_TIMEOUT)
    await runner.setup()
    try:
        try:
            site = web.TCPSite(runner, host, options.port, ssl_context=context, backlog=BACKLOG)
            await site.start()
        except (OSError, OverflowError) as error:
            raise Terminal(
                Reason.INVALID_SPEC,
                f"cannot listen on {host}:{options.port}: {error}",
                hint="Choose another address or port, or stop what has it",
            ) from None
        bound = runner.addresses[0][1]
        scheme = "http" if context is None else "https"
        yield f"{scheme}://{f'[{host}]' if ':' in host else host}:{bound}"
    finally:
        await runner.cleanup()
