"""The gateway's memory is bounded, forgets in time, and asks once."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from niximage.gateway.backend import page
from niximage.gateway.memo import Memo


def memo(limit: int, *, lifetime: float = 10, now: list[float] | None = None) -> Memo[bytes]:
    clock = now if now is not None else [0.0]
    return Memo(limit, lifetime=lambda _: lifetime, size=len, timer=lambda: clock[0])


def test_what_was_used_last_is_kept() -> None:
    kept = memo(3000)
    for key in "abc":
        kept.put(key, bytes(1000))
    assert kept.peek("a") is not None
    kept.put("d", bytes(1000))
    assert [kept.peek(key) is not None for key in "abcd"] == [True, False, True, True]


def test_what_is_too_large_is_not_kept_and_pushes_nothing_out() -> None:
    kept = memo(2000)
    kept.put("small", b"x")
    kept.put("large", bytes(2001))
    assert (kept.peek("large"), kept.peek("small")) == (None, b"x")


def test_what_is_old_is_forgotten() -> None:
    now = [0.0]
    kept = memo(2000, lifetime=10, now=now)
    kept.put("it", b"x")
    now[0] = 9.9
    assert kept.peek("it") == b"x"
    now[0] = 10.1
    assert kept.peek("it") is None


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 3000)), max_size=60))
def test_the_bound_holds(puts: list[tuple[int, int]]) -> None:
    kept = memo(8000)
    for key, size in puts:
        kept.put(key, bytes(size))
        assert 0 <= kept.used <= 8000
    for key in range(10):
        value = kept.peek(key)
        assert value is None or len(value) in {size for k, size in puts if k == key}


async def test_those_who_ask_at_once_cost_one_question() -> None:
    kept, asked, answer = memo(1000), [], asyncio.Event()

    async def load() -> bytes:
        asked.append(1)
        await answer.wait()
        return b"it"

    waiting = [asyncio.create_task(kept.get("key", load)) for _ in range(100)]
    await asyncio.sleep(0)
    waiting[0].cancel()  # who asked first goes away
    await asyncio.sleep(0)
    answer.set()
    assert await asyncio.gather(*waiting[1:]) == [b"it"] * 99
    assert await kept.get("key", load) == b"it"
    assert len(asked) == 1


async def test_a_failure_is_told_to_all_and_not_kept() -> None:
    kept = memo(1000)

    async def fail() -> bytes:
        raise OSError("no")

    async def load() -> bytes:
        return b"it"

    results = await asyncio.gather(
        *(kept.get("key", fail) for _ in range(3)), return_exceptions=True
    )
    assert [str(result) for result in results] == ["no"] * 3
    assert await kept.get("key", load) == b"it"


async def test_what_has_no_lifetime_is_asked_for_each_time() -> None:
    kept = memo(1000, lifetime=0)
    answers = iter([b"one", b"two"])

    async def load() -> bytes:
        return next(answers)

    assert [await kept.get("key", load) for _ in range(2)] == [b"one", b"two"]


@pytest.mark.parametrize(
    ("last", "limit", "shown", "more"),
    [
        (None, 10, ["a", "b", "c"], False),
        (None, 3, ["a", "b", "c"], False),
        (None, 2, ["a", "b"], True),
        (None, 0, [], True),
        ("b", 10, ["c"], False),
        ("c", 10, [], False),
        ("aa", 1, ["b"], True),
    ],
)
def test_pages(last: str | None, limit: int, shown: list[str], more: bool) -> None:
    assert page(["a", "b", "c"], last=last, limit=limit) == (shown, more)


@given(st.sets(st.text("abc", min_size=1, max_size=4)), st.integers(1, 5))
def test_pages_together_are_all_names(names: set[str], limit: int) -> None:
    ordered, seen, last = sorted(names), list[str](), None
    while True:
        shown, more = page(ordered, last=last, limit=limit)
        seen += shown
        if not more:
            break
        last = shown[-1]
    assert seen == ordered
