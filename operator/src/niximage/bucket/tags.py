"""Moving tags, only forward.

Two builds of one image may end in another order than they began. So a record beside each tag
says when the build that it names was asked for, and an earlier build leaves the tag alone.
Both are changed only as they were seen: of two writers one goes first, and the other looks
again.
"""

from typing import Annotated, Final, Literal

from pydantic import Field

from niximage.api.build import Digest
from niximage.api.canonical import canonical_json
from niximage.bucket import keys
from niximage.bucket.hold import keep, put
from niximage.bucket.records import Record, read_record
from niximage.bucket.store import ObjectStat, ObjectStore
from niximage.errors import Reason, Retryable

RECORD_LIMIT: Final = 1024  # bytes of a record's JSON
ATTEMPTS: Final = 100  # lost races in a row before it is left to the next build


class TagRecord(Record):
    """Which build a tag names.

    Attributes:
        asked_at: when that build was asked for, in nanoseconds since 1970.
        digest: the image's.
    """

    kind: Literal["tag"] = "tag"
    asked_at: Annotated[int, Field(ge=0, lt=1 << 63)]
    digest: Digest


def move_tag(
    store: ObjectStore, repository: str, tag: str, digest: str, *, asked_at: int | None = None
) -> bool:
    """Let a tag name an image that is there whole.

    Args:
        store: the bucket.
        repository: `<namespace>/<name>`.
        tag: the tag's name.
        digest: the image's.
        asked_at: when the image was asked for, in nanoseconds since 1970; None moves a tag
            whose images have no order.

    Returns:
        Whether the tag names it; False when it names an image that was asked for later.

    Raises:
        Terminal: the repository, the tag or the digest has no valid name.
        Retryable: the store fails, or others kept moving the tag.
    """
    current = keys.tag_link(repository, tag)
    content = digest.encode("ascii")
    put(store, keys.tag_index_link(repository, tag, digest), content)
    if asked_at is None:
        put(store, current, content)
        return True
    for _ in range(ATTEMPTS):
        # First the link, then what is known of it: who changes them does it the other way.
        link = store.stat(current)
        moved = _claim(
            store, keys.tag_record(repository, tag), TagRecord(asked_at=asked_at, digest=digest)
        )
        if moved is False:
            return False
        if moved and _swap(store, current, content, link):
            return True
    raise Retryable(
        Reason.BUCKET_UNAVAILABLE,
        f"the tag {tag} of {repository} in {store.url} keeps being moved by others",
        hint="Let one NixImage or one command have it",
    )


def _claim(store: ObjectStore, key: str, record: TagRecord) -> bool | None:
    """Write the record unless a later one is there; None when another was quicker."""
    seen = store.stat(key)
    standing = None if seen is None else read_record(store, key, TagRecord, limit=RECORD_LIMIT)
    if standing is not None:
        if (standing.asked_at, standing.digest) > (record.asked_at, record.digest):
            return False
        if standing == record:
            return (seen is not None and keep(store, seen)) or None
    return _swap(store, key, canonical_json(record.to_json()), seen) or None


def _swap(store: ObjectStore, key: str, content: bytes, seen: ObjectStat | None) -> bool:
    """Change an object only as it was seen; nothing is written where it is right."""
    if seen is None:
        return store.create(key, content) is not None
    if seen.size == len(content) and store.read(key, limit=seen.size) == content:
        return store.stat(key) == seen and keep(store, seen)
    return store.replace(key, content, seen=seen)
