"""Writing an image so that no reader ever sees half of one.

    blobs ──▶ layer links ──▶ manifest blob ──▶ revision link ──▶ tags
    (put_blob)                                  the commit point

A registry serves a manifest by digest only through its revision link, and by tag only through
the tag's; both come after all they lead to. A writer that dies leaves nothing that can be
seen, and whoever repeats its work finds what is already there and goes on: nothing that is
right is written again, for Google allows one write per second and name.
"""

from collections.abc import Iterable
from pathlib import Path

from niximage.bucket import keys
from niximage.bucket.hold import ensure, hold, put
from niximage.bucket.images import summary
from niximage.bucket.manifest import References, parse_references
from niximage.bucket.store import ObjectStore
from niximage.bucket.tags import move_tag
from niximage.bucket.threads import in_parallel
from niximage.errors import Reason, Retryable
from niximage.image.descriptor import Descriptor


def put_blob(
    store: ObjectStore,
    descriptor: Descriptor,
    content: bytes | Path,
    *,
    believe_size: bool = True,
) -> bool:
    """Write a blob under its digest, unless it is there.

    Args:
        store: the bucket.
        descriptor: the blob's digest and size, already computed over the content.
        content: the bytes, or a file that holds them and that nobody changes.
        believe_size: whether a blob that is there with the right size is believed to be right;
            else its content is compared, for which some stores want it uploaded.

    Returns:
        Whether this call wrote it.

    Raises:
        Retryable: the content is not what the descriptor says, or the store fails.
    """
    _check_content(descriptor, content)
    key = keys.blob(descriptor.digest)
    # A refused upload has cost its bytes already: ask first where they are many.
    is_large = isinstance(content, Path) and believe_size
    if is_large and hold(store, key, size=descriptor.size):
        return False
    if not ensure(store, key, content):
        # Not written by this program, and of no use to anyone: the digest tells what belongs.
        found = store.stat(key)
        if found is not None:
            store.delete(found)
        if not ensure(store, key, content):
            raise Retryable(
                Reason.BUCKET_UNAVAILABLE,
                f"{key} in {store.url} does not hold what its name says, and comes back",
                hint="Find out what else writes to this bucket",
            )
    return True


def publish_manifest(
    store: ObjectStore,
    repository: str,
    manifest: bytes,
    *,
    tags: Iterable[str] = (),
    asked_at: int | None = None,
) -> Descriptor:
    """Make an image whose blobs are there visible: links, manifest, revision link, tags.

    Args:
        store: the bucket.
        repository: `<namespace>/<name>`.
        manifest: an OCI image manifest, or an index of manifests that were published to the
            same repository; its exact bytes.
        tags: what else may name the image.
        asked_at: when the image was asked for, in nanoseconds since 1970: a tag that names one
            asked for later stays. None moves them in any case.

    Returns:
        The manifest's descriptor: its digest is the image's.

    Raises:
        Terminal: the repository or a tag has no valid name.
        Retryable: a blob that the manifest names is missing, or the store fails.
    """
    references = parse_references(manifest)
    descriptor = Descriptor.of(references.media_type, manifest)
    digest = descriptor.digest
    # All keys are made first: a bad name must not leave half an image behind.
    links = [(keys.layer_link(repository, blob.digest), blob) for blob in references.blobs]
    revision = keys.revision_link(repository, digest)
    names = tuple(dict.fromkeys(tags))
    for tag in names:
        keys.tag_link(repository, tag)
    if problems := hold_all(store, repository, references):
        raise Retryable(
            Reason.BUCKET_UNAVAILABLE,
            f"{repository}@{digest} cannot be published to {store.url}: {summary(problems)}",
            hint="Build it again: only what is missing is made",
        )
    in_parallel(lambda link: put(store, link[0], link[1].digest.encode("ascii")), links)
    put_blob(store, descriptor, manifest)
    put(store, revision, digest.encode("ascii"))
    for tag in names:
        move_tag(store, repository, tag, digest, asked_at=asked_at)
    return descriptor


def hold_all(store: ObjectStore, repository: str, references: References) -> list[str]:
    """See that all that a manifest names stays: what is wrong with each that is not there.

    Of an index these are the members with their revision links; what those name in turn is
    theirs to hold, and every member of an index that lives is alive.
    """

    def look(named: Descriptor) -> str | None:
        if not hold(store, keys.blob(named.digest), size=named.size):
            return f"{named.digest} is not there with {named.size} bytes"
        return None

    def look_at_member(member: Descriptor) -> str | None:
        if (problem := look(member)) is not None:
            return problem
        if not hold(store, keys.revision_link(repository, member.digest)):
            return f"{member.digest} was not published to {repository}"
        return None

    found = [
        *in_parallel(look, references.blobs),
        *in_parallel(look_at_member, references.manifests),
    ]
    return [problem for problem in found if problem is not None]


def _check_content(descriptor: Descriptor, content: bytes | Path) -> None:
    if isinstance(content, Path):
        right = content.stat().st_size == descriptor.size
    else:
        right = Descriptor.of(descriptor.media_type, content) == descriptor
    if not right:
        raise Retryable(
            Reason.INTERNAL_ERROR,
            f"the content of blob {descriptor.digest} changed before it was uploaded",
            hint="Build it again",
        )
