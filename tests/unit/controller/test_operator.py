"""Which images an event wakes: all that it concerns, and none because of our own writes."""

import asyncio
from typing import Any

import pytest

from niximage.api.image import PLURAL
from niximage.controller.health import Health
from niximage.controller.metrics import Metrics
from niximage.controller.operator import Operator
from niximage.controller.stored import Key
from support.memory_store import MemoryStore
from unit.controller.states import SETTINGS
from unit.controller.world import World


@pytest.fixture
def operator() -> Operator:
    health = Health(patience=1)
    cluster: Any = World()  # it is not asked
    return Operator(cluster, MemoryStore(), SETTINGS, metrics=Metrics(), health=health)


def image(name: str, version: int, **spec: Any) -> dict[str, Any]:
    return {
        "metadata": {
            "name": name,
            "namespace": "team-a",
            "uid": f"u-{name}",
            "generation": 1,
            "resourceVersion": str(version),
        },
        "spec": {
            "packages": ["hello"],
            "source": {"nixpkgs": {"channel": "nixos-26.05"}},
            **spec,
        },
    }


def woken(operator: Operator) -> set[Key]:
    """The images that wait to be looked at, taken off the queue."""

    async def take() -> set[Key]:
        keys = {await operator._queue.get() for _ in range(len(operator._queue))}
        for key in keys:
            operator._queue.done(key)
        return keys

    return asyncio.run(take())


def modified(operator: Operator, body: dict[str, Any]) -> set[Key]:
    operator.seen(PLURAL, {"type": "MODIFIED", "object": body})
    return woken(operator)


WEB, ABOVE = ("team-a", "web"), ("team-a", "above")


def test_news_wake_an_image_and_those_that_are_based_on_it(operator: Operator) -> None:
    assert modified(operator, image("web", 1)) == {WEB}
    assert modified(operator, image("above", 2, base={"niximage": {"name": "web"}})) == {ABOVE}
    assert modified(operator, image("web", 3)) == {WEB, ABOVE}
    operator.seen(PLURAL, {"type": "DELETED", "object": image("web", 3)})
    assert woken(operator) == {WEB, ABOVE}


def test_the_echo_of_our_own_write_wakes_only_those_that_are_based_on_it(
    operator: Operator,
) -> None:
    modified(operator, image("web", 1))
    modified(operator, image("above", 2, base={"niximage": {"name": "web"}}))
    assert modified(operator, image("above", 2, base={"niximage": {"name": "web"}})) == set()
    assert modified(operator, image("web", 1)) == {ABOVE}


def test_an_event_that_is_none_wakes_nobody_and_is_told(
    operator: Operator, caplog: pytest.LogCaptureFixture
) -> None:
    operator.seen(PLURAL, {"type": "ERROR", "object": {"code": 500}})
    assert woken(operator) == set()
    assert "not understood" in caplog.text
