"""Whether a bucket can be used at all: asked once, before anybody waits for an image."""

import secrets

from niximage.bucket import keys
from niximage.bucket.store import ObjectStore
from niximage.errors import Reason, Retryable

CHECKER = "niximage-operator"
"""In whose name the object of the check is written."""


def check_bucket(store: ObjectStore) -> None:
    """List, write, read and delete in a bucket.

    What is written is a lease: one that a crash leaves behind goes with the next garbage
    collection.

    Raises:
        Retryable: one of these does not work; the message tells which, and why.
    """
    next(store.list(keys.LEASES), None)
    key, content = keys.lease(CHECKER, secrets.token_hex(16)), b'{"kind":"lease","v":1}'
    made = store.create(key, content)
    if made is None or store.read(key, limit=len(content)) != content:
        raise Retryable(
            Reason.BUCKET_UNAVAILABLE,
            f"{store.url} does not give back what was written to it",
            hint="Find out what else writes to this bucket",
        )
    store.delete(made)
