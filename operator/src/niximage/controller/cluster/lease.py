"""One operator acts at a time: a Lease, taken, renewed, given back.

Who holds the Lease renews it every few seconds; who does not waits until it was not renewed for
its whole duration, by its own clock, so that clocks need not agree. A holder that cannot renew
in time stops at once, before another may take over, and its process ends: a new one starts
clean.
"""

import asyncio
import datetime as dt
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

from niximage.controller.cluster.connection import Conflict, NotThere
from niximage.errors import NixImageError, Reason, Retryable, Terminal

DURATION: Final = 10.0  # seconds that a Lease holds without a renewal
RENEW_EVERY: Final = 2.0  # seconds between renewals
LOOK_EVERY: Final = 1.0  # seconds between looks of who waits: twelve at most until it takes over
MARGIN: Final = 3.0  # seconds before the end of its time at which a holder gives up

Json = dict[str, Any]

log = logging.getLogger(__name__)


class Leases(Protocol):
    """What is asked of a cluster."""

    async def call(self, method: str, path: str, *, body: Json | None = None) -> Json:
        """Ask the API server for something."""
        ...


def lease_place(text: str) -> tuple[str, str] | None:
    """Namespace and name of a Lease as an option says it, `namespace/name`; None for "".

    Raises:
        Terminal: it is none.
    """
    if not text:
        return None
    namespace, _, name = text.partition("/")
    if not namespace or not name or "/" in name:
        raise Terminal(
            Reason.INVALID_SPEC, f"{text[:300]!r} is no Lease", hint="Write it as namespace/name"
        )
    return namespace, name


@dataclass(frozen=True, slots=True)
class Seen:
    """A Lease as it was first seen in this state.

    Attributes:
        holder: who holds it, or "" for nobody.
        version: its resourceVersion; it changes with each renewal.
        at: when it was first seen with this version, in seconds of our clock.
    """

    holder: str
    version: str
    at: float

    def is_free(self, now: float, duration: float = DURATION) -> bool:
        """Whether it may be taken: given back, or not renewed for its duration."""
        return not self.holder or now - self.at > duration


class Lease:
    """The right to act, for as long as it is renewed."""

    def __init__(
        self,
        cluster: Leases,
        *,
        namespace: str,
        name: str,
        holder: str,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Nothing is held.

        Args:
            cluster: where the Lease is.
            namespace: its namespace.
            name: its name.
            holder: who wants it; no two processes may share it.
            clock: seconds that only grow.
            sleep: waits for some seconds of it.
        """
        self._sleep = sleep
        self._cluster = cluster
        self._folder = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
        self._namespace = namespace
        self._name = name
        self._holder = holder
        self._clock = clock
        self._seen: Seen | None = None
        self._renewed = 0.0
        self._former: Json | None = None

    @property
    def acted_until(self) -> float | None:
        """When the holder before this one was at work last, in seconds since 1970.

        By its own clock; one that did not give the Lease back may have acted until its next
        renewal. None where nobody held the Lease before.
        """
        spec = (self._former or {}).get("spec") or {}
        try:
            renewed = dt.datetime.fromisoformat(spec["renewTime"]).timestamp()
        except (KeyError, TypeError, ValueError):
            return None
        return renewed + RENEW_EVERY if spec.get("holderIdentity") else renewed

    async def acquire(self) -> None:
        """Wait until the Lease is ours."""
        told = ""
        while True:
            try:
                if await self._try_to_take():
                    log.info("holding the Lease %s/%s", self._namespace, self._name)
                    return
                level, words = logging.INFO, "another operator is at work"
            except NixImageError as error:
                level, words = logging.WARNING, str(error)
            if words != told:  # not each second
                log.log(
                    level, "waiting for the Lease %s/%s: %s", self._namespace, self._name, words
                )
                told = words
            await self._sleep(LOOK_EVERY)

    async def hold(self) -> None:
        """Renew the Lease for ever.

        Raises:
            Retryable: it was lost, or could not be renewed in time.
        """
        while True:
            await self._sleep(RENEW_EVERY)
            end = self._renewed + DURATION - MARGIN
            try:
                async with asyncio.timeout(max(end - self._clock(), 0)):
                    is_ours = await self._renew_ours()
            except (NixImageError, TimeoutError) as error:
                if self._clock() >= end:
                    raise self._lost(str(error) or "no answer in time") from None
                log.warning("the Lease was not renewed, and is tried again: %s", error)
            else:
                if not is_ours:
                    raise self._lost("another operator has taken it")

    async def _renew_ours(self) -> bool:
        """Renew the Lease, or see that it is ours; False where somebody else has it."""
        try:
            await self._renew()
        except Conflict:  # with a write of ours whose reply was lost, or with somebody else's
            found = await self._cluster.call("GET", f"{self._folder}/{self._name}")
            self._seen = self._as_seen(found)
            return self._seen.holder == self._holder
        return True

    def _as_seen(self, found: Json) -> Seen:
        holder = (found.get("spec") or {}).get("holderIdentity") or ""
        return Seen(holder, found["metadata"]["resourceVersion"], self._clock())

    async def release(self) -> None:
        """Give the Lease back, so that another need not wait for its end."""
        if self._seen is None or self._seen.holder != self._holder:
            return
        try:
            async with asyncio.timeout(MARGIN):
                await self._write("")
        except (NixImageError, TimeoutError) as error:
            log.warning("the Lease was not given back: %s", error)

    async def _try_to_take(self) -> bool:
        try:
            found = await self._cluster.call("GET", f"{self._folder}/{self._name}")
        except NotThere:
            found = None
        if found is None:
            self._seen = None
        else:
            now = self._as_seen(found)
            if self._seen is None or self._seen.version != now.version:
                self._seen = now
            if self._seen.holder != self._holder and not self._seen.is_free(self._clock()):
                return False
        try:
            await self._renew()
        except Conflict:
            return False
        self._former = found
        return True

    async def _renew(self) -> None:
        before = self._clock()
        await self._write(self._holder)
        self._renewed = before  # the time counts from when we asked, not from the answer

    async def _write(self, holder: str) -> None:
        now = dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        body: Json = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": self._name, "namespace": self._namespace},
            "spec": {
                "holderIdentity": holder,
                "leaseDurationSeconds": int(DURATION),
                "renewTime": now,
            },
        }
        if self._seen is None:
            written = await self._cluster.call("POST", self._folder, body=body)
        else:
            body["metadata"]["resourceVersion"] = self._seen.version
            written = await self._cluster.call("PUT", f"{self._folder}/{self._name}", body=body)
        self._seen = Seen(holder, written["metadata"]["resourceVersion"], self._clock())

    def _lost(self, why: str) -> Retryable:
        return Retryable(
            Reason.CLUSTER_UNAVAILABLE,
            f"the Lease {self._namespace}/{self._name} is lost: {why}",
            hint="This process ends, so that no two operators act at once",
        )
