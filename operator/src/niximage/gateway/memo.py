"""Answers of slow functions, kept in memory within a bound and for a while.

A thousand nodes that ask for the same new image at once cost one look into the bucket: who
comes while an answer is on its way waits for it.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable
from typing import Final, Generic, TypeVar

from cachetools import TLRUCache

_OVERHEAD: Final = 512  # what an entry costs besides its value: key, dictionary, links

_Value = TypeVar("_Value")


class Memo(Generic[_Value]):
    """The answers used last, up to a bound. Used by one event loop only.

    Args:
        limit: the sum of all sizes that are kept.
        size: what an answer counts; one by default, so that the limit is a number of answers.
        lifetime: seconds that an answer is kept; 0 for one that must be asked for again.
    """

    def __init__(
        self,
        limit: int,
        *,
        lifetime: Callable[[_Value], float],
        size: Callable[[_Value], int] | None = None,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self._lifetime = lifetime
        self._size = size or (lambda _value: 1)
        self._kept: TLRUCache[Hashable, _Value] = TLRUCache(
            limit, lambda _key, value, now: now + lifetime(value), timer=timer, getsizeof=self._size
        )
        self._coming: dict[Hashable, asyncio.Task[_Value]] = {}

    @property
    def used(self) -> int:
        """The sum of the sizes of what is kept."""
        return int(self._kept.currsize)

    def peek(self, key: Hashable) -> _Value | None:
        """What is kept, or None; nothing is asked for."""
        return self._kept.get(key)

    def put(self, key: Hashable, value: _Value) -> None:
        """Keep an answer that is known already; one larger than the bound is not kept."""
        if self._lifetime(value) > 0 and self._size(value) <= self._kept.maxsize:
            self._kept[key] = value

    async def get(self, key: Hashable, load: Callable[[], Awaitable[_Value]]) -> _Value:
        """The answer, from memory or by asking; errors are not kept, and told to all who wait."""
        if (kept := self._kept.get(key)) is not None:
            return kept
        task = self._coming.get(key)
        if task is None:
            task = asyncio.ensure_future(self._load(key, load))
            self._coming[key] = task
            task.add_done_callback(_look_at)
        # Shielded: one who goes away must not take the answer from the others.
        return await asyncio.shield(task)

    async def _load(self, key: Hashable, load: Callable[[], Awaitable[_Value]]) -> _Value:
        try:
            value = await load()
            self.put(key, value)
            return value
        finally:
            del self._coming[key]


def size_of(value: bytes | str | None) -> int:
    """What an answer counts against a bound in bytes."""
    return _OVERHEAD + len(value or b"")


def _look_at(task: "asyncio.Task[_Value]") -> None:
    """Nobody may be left to hear of a failure; it is no surprise, then."""
    if not task.cancelled():
        task.exception()
