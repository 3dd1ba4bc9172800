"""Content by digest: how OCI documents point at blobs."""

import hashlib
from dataclasses import dataclass
from typing import Any, Final, Self

MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
INDEX: Final = "application/vnd.oci.image.index.v1+json"
CONFIG: Final = "application/vnd.oci.image.config.v1+json"
LAYER_TAR: Final = "application/vnd.oci.image.layer.v1.tar"
LAYER_ZSTD: Final = "application/vnd.oci.image.layer.v1.tar+zstd"
LAYER_GZIP: Final = "application/vnd.oci.image.layer.v1.tar+gzip"


def digest_of(content: bytes | bytearray) -> str:
    """The digest of content at hand: `sha256:` and 64 hex digits."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


@dataclass(frozen=True, slots=True)
class Descriptor:
    """One blob as a manifest names it.

    Attributes:
        media_type: what the blob is.
        digest: `sha256:` and 64 hex digits, over the blob's bytes as stored.
        size: bytes.
    """

    media_type: str
    digest: str
    size: int

    @classmethod
    def of(cls, media_type: str, content: bytes) -> Self:
        """The descriptor of content at hand."""
        return cls(media_type, digest_of(content), len(content))

    def to_json(self) -> dict[str, Any]:
        """The descriptor as OCI spells it."""
        return {"mediaType": self.media_type, "digest": self.digest, "size": self.size}
