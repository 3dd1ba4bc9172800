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
from niximage.errors import NixImageError, Reason, Retryable

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
        waiting = False
        while True:
            try:
                if await self._try_to_take():
                    log.info("holding the Lease %s/%s", self._namespace, self._name)
                    return
            except NixImageError as error:
                log.warning("the Lease %s/%s: %s", self._namespace, self._name, error)
            if not waiting:
                log.info("another operator is at work; waiting for %s", self._name)
                waiting = True
            await self._sleep(LOOK_EVERY)

    async def hold(self) -> None:
        """Renew the Lease for ever.

        Raises:
            Retryable: it was lost, or could not be renewed in time.
        """
        while True:
            await self._sleep(RENEW_EVERY)
            left = self._renewed + DURATION - MARGIN - self._clock()
            try:
                async with asyncio.timeout(max(left, 0)):
                    await self._renew()
            except Conflict:
                await self._look_again()
            except (NixImageError, TimeoutError) as error:
                if self._clock() >= self._renewed + DURATION - MARGIN:
                    raise self._lost(str(error) or "no answer in time") from None
                log.warning("the Lease was not renewed, and is tried again: %s", error)

    async def _look_again(self) -> None:
        """A renewal met a newer Lease: one of ours, whose reply was lost, or somebody else's."""
        try:
            found = await self._cluster.call("GET", f"{self._folder}/{self._name}")
        except NixImageError as error:
            log.warning("the Lease was not renewed, and is tried again: %s", error)
            return
        holder = (found.get("spec") or {}).get("holderIdentity")
        if holder != self._holder:
            raise self._lost("another operator has taken it")
        self._seen = Seen(self._holder, found["metadata"]["resourceVersion"], self._clock())

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
            version = found["metadata"]["resourceVersion"]
            holder = (found.get("spec") or {}).get("holderIdentity") or ""
            if self._seen is None or self._seen.version != version:
                self._seen = Seen(holder, version, self._clock())
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
