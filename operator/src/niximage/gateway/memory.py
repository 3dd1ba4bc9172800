"""What the gateway keeps in memory: answers that can never change, within a bound."""

from collections import OrderedDict
from collections.abc import Hashable
from typing import Final

_OVERHEAD: Final = 512  # bytes that an entry costs besides its value: key, dictionary, headers


class Memory:
    """The values used last, up to so many bytes. Used by one event loop only."""

    def __init__(self, limit: int) -> None:
        """Takes the bound in bytes."""
        self._limit = limit
        self._used = 0
        self._values: OrderedDict[Hashable, bytes] = OrderedDict()

    @property
    def used(self) -> int:
        """Bytes that are counted against the bound."""
        return self._used

    def get(self, key: Hashable) -> bytes | None:
        """The value, which then counts as used just now."""
        value = self._values.get(key)
        if value is not None:
            self._values.move_to_end(key)
        return value

    def put(self, key: Hashable, value: bytes) -> None:
        """Keep a value, and forget those not used for longest until the bound holds."""
        if len(value) + _OVERHEAD > self._limit:
            return
        self._forget(self._values.pop(key, None))
        self._values[key] = value
        self._used += len(value) + _OVERHEAD
        while self._used > self._limit:
            self._forget(self._values.popitem(last=False)[1])

    def _forget(self, value: bytes | None) -> None:
        if value is not None:
            self._used -= len(value) + _OVERHEAD
