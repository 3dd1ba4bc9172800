"""One gateway: which handler a request goes to, and what becomes of errors."""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Final

from aiohttp import hdrs, web

from niximage.bucket.store import ObjectStore
from niximage.errors import NixImageError
from niximage.gateway import routes
from niximage.gateway.access import AccessLog
from niximage.gateway.backend import Backend, Limits
from niximage.gateway.facts import facts
from niximage.gateway.guard import Guard
from niximage.gateway.metrics import CONTENT_TYPE, Metrics
from niximage.gateway.problems import Problem
from niximage.gateway.protocol import Replayable, Replays, ReplayServer
from niximage.gateway.registry import METHODS, Registry

LOGGER = logging.getLogger("niximage.gateway")

RETRY_AFTER: Final = 5  # seconds after which a client may ask again
KEEP_ALIVE: Final = 75.0  # seconds that an idle connection stays open

_PROBES: Final = {"/healthz", "/readyz", "/metrics"}


class Gateway:
    """Answers requests from a bucket.

    Args:
        store: the bucket; the caller closes it.
        limits: what may be spent.
        metrics: what is counted.
        guard: who is let through; None for everybody.
        access_log: where each request gets a line; None for nowhere.
    """

    def __init__(
        self,
        store: ObjectStore,
        *,
        limits: Limits | None = None,
        metrics: Metrics | None = None,
        guard: Guard | None = None,
        access_log: AccessLog | None = None,
    ) -> None:
        self._limits = limits or Limits()
        self._metrics = metrics or Metrics()
        self._backend = Backend(store, self._limits, self._metrics)
        self._registry = Registry(self._backend)
        self._replays = Replays(self._limits.memory)
        self._guard = guard
        self._access_log = access_log
        self._draining = False
        self._metrics.memory.labels("answers").set_function(lambda: self._replays.used)

    def server(self) -> ReplayServer:
        """What makes the protocol of each connection; call it within the event loop."""
        server = ReplayServer(
            self.handle, replays=self._replays, ending=self, keepalive_timeout=KEEP_ALIVE
        )
        self._metrics.connections.set_function(lambda: len(server.connections))
        return server

    def drain(self) -> None:
        """Tell probes that no more requests should come; those that do are answered."""
        self._draining = True

    def close(self) -> None:
        """Stop what runs behind the requests."""
        self._backend.close()
        if self._access_log is not None:
            self._access_log.flush()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request; every failure is told in the form that registry clients read."""
        facts(request)
        self._metrics.in_flight.inc()
        try:
            response = await self._answer(request)
        except Problem as problem:
            response = problem.to_response()
        except NixImageError as error:
            LOGGER.warning("%s %s: %s", request.method, request.path, error)
            _must_not_have_begun(request, error)
            response = Problem(
                503,
                "UNAVAILABLE",
                "the registry cannot tell now: try again",
                headers={hdrs.RETRY_AFTER: str(RETRY_AFTER)},
            ).to_response()
        except (asyncio.CancelledError, ConnectionError):
            raise
        except Exception as error:
            LOGGER.exception("%s %s failed", request.method, request.path)
            _must_not_have_begun(request, error)
            response = Problem(500, "UNKNOWN", "the gateway failed").to_response()
        finally:
            self._metrics.in_flight.dec()
        if not response.prepared:
            _add_headers(request, response)
        return response

    def answered(
        self, request: web.BaseRequest, response: web.StreamResponse
    ) -> Callable[[str], None]:
        """Count an answer and log it; returns what does so for each replay of it."""
        known = facts(request)
        seconds = time.monotonic() - known.began
        counted = self._metrics.answered(request, response, known.kind, seconds)
        if self._access_log is None or request.path in _PROBES:
            return lambda _remote: counted()
        logged = self._access_log.answered(request, response, seconds)

        def again(remote: str) -> None:
            counted()
            logged(remote)

        return again

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        path = request.path
        if path == "/v2" or path.startswith("/v2/"):
            return await self._answer_registry(request)
        if path == "/token" and self._guard is not None:
            facts(request).kind = "token"
            _check_method(request, ("GET", "POST"))
            return await self._guard.token(request)
        if path in _PROBES:
            facts(request).kind = "probe"
            _check_method(request, METHODS)
            return await self._answer_probe(path)
        raise Problem(404, "UNSUPPORTED", "there is nothing of this name")

    async def _answer_registry(self, request: web.BaseRequest) -> web.StreamResponse:
        facts(request).kind = "registry"
        route: routes.Route | None = None
        until = float("inf")
        if request.method in METHODS:
            route = routes.route(request.path)
            facts(request).kind = type(route).__name__.lower()
        if self._guard is not None:
            admission = await self._guard.admit(request, getattr(route, "repository", None))
            facts(request).user, until = admission.user, admission.until
        if route is None:
            raise _method_not_allowed(
                METHODS, "this registry is read-only: images come from NixImage objects"
            )
        response = await self._registry.answer(request, route)
        if isinstance(response, Replayable):
            response.until = min(time.monotonic() + self._limits.lifetime, until)
        return response

    async def _answer_probe(self, path: str) -> web.Response:
        if path == "/metrics":
            response = web.Response(body=self._metrics.text())
            response.headers[hdrs.CONTENT_TYPE] = CONTENT_TYPE
            return response
        if path == "/readyz":
            if self._draining:
                raise Problem(503, "UNAVAILABLE", "the gateway is stopping")
            await self._backend.ready()
        return web.Response(text="ok\n")


def _add_headers(request: web.BaseRequest, response: web.StreamResponse) -> None:
    response.headers[hdrs.SERVER] = "niximage"
    if request.path.startswith("/v2"):
        response.headers["Docker-Distribution-Api-Version"] = "registry/2.0"


def _check_method(request: web.BaseRequest, allowed: tuple[str, ...]) -> None:
    if request.method not in allowed:
        raise _method_not_allowed(allowed, "this takes no such method")


def _method_not_allowed(allowed: tuple[str, ...], why: str) -> Problem:
    return Problem(405, "UNSUPPORTED", why, headers={hdrs.ALLOW: ", ".join(allowed)})


def _must_not_have_begun(request: web.BaseRequest, error: Exception) -> None:
    """Cut the connection if the answer was under way: a short blob must never look whole."""
    writer = request.writer
    if writer.buffer_size + writer.output_size > 0 and request.transport is not None:
        request.transport.abort()
        raise ConnectionResetError("the answer could not be finished") from error
