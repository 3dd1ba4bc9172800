"""Events on their way to the API server, behind everything that is worth more.

An Event is for people, who can wait for it a second; a status is what Deployments, Flux and the
next pass wait for. So Events are written one after the other beside the passes over images. What
cannot be written is dropped: the status says the same.
"""

import asyncio
import logging
from collections import deque
from typing import Any, Final, Protocol

from niximage.errors import NixImageError

LIMIT: Final = 10_000  # Events that wait; more are dropped
LAST_WORDS: Final = 3.0  # seconds for what still waits when the operator stops

Json = dict[str, Any]

log = logging.getLogger(__name__)


class Asked(Protocol):
    """What is asked of a cluster."""

    async def create_event(self, manifest: Json) -> None:
        """Create an Event."""
        ...


class Announcer:
    """Writes Events in their order. For one event loop."""

    def __init__(self, cluster: Asked, *, limit: int = LIMIT) -> None:
        """Nothing waits.

        Args:
            cluster: the API server.
            limit: how many Events may wait.
        """
        self._cluster = cluster
        self._limit = limit
        self._waiting: deque[Json] = deque()
        self._changed = asyncio.Event()
        self._dropped = 0

    def add(self, manifest: Json) -> None:
        """Have an Event written; never blocks."""
        if len(self._waiting) >= self._limit:
            self._dropped += 1
            return
        self._waiting.append(manifest)
        self._changed.set()

    async def run(self) -> None:
        """Write for ever; when cancelled, what still waits has a few seconds."""
        try:
            while True:
                await self._changed.wait()
                await self._write_all()
        except asyncio.CancelledError:
            # asyncio.timeout cannot tell in a cancelled task, with Python 3.11.2 of Debian 12
            last = asyncio.create_task(self._write_all())
            await asyncio.wait([last], timeout=LAST_WORDS)
            if last.cancel():
                log.warning("%d Events are lost: the operator stops", len(self._waiting))
            raise

    async def _write_all(self) -> None:
        while self._waiting:
            manifest = self._waiting[0]
            try:
                await self._cluster.create_event(manifest)
            except NixImageError as error:
                log.warning("no Event %s: %s", manifest["reason"], error)
            self._waiting.popleft()
        self._changed.clear()
        if self._dropped:
            log.warning("%d Events were dropped: too many at once", self._dropped)
            self._dropped = 0
