"""Which image is next: a queue of keys, as controllers use them.

A key that waits is there once, however often it is added. A key that is being worked on is
never given out a second time; added meanwhile, it comes again when it is done. So the number
of workers is the only bound on concurrency, and none of them races another over one image.
Keys that are urgent come first: somebody waits for a word about a new image, nobody for the
tenth look at an old one.
"""

import asyncio
import heapq
import random
from collections import deque
from collections.abc import Callable, Hashable
from typing import Final, Generic, TypeVar

_STALE: Final = 1000  # times that no longer count, and are kept in any case

Key = TypeVar("Key", bound=Hashable)


class KeyedQueue(Generic[Key]):
    """A deduplicating queue with delays and a backoff per key. For one event loop."""

    def __init__(
        self,
        *,
        backoff: float = 0.5,
        backoff_limit: float = 120.0,
        jitter: Callable[[], float] = random.random,
        is_urgent: Callable[[Key], bool] = lambda _: False,
    ) -> None:
        """Make an empty queue.

        Args:
            is_urgent: whether a key that is added comes before those that are not.
            backoff: seconds before a key's first retry; each further one waits twice as long.
            backoff_limit: the longest wait in seconds.
            jitter: a number from 0 to 1: how much of a tenth is added to each wait.
        """
        self._backoff = backoff
        self._backoff_limit = backoff_limit
        self._jitter = jitter
        self._is_urgent = is_urgent
        # A key that became urgent lies in both; what counts is whether it waits.
        self._urgent: dict[Key, None] = {}
        self._ready: deque[Key] = deque()
        self._waiting: set[Key] = set()
        self._busy: set[Key] = set()
        self._failures: dict[Key, int] = {}
        self._due: dict[Key, float] = {}  # the earliest delayed add of each key
        self._held: dict[Key, float] = {}  # until when somebody asked us to leave a key alone
        self._delayed: list[tuple[float, int, Key]] = []
        self._count = 0
        self._wakeup: asyncio.TimerHandle | None = None
        self._changed = asyncio.Event()

    def __len__(self) -> int:
        """How many keys are ready for a worker."""
        return len(self._waiting - self._busy)

    def add(self, key: Key) -> None:
        """Have a key worked on as soon as a worker is free, and nobody asked us to wait longer."""
        if key in self._held:
            remaining = self._held[key] - asyncio.get_running_loop().time()
            if remaining > 0:
                self.add_after(key, remaining)
                return
            del self._held[key]
        self._due.pop(key, None)
        is_new = key not in self._waiting
        self._waiting.add(key)
        if key in self._busy:
            return
        if self._is_urgent(key):
            self._urgent[key] = None
        elif is_new:
            self._ready.append(key)
        self._changed.set()

    def add_after(self, key: Key, delay: float) -> None:
        """Add a key in `delay` seconds; the earliest of several such requests counts."""
        if delay <= 0:
            self.add(key)
            return
        due = asyncio.get_running_loop().time() + delay
        if self._due.get(key, float("inf")) <= due or key in self._waiting:
            return
        self._due[key] = due
        self._count += 1
        heapq.heappush(self._delayed, (due, self._count, key))
        if len(self._delayed) > 2 * len(self._due) + _STALE:
            # A key that comes sooner leaves its former time behind, which may be weeks ahead.
            self._delayed = [each for each in self._delayed if self._due.get(each[2]) == each[0]]
            heapq.heapify(self._delayed)
        self._arm()

    def add_failed(self, key: Key, at_least: float = 0.0) -> float:
        """Add a key after its backoff, which doubles until `forget`.

        Args:
            key: what went wrong.
            at_least: seconds that somebody asked us to wait; nothing that happens meanwhile
                brings the key back sooner.

        Returns:
            The delay in seconds.
        """
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        delay = min(self._backoff * 2.0 ** min(failures, 32), self._backoff_limit)
        delay = max(delay, at_least)
        delay *= 1 + 0.1 * self._jitter()
        if at_least > 0:
            self._held[key] = asyncio.get_running_loop().time() + at_least
        self.add_after(key, delay)
        return delay

    def forget(self, key: Key) -> None:
        """A key went well: its backoff starts anew."""
        self._failures.pop(key, None)

    async def get(self) -> Key:
        """The next key; it is busy until `done`."""
        while True:
            while not self._urgent and not self._ready:
                self._changed.clear()
                await self._changed.wait()
            if self._urgent:
                del self._urgent[key := next(iter(self._urgent))]
            else:
                key = self._ready.popleft()
            if key in self._waiting and key not in self._busy:
                break
        self._waiting.discard(key)
        self._busy.add(key)
        return key

    def done(self, key: Key) -> None:
        """A worker is finished with a key."""
        self._busy.discard(key)
        if key in self._waiting:
            self._waiting.discard(key)
            self.add(key)

    def _arm(self) -> None:
        """Set the one timer to the earliest delayed key."""
        if self._wakeup is not None:
            self._wakeup.cancel()
            self._wakeup = None
        if self._delayed:
            loop = asyncio.get_running_loop()
            self._wakeup = loop.call_at(self._delayed[0][0], self._release)

    def _release(self) -> None:
        now = asyncio.get_running_loop().time()
        while self._delayed and self._delayed[0][0] <= now:
            due, _, key = heapq.heappop(self._delayed)
            if self._due.get(key) == due:  # else: overtaken by an earlier add
                self.add(key)
        self._arm()
