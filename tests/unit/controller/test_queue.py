"""The queue's promises: once, never twice at the same time, later means later."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from niximage.controller.queue import KeyedQueue


@pytest.fixture
def queue() -> KeyedQueue[str]:
    return KeyedQueue(backoff=0.01, backoff_limit=0.05, jitter=lambda: 0.0)


async def taken(queue: KeyedQueue[str]) -> str:
    return await asyncio.wait_for(queue.get(), 5)


async def test_a_key_added_often_is_given_out_once(queue: KeyedQueue[str]) -> None:
    for _ in range(3):
        queue.add("a")
    queue.add("b")
    assert [await taken(queue), await taken(queue)] == ["a", "b"]
    assert len(queue) == 0


async def test_a_busy_key_is_not_given_out_again_before_it_is_done(
    queue: KeyedQueue[str],
) -> None:
    queue.add("a")
    assert await taken(queue) == "a"
    queue.add("a")
    assert len(queue) == 0
    queue.done("a")
    assert await taken(queue) == "a"


async def test_a_delayed_key_comes_by_itself(queue: KeyedQueue[str]) -> None:
    started = asyncio.get_running_loop().time()
    queue.add_after("a", 0.02)
    assert len(queue) == 0
    assert await taken(queue) == "a"
    assert asyncio.get_running_loop().time() - started >= 0.02


async def test_the_earliest_of_several_delays_counts_and_only_once(
    queue: KeyedQueue[str],
) -> None:
    queue.add_after("a", 60)
    queue.add_after("a", 0.01)
    queue.add_after("a", 30)
    assert await taken(queue) == "a"
    queue.done("a")
    queue.add_after("b", 0.01)
    assert await taken(queue) == "b"
    assert len(queue) == 0


async def test_an_add_overtakes_a_delay(queue: KeyedQueue[str]) -> None:
    queue.add_after("a", 0.01)
    queue.add("a")
    assert await taken(queue) == "a"
    queue.done("a")
    queue.add_after("b", 0.02)
    assert await taken(queue) == "b", "the overtaken delay of a gives nothing"


async def test_times_that_no_longer_count_are_forgotten(queue: KeyedQueue[str]) -> None:
    for _ in range(5000):
        queue.add_after("a", 10_000)
        queue.add("a")
        queue.done(await taken(queue))
    queue.add_after("b", 0.01)
    assert await taken(queue) == "b"
    assert len(queue._delayed) < 1500


async def test_failures_wait_longer_and_longer_until_forgotten(queue: KeyedQueue[str]) -> None:
    delays = []
    for _ in range(5):
        delays.append(queue.add_failed("a"))
        assert await taken(queue) == "a"
        queue.done("a")
    assert delays == [0.01, 0.02, 0.04, 0.05, 0.05]
    queue.forget("a")
    assert queue.add_failed("a") == 0.01


async def test_who_asks_for_time_gets_it(queue: KeyedQueue[str]) -> None:
    assert queue.add_failed("a", at_least=0.2) == 0.2
    assert queue.add_failed("a", at_least=0.001) == 0.02


@given(st.lists(st.sampled_from(["add a", "add b", "get", "done a", "done b"]), max_size=60))
def test_no_key_is_lost_or_busy_twice(steps: list[str]) -> None:
    async def play() -> None:
        queue: KeyedQueue[str] = KeyedQueue()
        busy: set[str] = set()
        owed: set[str] = set()
        for step in steps:
            verb, _, key = step.partition(" ")
            if verb == "add":
                queue.add(key)
                owed.add(key)
            elif verb == "get" and len(queue):
                got = await queue.get()
                assert got not in busy
                busy.add(got)
                owed.remove(got)
            elif verb == "done" and key in busy:
                busy.remove(key)
                queue.done(key)
        for key in sorted(busy):
            queue.done(key)
        assert {await queue.get() for _ in range(len(queue))} == owed

    asyncio.run(play())


async def test_urgent_keys_come_first_and_in_their_order() -> None:
    urgent = {"new", "newer"}
    queue: KeyedQueue[str] = KeyedQueue(is_urgent=urgent.__contains__)
    for key in ("old", "new", "older", "newer"):
        queue.add(key)
    assert [await taken(queue) for _ in range(4)] == ["new", "newer", "old", "older"]


async def test_a_key_that_becomes_urgent_while_it_waits_is_given_out_once() -> None:
    urgent: set[str] = set()
    queue: KeyedQueue[str] = KeyedQueue(is_urgent=urgent.__contains__)
    for key in ("a", "b", "c"):
        queue.add(key)
    urgent.add("c")
    for _ in range(3):
        queue.add("c")  # its user edited it
    assert len(queue) == 3
    assert await taken(queue) == "c"
    queue.add("c")  # and once more while it is looked at
    assert await taken(queue) == "a"
    urgent.clear()
    queue.done("c")
    assert [await taken(queue), await taken(queue)] == ["b", "c"]
    assert len(queue) == 0


async def test_what_happens_meanwhile_does_not_end_a_wait_that_was_asked_for(
    queue: KeyedQueue[str],
) -> None:
    queue.add("a")
    await taken(queue)
    queue.add("a")  # an event, while the key is busy
    loop = asyncio.get_running_loop()
    begun = loop.time()
    queue.add_failed("a", at_least=0.2)
    queue.done("a")
    queue.add("a")  # ... and one afterwards
    assert await taken(queue) == "a"
    assert loop.time() - begun >= 0.2
    queue.done("a")
    queue.add("a")
    assert len(queue) == 1, "a wait that is over holds nothing up"
