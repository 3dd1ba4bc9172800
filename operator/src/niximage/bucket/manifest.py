"""What the bytes of manifests and indexes say, read strictly. Pure."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from niximage.bucket import keys
from niximage.errors import Reason, Retryable
from niximage.image.descriptor import INDEX, MANIFEST, Descriptor
from niximage.image.documents import platform_name

MANIFEST_LIMIT: Final = 4 << 20  # bytes, as registries and containerd bound them
BLOB_LIMIT: Final = 1 << 50  # bytes; only against nonsense
LAYERS_LIMIT: Final = 4096
MEMBERS_LIMIT: Final = 16384  # of an index; the bytes bound it earlier

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


@dataclass(frozen=True, slots=True)
class Member:
    """A member of an OCI image index.

    Attributes:
        platform: what it is for, as people write it: `linux/arm64`; "" where it is for none.
        descriptor: its manifest.
    """

    platform: str
    descriptor: Descriptor


@dataclass(frozen=True, slots=True)
class References:
    """What a manifest or an index points at, of whichever kind it is.

    Attributes:
        media_type: what it says it is.
        blobs: the config and the layers of a manifest, each once.
        manifests: the members of an index, each once.
        subject: the manifest that this one tells something about, if it does.
        artifact_type: what it holds, as OCI finds it: its own word, or its config's type.
        annotations: its own.
    """

    media_type: str
    blobs: tuple[Descriptor, ...] = ()
    manifests: tuple[Descriptor, ...] = ()
    subject: Descriptor | None = None
    artifact_type: str = ""
    annotations: Mapping[str, str] = field(default_factory=dict)


def parse_references(content: bytes) -> References:
    """Read a manifest or an index, OCI's or Docker's.

    Raises:
        Retryable: too large, not JSON, or with neither layers nor manifests.
    """
    document = _sized_document(content)
    kind = media_type(content)
    blobs: tuple[Descriptor, ...] = ()
    manifests: tuple[Descriptor, ...] = ()
    own_type = document.get("artifactType")
    artifact_type = own_type if isinstance(own_type, str) else ""
    match document:
        case {"manifests": list(members)} if len(members) <= MEMBERS_LIMIT:
            manifests = tuple(dict.fromkeys(_descriptor(member) for member in members))
            kind = kind if "mediaType" in document else INDEX
        case {"layers": list(layers)} if len(layers) <= LAYERS_LIMIT:
            config = _descriptor(document.get("config"))
            blobs = tuple(dict.fromkeys((config, *(_descriptor(layer) for layer in layers))))
            artifact_type = artifact_type or config.media_type
        case _:
            raise _invalid("it has no list of layers, and none of manifests")
    subject = document.get("subject")
    return References(
        kind,
        blobs,
        manifests,
        None if subject is None else _descriptor(subject),
        artifact_type,
        texts(document.get("annotations")),
    )


def texts(value: Any) -> dict[str, str]:
    """What a document's object holds of texts: its annotations."""
    items = value.items() if isinstance(value, dict) else ()
    return {name: text for name, text in items if isinstance(text, str)}


def parse_manifest(content: bytes) -> Manifest:
    """Read an OCI image manifest.

    Raises:
        Retryable: too large, not JSON, or not an image manifest.
    """
    document = _sized_document(content)
    if document.get("schemaVersion") != 2 or document.get("mediaType") != MANIFEST:  # noqa: PLR2004 (OCI's only version)
        raise _invalid(f"its media type is {document.get('mediaType')!r:.100}, not {MANIFEST}")
    layers = document.get("layers")
    if not isinstance(layers, list) or len(layers) > LAYERS_LIMIT:
        raise _invalid("it has no list of layers")
    return Manifest(_descriptor(document.get("config")), tuple(_descriptor(x) for x in layers))


def parse_index(content: bytes) -> tuple[Member, ...]:
    """Read an OCI image index: its members, in its order.

    Raises:
        Retryable: too large, not JSON, or not an index.
    """
    document = _sized_document(content)
    members = document.get("manifests")
    if document.get("mediaType") != INDEX or not isinstance(members, list):
        raise _invalid(f"its media type is {document.get('mediaType')!r:.100}, not {INDEX}")
    if not 0 < len(members) <= MEMBERS_LIMIT:
        raise _invalid(f"it has {len(members)} members; 1 to {MEMBERS_LIMIT} are allowed")
    return tuple(Member(_platform(each), _descriptor(each)) for each in members)


def _platform(member: Any) -> str:
    match member:
        case {"platform": {"os": str(), "architecture": str()} as found}:
            return platform_name(found)
        case _:
            return ""


def media_type(content: bytes) -> str:
    """What a manifest says it is; an OCI image manifest if it says nothing.

    Raises:
        Retryable: not a JSON object.
    """
    named = _document(content).get("mediaType")
    return named if isinstance(named, str) and _MEDIA_TYPE.fullmatch(named) else MANIFEST


def _sized_document(content: bytes) -> dict[str, Any]:
    if len(content) > MANIFEST_LIMIT:
        raise _invalid(f"it has {len(content)} bytes; {MANIFEST_LIMIT} are allowed")
    return _document(content)


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
