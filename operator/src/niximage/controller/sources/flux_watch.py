"""The watch of Flux's sources, which come and go with Flux.

kopf watches what is there when it starts, and ends the process when that goes. Flux may be
installed long after the operator, updated, and removed; so its kinds have a watch of their own,
which begins when a kind is served and the operator may watch it, and whose end does no harm:
what is not watched is still looked up as often as `spec.interval` says.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Collection
from contextlib import aclosing
from typing import Any, Final, Protocol

from niximage.controller.cluster.connection import NotAllowed, NotThere
from niximage.controller.cluster.rights import may_watch
from niximage.errors import NixImageError
from niximage.source.flux import PLURALS

EVERY: Final = 60.0  # seconds between looks which kinds there are
DELAY: Final = 1.0  # seconds before a watch that failed is begun again; twice as long each time
DELAY_LIMIT: Final = 60.0

Json = dict[str, Any]

log = logging.getLogger(__name__)


class Asked(Protocol):
    """What is asked of a cluster."""

    async def may(self, attributes: Json) -> bool:
        """Whether the operator itself may do something, by the attributes of a resource."""
        ...

    async def kinds_of_flux(self) -> Collection[str]:
        """The plurals of the kinds that Flux's sources have here."""
        ...

    async def list_flux(self, plural: str, namespace: str) -> tuple[list[Json], str]:
        """The objects of a kind, in one namespace or in all, and the version of the list."""
        ...

    def watch_flux(
        self, plural: str, namespace: str, version: str
    ) -> AsyncGenerator[dict[str, Any], None]:
        """What changes in such a list, as {"type": …, "object": …}, until the watch ends."""
        ...


class FluxWatch:
    """Follows the kinds of Flux that there are. For one event loop."""

    def __init__(
        self,
        cluster: Asked,
        *,
        namespaces: tuple[str, ...],
        seen: Callable[[str, str, str], None],
        served: Callable[[str], None],
        every: float = EVERY,
    ) -> None:
        """Nothing is watched yet.

        Args:
            cluster: the API server.
            namespaces: the only ones to look into; none for all.
            seen: learns of each object that is new, changed or gone: its kind's plural, its
                namespace and its name. Neither blocks nor raises.
            served: learns of each kind, by its plural, that came or went.
            every: seconds between looks which kinds there are.
        """
        self._cluster = cluster
        self._namespaces = namespaces
        self._seen = seen
        self._served = served
        self._every = every
        self._there: frozenset[str] | None = None
        self._refused: set[str] = set()
        self._watches: dict[str, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Follow for ever."""
        try:
            while True:
                try:
                    await self._look()
                except NixImageError as error:
                    log.warning("which kinds Flux has is asked again: %s", error)
                await asyncio.sleep(self._every)
        finally:
            for watch in self._watches.values():
                watch.cancel()
            await asyncio.gather(*self._watches.values(), return_exceptions=True)

    async def _look(self) -> None:
        """Begin the watch of what is served and not watched, if that is allowed."""
        there = frozenset(PLURALS.values()) & frozenset(await self._cluster.kinds_of_flux())
        changed = frozenset() if self._there is None else self._there ^ there
        self._there = there
        for plural in sorted(changed):
            self._served(plural)
        self._watches = {name: task for name, task in self._watches.items() if not task.done()}
        for plural in sorted(there - set(self._watches)):
            if await may_watch(self._cluster, plural, self._namespaces):
                self._refused.discard(plural)
                log.info("watching %s", plural)
                self._watches[plural] = asyncio.create_task(self._watch(plural))
            elif plural not in self._refused:
                self._refused.add(plural)
                log.warning("%s are not watched: the operator may not list and watch them", plural)

    async def _watch(self, plural: str) -> None:
        """Watch one kind in all places, until it is served no more."""
        async with asyncio.TaskGroup() as group:
            for namespace in self._namespaces or ("",):
                group.create_task(self._watch_in(plural, namespace))

    async def _watch_in(self, plural: str, namespace: str) -> None:
        known: dict[tuple[str, str], str] = {}
        delay = DELAY
        while True:
            try:
                items, version = await self._cluster.list_flux(plural, namespace)
                listed = {_key(item): _version(item) for item in items}
                for key in sorted(known.keys() | listed.keys()):
                    if known.get(key) != listed.get(key):
                        self._seen(plural, *key)
                known, delay = listed, DELAY
                async with aclosing(self._cluster.watch_flux(plural, namespace, version)) as events:
                    async for event in events:
                        if event.get("type") == "ERROR":
                            break  # the version is too old: list again
                        self._learn(plural, event, known)
                pause = DELAY  # a server that ends each watch at once is not listed all the time
            except (NotThere, NotAllowed) as error:
                log.info("%s are no longer watched: %s", plural, error)
                return
            except NixImageError as error:
                log.warning("the watch of %s begins again in %.0f s: %s", plural, delay, error)
                pause, delay = delay, min(2 * delay, DELAY_LIMIT)
            await asyncio.sleep(pause)

    def _learn(self, plural: str, event: Json, known: dict[tuple[str, str], str]) -> None:
        """Learn of one change; a bookmark tells of none."""
        if event.get("type") not in {"ADDED", "MODIFIED", "DELETED"}:
            return
        key, version = _key(event["object"]), _version(event["object"])
        if event["type"] == "DELETED":
            known.pop(key, None)
        else:
            known[key] = version
        self._seen(plural, *key)


def _key(body: Json) -> tuple[str, str]:
    return str(body["metadata"]["namespace"]), str(body["metadata"]["name"])


def _version(body: Json) -> str:
    return str(body["metadata"].get("resourceVersion"))
