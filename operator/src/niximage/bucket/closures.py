"""The closures of images, as artifacts that refer to them: written once, read by whoever pulls.

Each goes there twice: as our own document, small and exact, and as an SBOM, for scanners.

They live as long as the image does. What cannot be read is no closure.
"""

from niximage.api.canonical import canonical_json
from niximage.bucket.artifacts import Artifact, attach_blobs
from niximage.bucket.images import read_manifest
from niximage.bucket.manifest import parse_manifest
from niximage.bucket.publish import put_blob
from niximage.bucket.reader import ImageReader, read_blob
from niximage.bucket.referrers import add_referrers, list_referrers
from niximage.bucket.store import ObjectStore
from niximage.image.closure_document import (
    ARTIFACT,
    FILE_NAME,
    MEDIA_TYPE,
    WRITTEN_LIMIT,
    ClosureDocument,
)
from niximage.image.descriptor import Descriptor
from niximage.image.sbom import FILE_NAME as SBOM_NAME
from niximage.image.sbom import MEDIA_TYPE as SBOM_TYPE
from niximage.image.sbom import sbom


def save_closure(
    store: ObjectStore, repository: str, subject: Descriptor, document: ClosureDocument
) -> None:
    """Attach a closure to an image, and its SBOM, unless they are there.

    A closure that is too large to be of use is left out.

    Raises:
        Retryable: the store fails.
    """
    content = document.to_bytes()
    if content is None:
        return
    bill = canonical_json(sbom(document, digest=subject.digest))
    artifacts = []
    for artifact_type, media_type, name, written in (
        (ARTIFACT, MEDIA_TYPE, FILE_NAME, content),
        (SBOM_TYPE, SBOM_TYPE, SBOM_NAME, bill),
    ):
        blob = Descriptor.of(media_type, written)
        put_blob(store, blob, written)
        artifacts.append(Artifact(artifact_type, [(blob, name)]))
    attach_blobs(store, repository, subject, artifacts)


def carry_closure(store: ObjectStore, repository: str, digest: str, *, to: str) -> None:
    """Attach the closure of an image, and its SBOM, to the same image under another name.

    Raises:
        Retryable: the store fails.
    """
    found = (
        read_manifest(store, repository, referrer.descriptor.digest)
        for referrer in list_referrers(store, repository, digest)
        if referrer.artifact_type in (ARTIFACT, SBOM_TYPE)
    )
    if manifests := [manifest for manifest in found if manifest is not None]:
        add_referrers(store, to, manifests)


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
