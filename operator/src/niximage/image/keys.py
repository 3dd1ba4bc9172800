"""What a layer will be, said before it is packed.

Equal keys mean equal blobs: the key covers each store path with the hash of its content, and
whatever else the bytes depend on. The documents are canonical JSON, so no two different
layers can be spelled alike.
"""

import hashlib
from collections.abc import Iterable
from typing import Any, Final

from niximage.api.canonical import canonical_hash
from niximage.image.closure import PathInfo
from niximage.image.compress import ZSTD_ID
from niximage.image.entries import FileEntry
from niximage.image.tar import PACKER_ID

_VERSION: Final = 1


def store_layer_key(paths: Iterable[PathInfo], *, codec: str = ZSTD_ID) -> str:
    """The key of a layer of store paths: 64 hex digits, whatever their order."""
    return _key("store", sorted([info.path, info.nar_hash] for info in paths), codec)


def entries_layer_key(entries: Iterable[FileEntry], *, codec: str = ZSTD_ID) -> str:
    """The key of a layer of entries whose contents are at hand, in their order."""
    return _key("entries", [_describe(entry) for entry in entries], codec)


def _key(kind: str, content: list[list[Any]], codec: str) -> str:
    return canonical_hash(
        {"v": _VERSION, "kind": kind, "content": content, "packer": PACKER_ID, "codec": codec}
    )


def _describe(entry: FileEntry) -> list[Any]:
    if entry.origin or entry.reader is not None:
        raise ValueError(f"the content of {entry.name!r} is not at hand")
    # Latin-1 gives every byte its own character: names need not be UTF-8 to have a spelling.
    return [
        entry.name.decode("latin-1"),
        entry.kind.value,
        entry.mode,
        [entry.uid, entry.gid],
        entry.target.decode("latin-1"),
        hashlib.sha256(entry.content).hexdigest(),
    ]
