"""What lies in the layers of an image: which store paths an image based on it need not bring.

As the other records this one only saves work: without it, or where it cannot be read, the
layers themselves are listed.
"""

from typing import Annotated, Final, Literal

from pydantic import ConfigDict, Field

from niximage.api.build import Digest, Strict
from niximage.api.canonical import canonical_json
from niximage.bucket import keys
from niximage.bucket.hold import hold, put
from niximage.bucket.records import Record, read_record
from niximage.bucket.store import ObjectStore
from niximage.bucket.threads import in_parallel
from niximage.image.descriptor import CONFIG, Descriptor

CONTENTS_LIMIT: Final = 32 << 20  # bytes of JSON: 100,000 store paths of the longest names

StoreName = Annotated[
    str, Field(pattern=r"^[0-9a-df-np-sv-z]{32}-[0-9A-Za-z+._?=-]{1,211}$", max_length=244)
]
Bytes = Annotated[int, Field(ge=0)]


class LayerContents(Strict):
    """One layer.

    Attributes:
        digest: the digest of the blob.
        size: bytes of the blob.
        media_type: what the blob is, in OCI's words.
        diff_id: the digest of its tar.
        paths: the names of the store paths that it has, and it has nothing else; None where
            its tar is to be listed.
    """

    model_config = ConfigDict(strict=True)

    digest: Digest
    size: Bytes
    media_type: Annotated[str, Field(pattern=r"^[a-z0-9.+-]+/[a-zA-Z0-9.+-]+$", max_length=255)]
    diff_id: Digest
    paths: Annotated[list[StoreName], Field(max_length=100_000)] | None = None

    @property
    def descriptor(self) -> Descriptor:
        """The blob as a manifest names it."""
        return Descriptor(self.media_type, self.digest, self.size)


class ContentsRecord(Record):
    """The layers of an image, bottom first, and its config."""

    kind: Literal["contents"] = "contents"
    config: Digest
    config_size: Bytes
    layers: Annotated[list[LayerContents], Field(max_length=128)]

    @property
    def config_descriptor(self) -> Descriptor:
        """The config as a manifest names it."""
        return Descriptor(CONFIG, self.config, self.config_size)


def find_contents(
    store: ObjectStore, namespace: str, digest: str, system: str
) -> ContentsRecord | None:
    """What is in an image, if all its blobs are there.

    Args:
        store: the bucket.
        namespace: whose builds to believe.
        digest: of the image, or of an index that has it.
        system: which of an index's images, as Nix says it.
    """
    key = keys.contents_record(namespace, digest, system)
    record = read_record(store, key, ContentsRecord, limit=CONTENTS_LIMIT)
    if record is None:
        return None
    blobs = {record.config_descriptor, *(layer.descriptor for layer in record.layers)}
    held = in_parallel(lambda blob: hold(store, keys.blob(blob.digest), size=blob.size), blobs)
    return record if all(held) else None


def save_contents(
    store: ObjectStore, namespace: str, digest: str, system: str, record: ContentsRecord
) -> None:
    """Remember what is in an image."""
    content = canonical_json(record.to_json())
    if len(content) <= CONTENTS_LIMIT:
        put(store, keys.contents_record(namespace, digest, system), content)
