"""The names in a layer of store paths, apart from the layer.

The links at an image's root depend on what lies in the packages. Who packs a layer writes its
names down beside it, some dozen bytes per file, so that nobody needs to fetch the layer, or
what it was packed from, to lay out the root of another image.

Written, each is its kind, its name below /nix/store and a NUL, for a link followed by its
target and another; then comes an end, and all of it is compressed with zstd, with a checksum.
"""

from collections.abc import Iterable, Iterator
from typing import Final

import zstandard

from niximage.errors import Reason, Retryable
from niximage.image.entries import FileEntry, Kind
from niximage.image.listing import Seen
from niximage.image.tree import STORE_NAME

NAMES_LIMIT: Final = 16 << 20  # bytes of a layer's names before they are compressed
WRITTEN_LIMIT: Final = 16 << 20  # and after

_PREFIX: Final = STORE_NAME + b"/"
_KINDS: Final = {Kind.FILE: b"f", Kind.DIRECTORY: b"d", Kind.SYMLINK: b"l"}
_BY_BYTE: Final = {byte: kind for kind, byte in _KINDS.items()}
_END: Final = b"e\0"  # half of it must not pass for the whole
_LEVEL: Final = 3

PathNames = dict[bytes, Seen]
"""What lies in one store path: absolute path, itself included, to what it is."""


class NamesWriter:
    """Writes down the names of entries that pass by."""

    def __init__(self) -> None:
        self._compress = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True).compressobj()
        self._written: list[bytes] = []
        self._size = 0

    def passing(self, entries: Iterable[FileEntry]) -> Iterator[FileEntry]:
        """The entries as they are; what is in the store is written down."""
        for entry in entries:
            if entry.name.startswith(_PREFIX):
                self._add(entry)
            yield entry

    def finish(self) -> bytes | None:
        """All that was written down, or None if there was too much to be of use."""
        self._written += [self._compress.compress(_END), self._compress.flush()]
        written = b"".join(self._written)
        return written if self._size <= NAMES_LIMIT and len(written) <= WRITTEN_LIMIT else None

    def _add(self, entry: FileEntry) -> None:
        record = _KINDS[entry.kind] + entry.name[len(_PREFIX) :] + b"\0"
        if entry.kind is Kind.SYMLINK:
            record += entry.target + b"\0"
        self._size += len(record)
        if self._size <= NAMES_LIMIT and (data := self._compress.compress(record)):
            self._written.append(data)


class LayerNames:
    """The names of a layer, read back: of each store path what is in it.

    Args:
        written: what `NamesWriter` gave.

    Raises:
        Retryable: it is something else.
    """

    def __init__(self, written: bytes) -> None:
        try:
            with zstandard.ZstdDecompressor().stream_reader(written) as reader:
                data = reader.read(NAMES_LIMIT + len(_END) + 1)
        except zstandard.ZstdError as error:
            raise _malformed(str(error)) from None
        if len(data) > NAMES_LIMIT + len(_END):
            raise _malformed(f"more than {NAMES_LIMIT} bytes")
        if not (data == _END or data.endswith(b"\0" + _END)):
            raise _malformed("it ends early")
        self._fields = data[: -len(_END)].split(b"\0")
        self._starts = self._index()

    def of(self, path: bytes) -> PathNames | None:
        """What is in a store path, or None if the layer does not have it."""
        start = self._starts.get(path[len(_PREFIX) + 1 :])
        if start is None:
            return None
        names: PathNames = {}
        top = path[len(_PREFIX) + 1 :]
        for name, seen in self._read(start):
            if name != top and not name.startswith(top + b"/"):
                break
            names[b"/" + _PREFIX + name] = seen
        return names

    def _index(self) -> dict[bytes, int]:
        """Where each store path begins; and that all of it can be read."""
        starts: dict[bytes, int] = {}
        at = 0
        while at < len(self._fields) - 1:
            name = self._fields[at][1:]
            kind = _BY_BYTE.get(self._fields[at][:1])
            if kind is None or not name:
                raise _malformed(f"{self._fields[at][:80]!r}")
            if b"/" not in name:
                starts[name] = at
            at += 2 if kind is Kind.SYMLINK else 1
        if at != len(self._fields) - 1 or self._fields[-1]:
            raise _malformed("it ends early")
        return starts

    def _read(self, at: int) -> Iterator[tuple[bytes, Seen]]:
        while at < len(self._fields) - 1:
            kind = _BY_BYTE[self._fields[at][:1]]
            is_link = kind is Kind.SYMLINK
            yield self._fields[at][1:], Seen(kind, self._fields[at + 1] if is_link else b"")
            at += 2 if is_link else 1


def path_names(entries: Iterable[FileEntry]) -> PathNames:
    """What lies in one store path, by its entries."""
    return {b"/" + entry.name: Seen(entry.kind, entry.target) for entry in entries}


def _malformed(what: str) -> Retryable:
    return Retryable(
        Reason.RESULT_INVALID, f"a layer's names are malformed: {what}", hint="Build it again"
    )
