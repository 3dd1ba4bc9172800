"""The closures of images, as artifacts that refer to them: written once, read by whoever pulls.

They live as long as the image does. What cannot be read is no closure.
"""

from niximage.bucket.artifacts import attach_blobs
from niximage.bucket.images import read_manifest
from niximage.bucket.manifest import parse_manifest
from niximage.bucket.publish import put_blob
from niximage.bucket.reader import ImageReader, read_blob
from niximage.bucket.referrers import add_referrer, list_referrers
from niximage.bucket.store import ObjectStore
from niximage.image.closure_document import (
    ARTIFACT,
    FILE_NAME,
    MEDIA_TYPE,
    WRITTEN_LIMIT,
    ClosureDocument,
)
from niximage.image.descriptor import Descriptor


def save_closure(
    store: ObjectStore, repository: str, subject: Descriptor, document: ClosureDocument
) -> None:
    """Attach a closure to an image, unless it is there; one that is too large is left out.

    Raises:
        Retryable: the store fails.
    """
    content = document.to_bytes()
    if content is not None:
        blob = Descriptor.of(MEDIA_TYPE, content)
        put_blob(store, blob, content)
        attach_blobs(store, repository, subject, [(blob, FILE_NAME)], artifact_type=ARTIFACT)


def carry_closure(store: ObjectStore, repository: str, digest: str, *, to: str) -> None:
    """Attach the closure of an image to the same image under another name.

    Raises:
        Retryable: the store fails.
    """
    for referrer in list_referrers(store, repository, digest):
        if referrer.artifact_type == ARTIFACT:
            manifest = read_manifest(store, repository, referrer.descriptor.digest)
            if manifest is not None:
                add_referrer(store, to, manifest)


def read_closure(images: ImageReader, repository: str, digest: str) -> ClosureDocument | None:
    """The closure of an image, or None where none is attached to it.

    Args:
        images: where the image is.
        repository: what it is called there.
        digest: of its manifest; of an index, one of its members.

    Raises:
        Retryable: it is damaged, or cannot be read now.
    """
    for referrer in images.referrers(repository, digest):
        if referrer.artifact_type != ARTIFACT:
            continue
        content = images.manifest(repository, referrer.descriptor.digest)
        if content is None:
            continue
        for layer in parse_manifest(content).layers:
            if layer.media_type == MEDIA_TYPE and layer.size <= WRITTEN_LIMIT:
                return ClosureDocument.from_bytes(read_blob(images, repository, layer))
    return None
