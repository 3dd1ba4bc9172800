"""The gateway's memory is bounded, and its pages end."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from niximage.gateway.backend import page
from niximage.gateway.memory import Memory


def test_what_was_used_last_is_kept() -> None:
    memory = Memory(3 * 1512)
    for key in "abc":
        memory.put(key, b"x" * 1000)
    assert memory.get("a") is not None
    memory.put("d", b"x" * 1000)
    assert memory.get("b") is None
    assert [memory.get(key) is not None for key in "acd"] == [True, True, True]


def test_what_is_too_large_is_not_kept_and_pushes_nothing_out() -> None:
    memory = Memory(2000)
    memory.put("small", b"x")
    memory.put("large", b"x" * 2000)
    assert memory.get("large") is None
    assert memory.get("small") == b"x"


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 3000)), max_size=60))
def test_the_bound_holds(puts: list[tuple[int, int]]) -> None:
    memory = Memory(8000)
    for key, size in puts:
        memory.put(key, bytes(size))
        assert 0 <= memory.used <= 8000
    for key in range(10):
        value = memory.get(key)
        assert value is None or len(value) in {size for k, size in puts if k == key}


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
