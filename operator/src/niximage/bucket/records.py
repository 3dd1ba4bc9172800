"""The project's own memory in the bucket: layers and images built before.

A record only saves work. One that cannot be read, that is of another kind or version, or
whose blobs are gone counts as absent, and the next build writes it anew.
"""

from typing import Annotated, Final, Literal, TypeVar

import pydantic
from pydantic import ConfigDict, Field

from niximage.api.build import Digest, Hash, Strict
from niximage.api.canonical import canonical_json
from niximage.bucket import keys
from niximage.bucket.hold import ensure, hold, put
from niximage.bucket.images import verify_image
from niximage.bucket.store import ObjectStore
from niximage.errors import Reason, Retryable
from niximage.image.descriptor import Descriptor
from niximage.image.names import WRITTEN_LIMIT, LayerNames

RECORD_LIMIT: Final = 16 << 10  # bytes of a record's JSON

Bytes = Annotated[int, Field(ge=0)]
Count = Annotated[int, Field(ge=0, le=4096)]


class Record(Strict):
    """A document that is either exactly right or not there at all."""

    model_config = ConfigDict(strict=True)

    v: Literal[1] = 1


class LayerRecord(Record):
    """The blob that a layer key was packed to.

    Attributes:
        diff_id: the digest of the uncompressed tar.
        digest: the digest of the blob.
        size: bytes of the blob.
        media_type: what the blob is.
    """

    kind: Literal["layer"] = "layer"
    diff_id: Digest
    digest: Digest
    size: Bytes
    media_type: Annotated[str, Field(pattern=r"^[a-z0-9.+-]+/[a-zA-Z0-9.+-]+$", max_length=255)]

    @property
    def descriptor(self) -> Descriptor:
        """The blob as a manifest names it."""
        return Descriptor(self.media_type, self.digest, self.size)


class BuildRecord(Record):
    """The image that an input hash was built to.

    Attributes:
        digest: the manifest's digest.
        size: bytes of all blobs.
        repository: where the image was published.
        layers: how many there are.
        reused_layers: how many of them were in the bucket before.
        reused_size: bytes of those.
        revision: the source's commit, or what else its revision is called.
    """

    kind: Literal["build"] = "build"
    digest: Digest
    size: Bytes
    repository: Annotated[str, Field(max_length=keys.REPOSITORY_LIMIT)]
    layers: Count
    reused_layers: Count
    reused_size: Bytes
    revision: Annotated[str, Field(pattern=r"^[^\s\x00-\x1f]+$", max_length=300)]


_AnyRecord = TypeVar("_AnyRecord", bound=Strict)


def find_layer(store: ObjectStore, namespace: str, key: Hash) -> LayerRecord | None:
    """The blob of a layer built before, if it is still there with its size.

    Args:
        store: the bucket.
        namespace: whose builds to believe, or `keys.VERIFIED`.
        key: the layer key.
    """
    record = read_record(store, keys.layer_record(namespace, key), LayerRecord)
    if record is None or not hold(store, keys.blob(record.digest), size=record.size):
        return None
    return record


def save_layer(store: ObjectStore, namespace: str, key: Hash, record: LayerRecord) -> LayerRecord:
    """Remember a layer whose blob was written.

    Returns:
        The record that stands from now on: an earlier one whose blob is there wins, so that
        images keep their digests when two builds packed the same layer differently.
    """
    name = keys.layer_record(namespace, key)
    if ensure(store, name, _content(record)):
        return record
    if (earlier := find_layer(store, namespace, key)) is not None:
        return earlier
    store.replace(name, _content(record))
    return record


def find_names(store: ObjectStore, key: Hash) -> LayerNames | None:
    """The names in a shared layer, if they were written down and can be read."""
    try:
        written = store.read(keys.layer_names(key), limit=WRITTEN_LIMIT)
        return None if written is None else LayerNames(written)
    except Retryable as error:
        if error.reason is Reason.RESULT_INVALID:
            return None
        raise


def save_names(store: ObjectStore, key: Hash, written: bytes) -> None:
    """Remember the names in a shared layer, as `NamesWriter` wrote them down."""
    put(store, keys.layer_names(key), written)


def find_build(store: ObjectStore, namespace: str, input_hash: Hash) -> BuildRecord | None:
    """The image built from these inputs before, if the whole of it is still there."""
    record = read_record(store, keys.build_record(namespace, input_hash), BuildRecord)
    if record is None or not record.repository.startswith(f"{namespace}/"):
        return None
    if not keys.is_repository(record.repository):
        return None
    try:
        verify_image(store, record.repository, record.digest, keep=True)
    except Retryable as error:
        if error.reason is Reason.RESULT_INVALID:
            return None
        raise
    return record


def save_build(store: ObjectStore, namespace: str, input_hash: Hash, record: BuildRecord) -> None:
    """Remember an image that was published."""
    put(store, keys.build_record(namespace, input_hash), _content(record))


def _content(record: Record) -> bytes:
    return canonical_json(record.to_json())


def read_record(
    store: ObjectStore, key: str, kind: type[_AnyRecord], *, limit: int = RECORD_LIMIT
) -> _AnyRecord | None:
    """A record of some kind, or None where there is none that can be read."""
    try:
        content = store.read(key, limit=limit)
        return None if content is None else kind.model_validate_json(content)
    except pydantic.ValidationError:
        return None
    except Retryable as error:
        if error.reason is Reason.RESULT_INVALID:
            return None
        raise
