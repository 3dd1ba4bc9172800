"""Writing an image so that no reader ever sees half of one.

    blobs ──▶ layer links ──▶ manifest blob ──▶ revision link ──▶ tags
    (put_blob)                                  the commit point

A registry serves a manifest by digest only through its revision link, and by tag only through
the tag's; both come after all they lead to. A writer that dies leaves nothing that can be
seen, and whoever repeats its work finds what is already there and goes on: nothing that is
right is written again, for Google allows one write per second and name.
"""

import hashlib
from collections.abc import Iterable
from pathlib import Path

from niximage.bucket import keys
from niximage.bucket.images import LINK_SIZE, missing_blobs, summary
from niximage.bucket.manifest import parse_manifest
from niximage.bucket.store import ObjectStore
from niximage.bucket.threads import in_parallel
from niximage.errors import Reason, Retryable
from niximage.image.descriptor import MANIFEST, Descriptor


def put_blob(store: ObjectStore, descriptor: Descriptor, content: bytes | Path) -> bool:
    """Write a blob under its digest, unless it is there.

    Args:
        store: the bucket.
        descriptor: the blob's digest and size, already computed over the content.
        content: the bytes, or a file that holds them.

    Returns:
        Whether this call wrote it.

    Raises:
        Retryable: the content is not what the descriptor says, or the store fails.
    """
    _check_content(descriptor, content)
    key = keys.blob(descriptor.digest)
    if isinstance(content, Path):
        # A refused upload has cost its bytes already: ask first where they are many.
        found = store.stat(key)
        if found is not None and found.size == descriptor.size:
            return False
    if store.create(key, content):
        return True
    found = store.stat(key)
    if found is not None and found.size != descriptor.size:
        # Not written by this program, and of no use to anyone: the digest tells what belongs.
        store.delete(key, generation=found.generation)
        return store.create(key, content)
    return False


def publish_manifest(
    store: ObjectStore, repository: str, manifest: bytes, *, tags: Iterable[str] = ()
) -> Descriptor:
    """Make an image whose blobs are there visible: links, manifest, revision link, tags.

    Args:
        store: the bucket.
        repository: `<namespace>/<name>`.
        manifest: an OCI image manifest, its exact bytes.
        tags: what else may name the image.

    Returns:
        The manifest's descriptor: its digest is the image's.

    Raises:
        Terminal: the repository or a tag has no valid name.
        Retryable: a blob that the manifest names is missing, or the store fails.
    """
    blobs = parse_manifest(manifest).blobs
    descriptor = Descriptor.of(MANIFEST, manifest)
    digest = descriptor.digest
    # All keys are made first: a bad name must not leave half an image behind.
    layer_links = [(keys.layer_link(repository, blob.digest), blob.digest) for blob in blobs]
    revision = keys.revision_link(repository, digest)
    tag_links = [
        (keys.tag_index_link(repository, tag, digest), keys.tag_link(repository, tag))
        for tag in dict.fromkeys(tags)
    ]
    if problems := missing_blobs(store, blobs):
        raise Retryable(
            Reason.BUCKET_UNAVAILABLE,
            f"{repository}@{digest} cannot be published to {store.url}: {summary(problems)}",
            hint="Build it again: only what is missing is made",
        )
    in_parallel(lambda link: _put_link(store, *link), layer_links)
    put_blob(store, descriptor, manifest)
    _put_link(store, revision, digest)
    for history, current in tag_links:
        _put_link(store, history, digest)
        _put_link(store, current, digest)
    return descriptor


def _put_link(store: ObjectStore, key: str, digest: str) -> None:
    content = digest.encode("ascii")
    if store.create(key, content):
        return
    found = store.stat(key)
    if found is None or found.size != LINK_SIZE or store.read(key, limit=LINK_SIZE) != content:
        store.replace(key, content)


def _check_content(descriptor: Descriptor, content: bytes | Path) -> None:
    if isinstance(content, Path):
        right = content.stat().st_size == descriptor.size
    else:
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        right = (digest, len(content)) == (descriptor.digest, descriptor.size)
    if not right:
        raise Retryable(
            Reason.INTERNAL_ERROR,
            f"the content of blob {descriptor.digest} changed before it was uploaded",
            hint="Build it again",
        )
