"""Leases: running builds tell garbage collection that they are there.

Whatever a build uses, it writes or touches after it took its lease, so nothing younger than
the oldest lease is swept. A lease is an object with a time, and that is all that counts of
it: a build that died leaves one behind, which counts for nothing once it is `LIFETIME` old.
"""

import contextlib
import platform
import secrets
from collections.abc import Iterable, Iterator
from typing import Final

from niximage.api.canonical import canonical_json
from niximage.bucket import keys
from niximage.bucket.store import ObjectStat, ObjectStore
from niximage.errors import Retryable

LIFETIME: Final = 25 * 3600.0  # seconds: a build may take 24 hours, and clocks differ


@contextlib.contextmanager
def leased(store: ObjectStore, namespace: str) -> Iterator[None]:
    """Hold a lease while the body runs.

    Raises:
        Retryable: the store fails.
    """
    key = keys.lease(namespace, secrets.token_hex(16))
    content = canonical_json({"v": 1, "kind": "lease", "host": platform.node()[:253]})
    made = store.create(key, content)
    try:
        yield
    finally:
        # One that stays only makes garbage collection more careful for a day.
        with contextlib.suppress(Retryable):
            if made is not None:
                store.delete(made)


def oldest_lease(leases: Iterable[ObjectStat], *, now: float) -> float | None:
    """When the oldest build that may still run began, in seconds since 1970. Pure."""
    return min((each.time for each in leases if now - each.time < LIFETIME), default=None)
