"""Probes, figures and rights: what an admin and a cluster see of the operator itself."""

import asyncio
from typing import Any

import pytest

from niximage.controller.cache import Cache
from niximage.controller.cluster.lease import lease_place
from niximage.controller.cluster.rights import check_rights
from niximage.controller.health import Health, serve_health
from niximage.controller.metrics import Metrics
from niximage.controller.run import _look_at
from niximage.errors import Terminal
from support.memory_store import MemoryStore
from unit.controller.states import nix_image, ready


class Clock:
    now = 0.0


def health(patience: float = 100) -> tuple[Health, Clock]:
    clock = Clock()
    return Health(patience=patience, clock=lambda: clock.now), clock


def test_who_waits_for_the_lease_is_alive_and_ready() -> None:
    waiting, clock = health()
    clock.now = 1e6
    assert waiting.ready
    assert waiting.trouble == ""


def test_who_acts_is_ready_once_it_knows_all() -> None:
    acting, _ = health()
    acting.began()
    assert not acting.ready
    acting.was_listed()
    assert acting.ready


def test_a_bucket_that_cannot_be_used_is_why_it_is_not_ready() -> None:
    acting, _ = health()
    acting.began()
    assert acting.waits_for == "what there is was not listed yet"
    acting.was_listed()
    acting.bucket = "the bucket gs://images cannot be used: 403"
    assert not acting.ready
    assert acting.waits_for == "the bucket gs://images cannot be used: 403"
    assert acting.trouble == "", "a restart would not help"
    acting.bucket = ""
    assert acting.ready


def test_who_lists_no_more_is_dead() -> None:
    acting, clock = health()
    acting.began()
    acting.was_listed()
    clock.now = 101
    assert acting.trouble == "no full list for 101 s"
    acting.was_listed()
    assert acting.trouble == ""


@pytest.mark.parametrize(
    "listen", ["8080", ":8080", "127.0.0.1:http", "127.0.0.1", "127.0.0.1:100000"]
)
async def test_an_address_that_is_none_is_refused(listen: str) -> None:
    with pytest.raises(Terminal, match="is no address"):
        async with serve_health(listen, health()[0], Metrics()):
            pass


async def test_a_port_that_nobody_has_is_told() -> None:
    with pytest.raises(Terminal, match=r"^cannot listen at 127\.0\.0\.1:99999"):
        async with serve_health("127.0.0.1:99999", health()[0], Metrics()):
            pass


def test_figures_tell_of_builds_once() -> None:
    metrics = Metrics()
    metrics.watch(Cache(), lambda: 3, lambda: 2)
    before, after = nix_image().status, ready().status
    metrics.changed(before, after)
    metrics.changed(after, after)
    text = metrics.exposition().decode()
    assert "niximage_published_bytes_total 2000.0" in text
    assert "niximage_queue_depth 3.0" in text
    assert "niximage_builds_waiting 2.0" in text
    assert "niximage_builds_running 0.0" in text


class Reviews:
    """Grants all but some."""

    def __init__(self, *denied: str) -> None:
        self.denied = denied
        self.asked: list[str] = []

    async def may(self, attributes: dict[str, Any]) -> bool:
        self.asked.append(attributes["namespace"])
        return f"{attributes['verb']} {attributes['resource']}" not in self.denied


async def test_each_missing_right_is_named() -> None:
    with pytest.raises(Terminal) as caught:
        await check_rights(Reviews("create jobs", "watch niximages"), ())
    assert "create jobs.batch" in str(caught.value)
    assert "watch niximages.niximage.dev" in str(caught.value)
    assert "list" not in str(caught.value)


async def test_rights_are_asked_where_they_are_needed() -> None:
    reviews = Reviews("list nixbuildclasses")
    await check_rights(reviews, ("a", "b"))
    assert set(reviews.asked) == {"a", "b"}


async def test_the_right_to_hold_the_lease_is_asked_for_where_there_is_one() -> None:
    await check_rights(Reviews("update leases"), ())
    with pytest.raises(Terminal, match=r"may not: update leases\.coordination\.k8s\.io in system"):
        await check_rights(Reviews("update leases"), (), ("system", "operator"))


@pytest.mark.parametrize("place", ["operator", "/operator", "system/", "system/operator/x"])
def test_a_lease_is_a_namespace_and_a_name(place: str) -> None:
    with pytest.raises(Terminal, match="is no Lease"):
        lease_place(place)
    assert lease_place("") is None
    assert lease_place("system/operator") == ("system", "operator")


async def test_whatever_is_wrong_with_the_bucket_is_told() -> None:
    class Broken(MemoryStore):
        url = "memory:"

        def __getattribute__(self, name: str) -> Any:
            if name == "url":
                return "memory:"
            raise RuntimeError("a bug")

    health = Health(patience=1)
    looking = asyncio.create_task(_look_at(Broken(), health))
    async with asyncio.timeout(10):
        while "a bug" not in health.bucket:  # noqa: ASYNC110 (an attribute tells no event)
            await asyncio.sleep(0.01)
    assert health.waits_for == "the bucket memory: cannot be used: a bug"
    looking.cancel()
