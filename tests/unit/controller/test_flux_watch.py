"""Flux's kinds are followed once they are there, and no end of a watch ends more than itself."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from typing import Any

import pytest

from niximage.controller.cluster.connection import NotThere
from niximage.controller.sources import flux_watch
from niximage.controller.sources.flux_watch import FluxWatch
from niximage.errors import Reason, Retryable

GIT, EXTERNAL = "gitrepositories", "externalartifacts"
Json = dict[str, Any]


def an_object(name: str, version: int) -> Json:
    return {"metadata": {"namespace": "team-a", "name": name, "resourceVersion": str(version)}}


class Flux:
    """A cluster with Flux, or without, and what its watch tells."""

    def __init__(self) -> None:
        self.kinds: set[str] = set()
        self.allowed = True
        self.objects: list[Json] = []
        self.refusals: list[Retryable] = []  # of the next lists, the last first
        self.events: asyncio.Queue[Json | None] = asyncio.Queue()  # None: the watch ends
        self.seen: list[str] = []
        self.served: list[str] = []
        self.lists = 0
        self.looks = 0

    async def may(self, attributes: Json) -> bool:
        return self.allowed

    async def kinds_of_flux(self) -> set[str]:
        self.looks += 1
        return self.kinds | {"buckets"}

    async def list_flux(self, plural: str, namespace: str) -> tuple[list[Json], str]:
        self.lists += 1
        if self.refusals:
            raise self.refusals.pop()
        if plural not in self.kinds:
            raise NotThere(Reason.CLUSTER_UNAVAILABLE, "404")
        return list(self.objects), "7"

    async def watch_flux(
        self, plural: str, namespace: str, version: str
    ) -> AsyncGenerator[Json, None]:
        while (event := await self.events.get()) is not None:
            yield event

    async def until(self, wanted: Callable[[], bool]) -> None:
        """Let the watch go on until something is so."""
        for _ in range(5000):
            if wanted():
                return
            await asyncio.sleep(0.001)
        raise AssertionError(f"not so: {self.seen} {self.served}")

    def watch(self, *namespaces: str) -> FluxWatch:
        return FluxWatch(
            self,
            namespaces=namespaces,
            seen=lambda _plural, _namespace, name: self.seen.append(name),
            served=self.served.append,
            every=0.001,
        )


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is begun again is so after hundredths of seconds."""
    monkeypatch.setattr(flux_watch, "DELAY", 0.05)


@pytest.fixture
async def flux() -> Any:
    """Flux, with GitRepositories, and a watch of it."""
    found = Flux()
    found.kinds = {GIT}
    found.objects = [an_object("one", 1)]
    task = asyncio.create_task(found.watch().run())
    yield found
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_what_there_is_and_what_changes_is_told(flux: Flux) -> None:
    await flux.until(lambda: flux.seen == ["one"])
    for kind, name in (
        ("ADDED", "two"),
        ("MODIFIED", "two"),
        ("BOOKMARK", "x"),
        ("DELETED", "one"),
    ):
        await flux.events.put({"type": kind, "object": an_object(name, 2)})
    await flux.until(lambda: len(flux.seen) == 4)
    assert flux.seen == ["one", "two", "two", "one"]
    assert flux.served == [], "what was there at the start is no news"


@pytest.mark.parametrize("end", [None, {"type": "ERROR", "object": {"code": 410}}])
async def test_a_new_list_tells_what_changed_meanwhile_and_what_has_gone(
    flux: Flux, end: Json | None
) -> None:
    flux.objects = [an_object("one", 1), an_object("two", 2)]
    await flux.events.put(None)
    await flux.until(lambda: "two" in flux.seen)
    flux.objects = [an_object("two", 2), an_object("three", 3)]
    await flux.events.put(end)
    await flux.until(lambda: len(flux.seen) == 4)
    assert flux.seen == ["one", "two", "one", "three"]


async def test_a_kind_that_comes_is_watched_and_told_of_and_one_that_goes_is_told_of() -> None:
    flux = Flux()
    task = asyncio.create_task(flux.watch().run())
    await flux.until(lambda: flux.looks > 2)
    assert flux.lists == 0
    flux.objects, flux.kinds = [an_object("one", 1)], {EXTERNAL}
    await flux.until(lambda: flux.seen == ["one"])
    assert flux.served == [EXTERNAL]
    flux.kinds = set()
    await flux.events.put(None)
    await flux.until(lambda: flux.served == [EXTERNAL, EXTERNAL] and flux.lists == 2)
    flux.kinds = {EXTERNAL}
    await flux.until(lambda: flux.seen == ["one", "one"])
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_what_may_not_be_watched_is_said_once_and_watched_when_it_may(
    caplog: pytest.LogCaptureFixture,
) -> None:
    flux = Flux()
    flux.kinds, flux.allowed, flux.objects = {GIT}, False, [an_object("one", 1)]
    task = asyncio.create_task(flux.watch("team-a", "team-b").run())
    await flux.until(lambda: flux.looks > 2)
    assert flux.lists == 0
    assert caplog.text.count("gitrepositories are not watched") == 1
    flux.allowed = True
    await flux.until(lambda: flux.seen == ["one", "one"])  # a watch of each namespace
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_server_that_is_away_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("niximage.controller.sources.flux_watch.DELAY", 0.001)
    flux = Flux()
    flux.kinds, flux.objects = {GIT}, [an_object("one", 1)]
    flux.refusals = [Retryable(Reason.CLUSTER_UNAVAILABLE, "503") for _ in range(3)]
    task = asyncio.create_task(flux.watch().run())
    await flux.until(lambda: flux.seen == ["one"])
    assert flux.lists == 4
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_server_that_ends_each_watch_at_once_is_not_listed_all_the_time(
    flux: Flux,
) -> None:
    began = time.monotonic()
    for _ in range(100):
        await flux.events.put({"type": "ERROR", "object": {"code": 500}})
    await flux.until(lambda: flux.lists == 4)
    assert time.monotonic() - began >= 3 * 0.05
