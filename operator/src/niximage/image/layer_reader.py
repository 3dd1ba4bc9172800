"""Reading a layer that was made elsewhere: what is in it, and whether its bytes are the right ones.

The blob passes once, through both digests; nothing of its files is kept but what was asked
for. What is read came from a registry: sizes are bounded before memory is taken.
"""

import hashlib
import struct
import tarfile
import zlib
from collections.abc import Collection, Iterable, Iterator
from typing import Final

import zstandard

from niximage.errors import Reason, Terminal
from niximage.image.descriptor import LAYER_GZIP, LAYER_TAR, LAYER_ZSTD, Descriptor
from niximage.image.entries import Kind
from niximage.image.tree import Listed, tidy

LAYER_LIMIT: Final = 64 << 30  # bytes of one layer's tar
ENTRIES_LIMIT: Final = 4_000_000  # of one layer
CONTENT_LIMIT: Final = 16 << 20  # bytes of a file whose content is asked for

# What tarfile and the decoders raise at bytes that nobody meant to write.
_DAMAGED: Final = (
    tarfile.TarError,
    zlib.error,
    zstandard.ZstdError,
    struct.error,
    EOFError,
    ValueError,
    LookupError,
    ArithmeticError,
    RecursionError,
)
_READ_LIMIT: Final = CONTENT_LIMIT  # bytes of one header: long names and extended attributes
_CHUNK: Final = 1 << 20
_ID: Final = (1 << 32) - 1  # what the kernel takes of an owner's number; some are negative
_WINDOW_LIMIT: Final = 128 << 20  # bytes that a zstd frame may make us remember


def list_layer(
    blob: Iterable[bytes], descriptor: Descriptor, diff_id: str, *, keep: Collection[bytes] = ()
) -> Iterator[Listed]:
    """List a layer, and verify it: the last entry is followed by the check of both digests.

    Args:
        blob: the compressed layer, in pieces of any size.
        descriptor: the blob's media type, digest and size.
        diff_id: the digest of its tar.
        keep: names of small files whose content is wanted, such as `etc/passwd`.

    Raises:
        Terminal: the layer is damaged, is not what its digests say, or is out of all bounds.
    """
    reader = _TarReader(blob, descriptor)
    try:
        yield from _list(reader, frozenset(keep))
        reader.drain()
    except _DAMAGED as error:
        raise _bad(descriptor, f"is damaged: {error}") from None
    reader.check(diff_id)


def decompress(chunks: Iterable[bytes], descriptor: Descriptor) -> Iterator[bytes]:
    """The tar of a layer, in pieces; its digests are the caller's to check.

    Raises:
        Terminal: the layer is damaged, or of no kind that we know.
    """
    try:
        yield from _decompressed(iter(chunks), descriptor)
    except (zlib.error, zstandard.ZstdError, EOFError) as error:
        raise _bad(descriptor, f"is damaged: {error}") from None


def _list(reader: "_TarReader", keep: frozenset[bytes]) -> Iterator[Listed]:
    if reader.is_empty():
        return  # no tar at all stands for an empty one
    count = 0
    with tarfile.TarFile(
        fileobj=reader,  # type: ignore[arg-type]  # it reads, tells and seeks forward: enough here
        encoding="utf-8",
        errors="surrogateescape",
        errorlevel=2,
    ) as tar:
        while (member := tar.next()) is not None:
            tar.members.clear()  # type: ignore[attr-defined]  # it would remember them all
            count += 1
            if count > ENTRIES_LIMIT:
                raise ValueError(f"more than {ENTRIES_LIMIT} entries")
            name = tidy(_bytes(member.name))
            content = b""
            if member.isreg() and name in keep and member.size <= CONTENT_LIMIT:
                reader.seek(member.offset_data)
                content = reader.read(member.size)
            yield Listed(
                name,
                _kind(member),
                member.mode & 0o7777,
                member.uid & _ID,
                member.gid & _ID,
                _bytes(member.linkname) if member.issym() else b"",
                content,
            )


def _kind(member: tarfile.TarInfo) -> Kind:
    if member.isdir():
        return Kind.DIRECTORY
    return Kind.SYMLINK if member.issym() else Kind.FILE


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


class _TarReader:
    """The tar in a blob as a file that is read forward, through both digests."""

    def __init__(self, blob: Iterable[bytes], descriptor: Descriptor) -> None:
        self._descriptor = descriptor
        self._digest = hashlib.sha256()
        self._diff_id = hashlib.sha256()
        self._size = 0
        self._raw = self._digested(blob)
        self._plain = _decompressed(self._raw, descriptor)
        self._buffer = bytearray()
        self._start = 0  # where in the buffer the next read begins
        self._position = 0
        self._total = 0

    def is_empty(self) -> bool:
        self._fill(1)
        return not self._buffer

    def read(self, count: int = -1) -> bytes:
        if not 0 <= count <= _READ_LIMIT:
            raise ValueError(f"a header of {count} bytes")
        self._fill(count)
        data = bytes(self._buffer[self._start : self._start + count])
        self._start += len(data)
        self._position += len(data)
        return data

    def tell(self) -> int:
        return self._position

    def seek(self, position: int) -> None:
        while self._position < position:
            if not self.read(min(position - self._position, _CHUNK)):
                raise EOFError("it ends in the middle of a file")
        if self._position != position:
            raise ValueError("a file that begins before the last one")

    def drain(self) -> None:
        """Read what is left, in the tar and behind it."""
        while self.read(_CHUNK):
            pass
        for _ in self._raw:
            pass

    def check(self, diff_id: str) -> None:
        """Compare the digests.

        Raises:
            Terminal: they differ.
        """
        found = (f"sha256:{self._digest.hexdigest()}", self._size)
        if found != (self._descriptor.digest, self._descriptor.size):
            raise _bad(self._descriptor, f"is another one: {found[0]} of {found[1]} bytes")
        if f"sha256:{self._diff_id.hexdigest()}" != diff_id:
            raise _bad(self._descriptor, f"does not hold the tar {diff_id} that the config names")

    def _fill(self, count: int) -> None:
        while len(self._buffer) - self._start < count:
            piece = next(self._plain, None)
            if piece is None:
                return
            del self._buffer[: self._start]
            self._start = 0
            self._buffer += piece
            self._diff_id.update(piece)
            self._total += len(piece)
            if self._total > LAYER_LIMIT:
                raise ValueError(f"more than {LAYER_LIMIT >> 30} GiB")

    def _digested(self, blob: Iterable[bytes]) -> Iterator[bytes]:
        for chunk in blob:
            self._digest.update(chunk)
            self._size += len(chunk)
            yield chunk


def _decompressed(chunks: Iterator[bytes], descriptor: Descriptor) -> Iterator[bytes]:
    match descriptor.media_type:
        case kind if kind == LAYER_GZIP:
            return _gunzip(chunks)
        case kind if kind == LAYER_ZSTD:
            return _unzstd(chunks)
        case kind if kind == LAYER_TAR:
            return chunks
        case other:
            raise _bad(descriptor, f"is a {other}")


def _gunzip(chunks: Iterator[bytes]) -> Iterator[bytes]:
    member = zlib.decompressobj(wbits=31)
    started = False
    for chunk in chunks:
        data = chunk
        while data:
            started = True
            if plain := member.decompress(data, _CHUNK):
                yield plain
            if member.eof:
                # Some writers pad; whatever else follows is another member.
                data, member, started = member.unused_data, zlib.decompressobj(wbits=31), False
                data = data.lstrip(b"\0")
            else:
                data = member.unconsumed_tail
    if started:
        raise EOFError("it ends in the middle")


def _unzstd(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """The content of all frames; each must be whole."""
    frame = zstandard.ZstdDecompressor(max_window_size=_WINDOW_LIMIT).decompressobj
    decoder = frame()
    started = False
    for chunk in chunks:
        for start in range(0, len(chunk), _ZSTD_STEP):
            data = chunk[start : start + _ZSTD_STEP]
            while data:
                started = True
                if plain := decoder.decompress(data):
                    yield plain
                if not decoder.eof:
                    break
                data, decoder, started = decoder.unused_data, frame(), False
    if started:
        raise EOFError("it ends in the middle")


_ZSTD_STEP: Final = 16 << 10  # bytes at once: a frame of zeros grows a thousandfold and more


def _bad(descriptor: Descriptor, what: str) -> Terminal:
    return Terminal(
        Reason.HASH_MISMATCH,
        f"the base's layer {descriptor.digest} {what}",
        hint="Choose another base, or have its registry mended",
    )
