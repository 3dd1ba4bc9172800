"""Compressed files of a binary cache, as the bytes that were compressed.

What comes is a stranger's until its hash was seen, and 64 KiB of it may stand for gigabytes: so
no step gives more than a piece at a time, decoders have a limit on memory, and whoever takes
the pieces stops when there are more bytes than were announced. Files of several frames,
streams or members are read to their end, as Nix reads them.
"""

import bz2
import lzma
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import IO, Final, Protocol, cast

import brotli  # type: ignore[import-untyped]
import zstandard

from niximage.errors import Reason, Retryable, Terminal
from niximage.nix.narinfo import Compression

PIECE: Final = 256 << 10  # about the most bytes that come at once
XZ_MEMORY: Final = 72 << 20  # bytes; `xz -9` needs 65 MiB
ZSTD_WINDOW: Final = 128 << 20  # bytes; what `zstd -22` looks back to

# Little enough that a file of empty members costs no more time than its bytes are worth.
_SLICE: Final = 32 << 10
_GZIP_BITS: Final = zlib.MAX_WBITS | 16  # with gzip's header and trailer


def decompress(
    chunks: Iterable[bytes], compression: Compression, what: str = "the file"
) -> Iterator[bytes]:
    """Decompress a file as it comes.

    Args:
        chunks: the file, each chunk some 256 KiB or less; taken to the end.
        compression: how it is compressed.
        what: what errors call it.

    Returns:
        What was compressed, in pieces of about `PIECE` bytes at most.

    Raises:
        Terminal: it is not compressed like that, is damaged, or needs too much memory.
        Retryable: it ends early.
    """
    try:
        yield from _decompressed(chunks, compression)
    except _DamagedError as error:
        raise Terminal(
            Reason.HASH_MISMATCH,
            f"{what} cannot be decompressed as {compression}: {error}",
            hint="Remove it from the cache, or leave the cache out",
        ) from None
    except _EarlyError:
        raise Retryable(
            Reason.SUBSTITUTER_UNAVAILABLE,
            f"{what}, compressed as {compression}, ends early",
            hint="Try again; if it stays, remove it from the cache",
        ) from None


class _DamagedError(Exception):
    """It is not compressed like that; says why."""


class _EarlyError(Exception):
    """It ends in the middle."""


def _decompressed(chunks: Iterable[bytes], compression: Compression) -> Iterator[bytes]:
    match compression:
        case "none":
            return iter(chunks)
        case "zstd":
            return _zstd(chunks)
        case "br":
            return _brotli(chunks)
        case "xz":
            return _members(chunks, _xz, padding=b"\0")
        case "bzip2":
            return _members(chunks, bz2.BZ2Decompressor)
        case "gzip":
            return _members(chunks, _Gzip)


class _Decoder(Protocol):
    """Decompresses one stream or member, as the standard library does it."""

    @property
    def eof(self) -> bool:
        """Whether it is at its end."""

    @property
    def needs_input(self) -> bool:
        """Whether it has nothing to give before it gets more."""

    @property
    def unused_data(self) -> bytes:
        """What was there beyond the end."""

    def decompress(self, data: bytes, max_length: int) -> bytes:
        """Take data, give what it stands for: no more than that many bytes."""


def _xz() -> _Decoder:
    return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=XZ_MEMORY)


class _Gzip:
    """One member of a gzip file, decompressed as `lzma` and `bz2` do it."""

    def __init__(self) -> None:
        self._inflate = zlib.decompressobj(_GZIP_BITS)
        self._is_full = False

    @property
    def eof(self) -> bool:
        return self._inflate.eof

    @property
    def needs_input(self) -> bool:
        return not self._is_full and not self._inflate.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._inflate.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        found = self._inflate.decompress(self._inflate.unconsumed_tail + data, max_length)
        self._is_full = len(found) == max_length
        return found


def _members(
    chunks: Iterable[bytes],
    start: Callable[[], _Decoder],
    padding: bytes = b"",
) -> Iterator[bytes]:
    """Streams or members one after the other, with padding between them."""
    decoder: _Decoder | None = None
    for data in _slices(chunks):
        left = data
        while left or (decoder is not None and not decoder.needs_input):
            if decoder is None:
                left = left.lstrip(padding) if padding else left
                if not left:
                    break
                decoder = start()
            try:
                found = decoder.decompress(left, PIECE)
            except (lzma.LZMAError, zlib.error, OSError, ValueError) as error:
                raise _DamagedError(error) from None
            left = b""
            if decoder.eof:
                left, decoder = decoder.unused_data, None
            if found:
                yield found
    if decoder is not None:
        raise _EarlyError


def _slices(chunks: Iterable[bytes]) -> Iterator[bytes]:
    for chunk in chunks:
        for start in range(0, len(chunk), _SLICE):
            yield chunk[start : start + _SLICE]


def _brotli(chunks: Iterable[bytes]) -> Iterator[bytes]:
    decoder = brotli.Decompressor()
    for chunk in chunks:
        left = chunk
        while True:
            try:
                found = decoder.process(left, output_buffer_limit=PIECE)
            except brotli.error as error:
                raise _DamagedError(error) from None
            if found:
                yield found
            if not found or decoder.is_finished():
                break
            left = b""
    if not decoder.is_finished():
        raise _EarlyError


def _zstd(chunks: Iterable[bytes]) -> Iterator[bytes]:
    decoder = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW)
    rest = iter(chunks)
    with decoder.stream_reader(cast("IO[bytes]", _Source(rest)), read_across_frames=True) as reader:
        while True:
            try:
                found = reader.read(PIECE)
            except zstandard.ZstdError as error:
                raise _DamagedError(error) from None
            if not found:
                break
            yield found
    # The reader has asked for everything; what checks the chunks speaks up at their end.
    for chunk in rest:
        if chunk:
            raise _DamagedError("more after the last frame")


class _Source:
    """Chunks as the file that zstandard reads from."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._left = memoryview(b"")

    def read(self, size: int) -> bytes:
        """The next bytes, no more than that many; none at the end."""
        while not self._left:
            chunk = next(self._chunks, None)
            if chunk is None:
                return b""
            self._left = memoryview(chunk)
        found, self._left = self._left[:size], self._left[size:]
        return bytes(found)
