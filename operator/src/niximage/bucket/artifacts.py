"""Attaching artifacts to an image: SBOMs, signatures, anything with a type."""

import hashlib
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from niximage.api.canonical import canonical_json
from niximage.bucket.images import read_manifest
from niximage.bucket.leases import leased
from niximage.bucket.manifest import media_type, parse_references
from niximage.bucket.publish import put_blob
from niximage.bucket.referrers import Referrer, add_referrers
from niximage.bucket.store import ObjectStore
from niximage.errors import Reason, Terminal
from niximage.image.descriptor import MANIFEST, Descriptor

EMPTY: Final = "application/vnd.oci.empty.v1+json"  # the type of a config that says nothing
TITLE: Final = "org.opencontainers.image.title"

_CHUNK: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Artifact:
    """What is to be attached.

    Attributes:
        type: what the whole is, as a media type.
        blobs: what it holds, with names.
        annotations: what else to say of it.
    """

    type: str
    blobs: Sequence[tuple[Descriptor, str]]
    annotations: Mapping[str, str] = field(default_factory=dict)


def attach(
    store: ObjectStore,
    repository: str,
    subject: str,
    files: Sequence[Path],
    *,
    artifact_type: str,
    file_type: str,
    annotations: Mapping[str, str] | None = None,
) -> Referrer:
    """Attach files to an image, as one artifact. Attaching the same again changes nothing.

    Args:
        store: the bucket.
        repository: where the image is.
        subject: the image's digest.
        files: what to attach, each under its own name.
        artifact_type: what it is, as a media type.
        file_type: what each file is, as a media type.
        annotations: what else to say of it.

    Raises:
        Terminal: there is no such image, or a file cannot be read.
        Retryable: the store fails.
    """
    with leased(store, repository.partition("/")[0]):
        content = read_manifest(store, repository, subject)
        if content is None:
            raise Terminal(
                Reason.REFERENCE_NOT_FOUND,
                f"{repository}@{subject} is not in {store.url}",
                hint="Name an image of this bucket by its digest",
            )
        blobs = [(_put_file(store, file, file_type), file.name) for file in files]
        artifact = Artifact(artifact_type, blobs, annotations or {})
        image = Descriptor.of(media_type(content), content)
        [referrer] = attach_blobs(store, repository, image, [artifact])
        return referrer


def attach_blobs(
    store: ObjectStore, repository: str, subject: Descriptor, artifacts: Sequence[Artifact]
) -> list[Referrer]:
    """Attach artifacts to an image, whose blobs are there as it is; who calls holds a lease.

    Args:
        store: the bucket.
        repository: where the image is.
        subject: the image's manifest.
        artifacts: what to attach.

    Raises:
        Terminal: the image has too many artifacts.
        Retryable: the store fails.
    """
    put_blob(store, Descriptor.of(EMPTY, b"{}"), b"{}")
    manifests = [artifact_manifest(subject, artifact) for artifact in artifacts]
    return add_referrers(store, repository, manifests)


def artifact_manifest(subject: Descriptor, artifact: Artifact) -> bytes:
    """The manifest of an artifact: one spelling, and no time, so that a repeat is the same. Pure.

    Args:
        subject: what it is about.
        artifact: what it holds.
    """
    manifest = canonical_json(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "artifactType": artifact.type,
            "config": Descriptor.of(EMPTY, b"{}").to_json(),
            "layers": [
                {**blob.to_json(), "annotations": {TITLE: name}} for blob, name in artifact.blobs
            ],
            "subject": subject.to_json(),
            "annotations": dict(artifact.annotations),
        }
    )
    parse_references(manifest)
    return manifest


def _put_file(store: ObjectStore, file: Path, file_type: str) -> Descriptor:
    """Write a file's bytes as a blob: those that were hashed, whatever its owner does meanwhile.

    What is there already counts only if it is the same: nobody will build it anew.
    """
    digest, size = hashlib.sha256(), 0
    with tempfile.NamedTemporaryFile(prefix="niximage-") as copy:
        try:
            with file.open("rb") as content:
                while piece := content.read(_CHUNK):
                    digest.update(piece)
                    size += len(piece)
                    copy.write(piece)
            copy.flush()
        except OSError as error:
            raise Terminal(
                Reason.INVALID_SPEC,
                f"{file} cannot be read, or copied to {copy.name}: {error.strerror or error}",
            ) from None
        descriptor = Descriptor(file_type, f"sha256:{digest.hexdigest()}", size)
        put_blob(store, descriptor, Path(copy.name), believe_size=False)
    return descriptor
