"""What a manifest's bytes say, read strictly. Pure."""

import json
import re
from dataclasses import dataclass
from typing import Any, Final

from niximage.bucket import keys
from niximage.errors import Reason, Retryable
from niximage.image.descriptor import MANIFEST, Descriptor

MANIFEST_LIMIT: Final = 4 << 20  # bytes, as registries and containerd bound them
BLOB_LIMIT: Final = 1 << 50  # bytes; only against nonsense
LAYERS_LIMIT: Final = 4096

_MEDIA_TYPE = re.compile(r"[a-z0-9.+-]{1,127}/[A-Za-z0-9.+-]{1,127}")


@dataclass(frozen=True, slots=True)
class Manifest:
    """An OCI image manifest.

    Attributes:
        config: the image's configuration.
        layers: from the lowest to the highest.
    """

    config: Descriptor
    layers: tuple[Descriptor, ...]

    @property
    def blobs(self) -> tuple[Descriptor, ...]:
        """Every blob that must be there for a pull, each once."""
        return tuple(dict.fromkeys((self.config, *self.layers)))

    @property
    def size(self) -> int:
        """Bytes of all blobs as stored."""
        return sum(blob.size for blob in self.blobs)


def parse_manifest(content: bytes) -> Manifest:
    """Read an OCI image manifest.

    Raises:
        Retryable: too large, not JSON, or not an image manifest.
    """
    if len(content) > MANIFEST_LIMIT:
        raise _invalid(f"it has {len(content)} bytes; {MANIFEST_LIMIT} are allowed")
    document = _document(content)
    if document.get("schemaVersion") != 2 or document.get("mediaType") != MANIFEST:  # noqa: PLR2004 (OCI's only version)
        raise _invalid(f"its media type is {document.get('mediaType')!r:.100}, not {MANIFEST}")
    layers = document.get("layers")
    if not isinstance(layers, list) or len(layers) > LAYERS_LIMIT:
        raise _invalid("it has no list of layers")
    return Manifest(_descriptor(document.get("config")), tuple(_descriptor(x) for x in layers))


def media_type(content: bytes) -> str:
    """What a manifest says it is; an OCI image manifest if it says nothing.

    Raises:
        Retryable: not a JSON object.
    """
    named = _document(content).get("mediaType")
    return named if isinstance(named, str) and _MEDIA_TYPE.fullmatch(named) else MANIFEST


def _document(content: bytes) -> dict[str, Any]:
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise _invalid(f"it is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise _invalid("it is no JSON object")
    return document


def _descriptor(value: Any) -> Descriptor:
    match value:
        case {"mediaType": str(kind), "digest": str(digest), "size": int(size)} if (
            keys.is_digest(digest) and not isinstance(size, bool) and 0 <= size <= BLOB_LIMIT
        ):
            return Descriptor(kind, digest, size)
        case _:
            raise _invalid(f"this is no descriptor: {value!r:.200}")


def _invalid(why: str) -> Retryable:
    return Retryable(Reason.RESULT_INVALID, f"the manifest cannot be used: {why}")
