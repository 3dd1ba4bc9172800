"""Reading images back, and believing only what was seen.

The operator calls `verify_image` before it writes a digest into a status: the link, the
manifest's bytes and the presence of every blob are looked at, whatever the build said.
"""

from collections.abc import Iterator
from typing import Final

from niximage.bucket import keys
from niximage.bucket.hold import hold
from niximage.bucket.manifest import (
    MANIFEST_LIMIT,
    Manifest,
    References,
    media_type,
    parse_index,
    parse_manifest,
    parse_references,
)
from niximage.bucket.store import ObjectStore
from niximage.bucket.threads import in_parallel
from niximage.errors import Reason, Retryable
from niximage.image.descriptor import INDEX, Descriptor, digest_of

_LINK_LIMIT: Final = 1024  # bytes that are read of a link, so that a wrong one can be shown
_SHOWN: Final = 5  # missing blobs that a message names


def read_link(store: ObjectStore, key: str) -> str | None:
    """The digest that a link holds, or None if it is not there.

    Raises:
        Retryable: the object is no link, or the store fails.
    """
    content = store.read(key, limit=_LINK_LIMIT)
    if content is None:
        return None
    digest = content.decode("ascii", "replace")
    if not keys.is_digest(digest):
        raise Retryable(
            Reason.RESULT_INVALID,
            f"{key} in {store.url} is no link: {digest!r:.100}",
            hint="Delete the object and build again",
        )
    return digest


def read_manifest(store: ObjectStore, repository: str, digest: str) -> bytes | None:
    """A manifest's bytes, or None if the repository has none of this digest.

    Raises:
        Retryable: what is there is not what the digest says, or the store fails.
    """
    if read_link(store, keys.revision_link(repository, digest)) != digest:
        return None
    content = store.read(keys.blob(digest), limit=MANIFEST_LIMIT)
    if content is not None and digest_of(content) != digest:
        raise Retryable(
            Reason.RESULT_INVALID,
            f"the manifest {digest} in {store.url} does not have this digest",
            hint=f"Delete {keys.blob(digest)} and build again",
        )
    return content


def read_references(store: ObjectStore, digest: str) -> References | None:
    """What a manifest names; None if there is none, or none that could be pulled."""
    try:
        content = store.read(keys.blob(digest), limit=MANIFEST_LIMIT)
        if content is None or digest_of(content) != digest:
            return None
        return parse_references(content)
    except Retryable as error:
        if error.reason is not Reason.RESULT_INVALID:
            raise
        return None


def has_blob(store: ObjectStore, repository: str, digest: str) -> bool:
    """Whether a repository may serve a blob; the blob itself may still be gone."""
    return read_link(store, keys.layer_link(repository, digest)) == digest


def resolve_tag(store: ObjectStore, repository: str, tag: str) -> str | None:
    """The digest that a tag names now, or None if there is no such tag."""
    return read_link(store, keys.tag_link(repository, tag))


def list_tags(store: ObjectStore, repository: str) -> Iterator[str]:
    """A repository's tags, in the order of their characters.

    A listing is in the order of keys, where a slash follows each tag; so `a-b` comes before
    `a` there, and the tags are sorted anew.
    """
    objects = store.list(keys.tags_prefix(repository))
    tags = (keys.tag_of(repository, found.key) for found in objects)
    yield from sorted(tag for tag in tags if tag is not None)


def has_repository(store: ObjectStore, repository: str) -> bool:
    """Whether anything was ever published to a repository."""
    return next(store.list(keys.manifests_prefix(repository)), None) is not None


def missing_blobs(
    store: ObjectStore, blobs: tuple[Descriptor, ...], *, keep: bool = False
) -> list[str]:
    """What is wrong with each blob that cannot be served: absent, or of another size.

    Args:
        store: the bucket.
        blobs: which.
        keep: whether to keep those that are there from garbage collection.
    """

    def look(blob: Descriptor) -> str | None:
        key = keys.blob(blob.digest)
        if keep and hold(store, key, size=blob.size):
            return None
        found = store.stat(key)
        if found is None:
            return f"{blob.digest} is not there"
        if found.size != blob.size:
            return f"{blob.digest} has {found.size} bytes instead of {blob.size}"
        return None

    return [problem for problem in in_parallel(look, blobs) if problem is not None]


def verify_image(
    store: ObjectStore, repository: str, digest: str, *, keep: bool = False
) -> tuple[Manifest, ...]:
    """Look whether an image can be pulled: link, manifest, and every blob with its link.

    Of an index all that is looked at for each of its members.

    Args:
        store: the bucket.
        repository: where it is.
        digest: of a manifest or an index.
        keep: whether to keep all of it from garbage collection, because it is to be used
            again and no status may name it yet.

    Returns:
        What the manifest says, or those of an index, in its order.

    Raises:
        Retryable: with all that is missing, or the store fails.
    """
    content = _manifest_there(store, repository, digest)
    if media_type(content) != INDEX:
        return (_verify_manifest(store, repository, digest, content, keep=keep),)
    found = []
    for member in parse_index(content):
        named = member.descriptor
        below = _manifest_there(store, repository, named.digest)
        if (named.media_type, named.size) != (media_type(below), len(below)):
            problem = f"{named.digest} is not what its index says"
            raise _not_whole(store, repository, digest, [problem])
        found.append(_verify_manifest(store, repository, named.digest, below, keep=keep))
    _check_blobs(store, repository, digest, (), keep=keep)
    return tuple(found)


def _manifest_there(store: ObjectStore, repository: str, digest: str) -> bytes:
    content = read_manifest(store, repository, digest)
    if content is None:
        raise Retryable(
            Reason.RESULT_INVALID,
            f"{repository}@{digest} is not in {store.url}",
            hint="Build it again",
        )
    return content


def _verify_manifest(
    store: ObjectStore, repository: str, digest: str, content: bytes, *, keep: bool
) -> Manifest:
    manifest = parse_manifest(content)
    _check_blobs(store, repository, digest, manifest.blobs, keep=keep)
    return manifest


def _check_blobs(
    store: ObjectStore, repository: str, digest: str, blobs: tuple[Descriptor, ...], *, keep: bool
) -> None:
    """See that blobs and their links are there, and hold them and the manifest if asked to."""
    problems = missing_blobs(store, blobs, keep=keep)
    linked = in_parallel(
        lambda b: (
            has_blob(store, repository, b.digest)
            and (not keep or hold(store, keys.layer_link(repository, b.digest)))
        ),
        blobs,
    )
    problems += [
        f"{blob.digest} is not linked"
        for blob, there in zip(blobs, linked, strict=True)
        if not there
    ]
    if keep and not problems:
        # The revision link comes last: as long as it is held, so is all that it leads to.
        last = (keys.blob(digest), keys.revision_link(repository, digest))
        problems += [f"{key} is being deleted" for key in last if not hold(store, key)]
    if problems:
        raise _not_whole(store, repository, digest, problems)


def _not_whole(store: ObjectStore, repository: str, digest: str, problems: list[str]) -> Retryable:
    return Retryable(
        Reason.RESULT_INVALID,
        f"{repository}@{digest} in {store.url} is not whole: {summary(problems)}",
        hint="Build it again: only what is missing is made",
    )


def summary(problems: list[str]) -> str:
    """The first few problems in one line, and how many more there are."""
    more = f", and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
    return ", ".join(problems[:_SHOWN]) + more
