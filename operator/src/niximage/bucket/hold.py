"""Using again what is there, safe from a garbage collection that runs at the same time.

A sweep deletes an object only as it was when it was listed. So whoever relies on an object
that may be old touches it first: either the touch comes before the delete, which then fails,
or the touch finds nothing and the object is made anew. Each object is touched at most every
`FRESH` seconds, for Google allows one update per second and object; sweeps leave alone
whatever is younger than that, and more (`niximage.bucket.gc`).
"""

import time
from pathlib import Path
from typing import Final

from niximage.bucket.store import ObjectStat, ObjectStore

FRESH: Final = 600.0  # seconds for which a touch holds
_ATTEMPTS: Final = 5  # lost races in a row; each means that somebody else went on


def now() -> float:
    """Seconds since 1970, as stores tell the times of objects."""
    return time.time()


def hold(store: ObjectStore, key: str, *, size: int | None = None) -> bool:
    """See that an object stays, if it is there.

    Args:
        store: the bucket.
        key: the object's name.
        size: the bytes that it must have.

    Returns:
        Whether it is there, with that size.
    """
    for _ in range(_ATTEMPTS):
        found = store.stat(key)
        if found is None or (size is not None and found.size != size):
            return False
        if keep(store, found):
            return True
    return False


def ensure(store: ObjectStore, key: str, content: bytes | Path) -> bool:
    """See that an object is there with this content, and stays; False if another content is."""
    for _ in range(_ATTEMPTS):
        made = store.create(key, content)
        if made is None:
            if store.stat(key) is not None:
                return False
        elif keep(store, made):
            return True
    return False


def put(store: ObjectStore, key: str, content: bytes) -> None:
    """See that a small object has this content, whatever was there; written only if it differs."""
    if not ensure(store, key, content):
        store.replace(key, content)


def keep(store: ObjectStore, found: ObjectStat) -> bool:
    """See that an object stays that was just seen; False if it is not as it was."""
    return now() - found.time < FRESH or store.touch(found)
