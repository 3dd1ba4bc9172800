"""The application: routes, errors to answers, start and stop."""

import asyncio
import logging
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

from aiohttp import hdrs, web

from niximage.bucket.store import ObjectStore
from niximage.errors import NixImageError, Reason, Terminal
from niximage.gateway.access import LOGGER as ACCESS
from niximage.gateway.access import JsonAccessLogger
from niximage.gateway.backend import CALL_TIMEOUT, MEMORY_LIMIT, THREADS, Backend
from niximage.gateway.problems import Problem
from niximage.gateway.registry import Registry

LOGGER = logging.getLogger("niximage.gateway")

RETRY_AFTER: Final = 5  # seconds after which a client may ask again
SHUTDOWN_TIMEOUT: Final = 20.0  # seconds for pulls under way; kubelets wait 30

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def create_app(
    store: ObjectStore,
    *,
    threads: int = THREADS,
    memory_limit: int = MEMORY_LIMIT,
    call_timeout: float = CALL_TIMEOUT,
) -> web.Application:
    """The gateway over a bucket.

    Args:
        store: the bucket; the caller closes it.
        threads: how many calls to the bucket may be under way.
        memory_limit: bytes of manifests and links kept in memory.
        call_timeout: seconds that one call to the bucket may take.

    Returns:
        An application that serves `/v2/`, `/healthz` (this process lives) and `/readyz` (the
        bucket answers).
    """
    backend = Backend(store, threads=threads, memory_limit=memory_limit, timeout=call_timeout)

    async def health(_request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readiness(_request: web.Request) -> web.Response:
        await backend.ready()
        return web.Response(text="ok\n")

    async def close_backend(_app: web.Application) -> AsyncIterator[None]:
        yield
        backend.close()

    app = web.Application(middlewares=[_problems])
    app.router.add_get("/healthz", health)
    app.router.add_get("/readyz", readiness)
    registry = Registry(backend)
    app.router.add_route("*", "/v2", registry.handle)
    app.router.add_route("*", "/v2/{rest:.*}", registry.handle)
    app.on_response_prepare.append(_add_version)
    app.cleanup_ctx.append(close_backend)
    return app


async def serve(
    store: ObjectStore,
    host: str,
    port: int,
    *,
    stop: asyncio.Event | None = None,
    on_start: Callable[[str], None] | None = None,
) -> None:
    """Serve a bucket until told to stop; pulls under way may finish.

    Args:
        store: the bucket; the caller closes it.
        host: the address to listen on.
        port: the port, or 0 for a free one.
        stop: ends the service when set; without it SIGTERM and SIGINT do.
        on_start: called with the URL once requests are taken.

    Raises:
        Terminal: the address cannot be listened on.
    """
    if stop is None:
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
    runner = web.AppRunner(
        create_app(store),
        access_log=ACCESS,
        access_log_class=JsonAccessLogger,
        shutdown_timeout=SHUTDOWN_TIMEOUT,
    )
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host, port).start()
        except (OSError, OverflowError) as error:
            raise Terminal(
                Reason.INVALID_SPEC,
                f"cannot listen on {host}:{port}: {error}",
                hint="Choose another address or port, or stop what has it",
            ) from None
        bound = runner.addresses[0][1]
        url = f"http://{f'[{host}]' if ':' in host else host}:{bound}"
        LOGGER.info("serving %s at %s", store.url, url)
        if on_start is not None:
            on_start(url)
        await stop.wait()
        LOGGER.info("stopping: pulls under way have %g s to finish", SHUTDOWN_TIMEOUT)
    finally:
        await runner.cleanup()


async def _add_version(request: web.Request, response: web.StreamResponse) -> None:
    if request.path.startswith("/v2"):
        response.headers["Docker-Distribution-Api-Version"] = "registry/2.0"


@web.middleware
async def _problems(request: web.Request, handler: _Handler) -> web.StreamResponse:
    """Tell every failure in the form that registry clients read."""
    try:
        return await handler(request)
    except Problem as problem:
        return problem.to_response()
    except web.HTTPException as error:
        allow = error.headers.get(hdrs.ALLOW)
        headers: dict[str, str] = {} if allow is None else {hdrs.ALLOW: allow}
        return Problem(error.status, "UNSUPPORTED", error.reason, headers=headers).to_response()
    except NixImageError as error:
        LOGGER.warning("%s %s: %s", request.method, request.path, error)
        _must_not_have_begun(request, error)
        return Problem(
            503,
            "UNAVAILABLE",
            "the bucket cannot be read now",
            headers={hdrs.RETRY_AFTER: str(RETRY_AFTER)},
        ).to_response()
    except (asyncio.CancelledError, ConnectionError):
        raise
    except Exception as error:
        LOGGER.exception("%s %s failed", request.method, request.path)
        _must_not_have_begun(request, error)
        return Problem(500, "UNKNOWN", "the gateway failed").to_response()


def _must_not_have_begun(request: web.Request, error: Exception) -> None:
    """Cut the connection if the answer was under way: a short blob must never look whole."""
    if (
        request.writer.buffer_size + request.writer.output_size > 0
        and request.transport is not None
    ):
        request.transport.abort()
        raise ConnectionResetError("the answer could not be finished") from error
