"""Removing a repository: its tags and images are gone at once, its blobs when collected."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from niximage.bucket import hold, keys
from niximage.bucket.images import read_references
from niximage.bucket.layout import read_listing, revision_of
from niximage.bucket.store import ObjectStat, ObjectStore
from niximage.bucket.sweep import SKEW, cutoff, levels
from niximage.bucket.threads import in_parallel

_PASSES: Final = 10


@dataclass(frozen=True, slots=True)
class Removed:
    """What was deleted.

    Attributes:
        tags: tags.
        manifests: manifests and indexes.
        links: links to layers and configs.
    """

    tags: int
    manifests: int
    links: int


def remove_repository(store: ObjectStore, repository: str) -> Removed:
    """Delete a repository's tags, then its images, then its links.

    Safe to repeat, and safe beside a build that publishes to it: links that a running
    build may have written or used stay, and go with the next garbage collection if nobody
    needs them.

    Args:
        store: the bucket.
        repository: `<namespace>/<name>`; repositories below it stay.

    Raises:
        Terminal: it has no valid name.
        Retryable: the store fails; a repeat goes on.
    """
    # First of all: a build that ends meanwhile still counts.
    now = hold.now()
    leases = read_listing(store.list(keys.LEASES)).leases
    before = cutoff(leases, now=now, grace=hold.FRESH + SKEW)
    tags: list[str] = []
    revisions: list[str] = []
    # Again until nothing is left: a build may go on publishing meanwhile.
    for _ in range(_PASSES):
        seen = list(store.list(keys.tags_prefix(repository)))
        tags += _delete(store, seen)
        images = {
            revision_of(found.key): found for found in store.list(keys.revisions_prefix(repository))
        }
        if not seen and not images:
            break
        # Indexes go before their members.
        read = in_parallel(lambda digest: read_references(store, digest), images)
        for level in levels(dict(zip(images, read, strict=True))):
            revisions += _delete(store, [images[digest] for digest in level])
    _delete(store, list(store.list(keys.tag_records_prefix(repository))))
    links = [found for found in store.list(keys.layers_prefix(repository)) if found.time < before]
    return Removed(
        sum(key.endswith("/current/link") for key in tags),
        len(revisions),
        len(_delete(store, links)),
    )


def remove_tags(store: ObjectStore, repository: str, tags: Iterable[str]) -> Removed:
    """Delete some tags of a repository; the images that they named go when nobody needs them.

    Args:
        store: the bucket.
        repository: `<namespace>/<name>`.
        tags: which; those that are not there are no error.

    Raises:
        Terminal: the repository or a tag has no valid name.
        Retryable: the store fails; a repeat goes on.
    """
    found: list[ObjectStat] = []
    records: list[ObjectStat] = []
    for tag in tags:
        link = keys.tag_link(repository, tag)
        found += store.list(link.removesuffix("current/link"))
        record = store.stat(keys.tag_record(repository, tag))
        records += [] if record is None else [record]
    gone = _delete(store, found)
    _delete(store, records)
    return Removed(sum(key.endswith("/current/link") for key in gone), 0, 0)


def _delete(store: ObjectStore, objects: list[ObjectStat]) -> list[str]:
    """Delete objects that are as they were listed; the keys of those that were."""
    gone = in_parallel(store.delete, objects)
    return [found.key for found, deleted in zip(objects, gone, strict=True) if deleted]
