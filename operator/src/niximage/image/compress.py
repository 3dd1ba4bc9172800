"""Bytes to compressed blocks that are the same on every machine.

Input is cut into blocks of a fixed size, and each is compressed by a compressor of its own; a
decoder reads what comes out one after the other as one stream. So the bytes depend on the
input and on the library's version alone, whatever the number of threads, the processor, or
how the input came in pieces. The version is part of the codec's id, and through it of layer
keys.

zstd is the default: six times as fast as gzip, and smaller. gzip is for those whose runtimes
are older than it. Intel's ISA-L would be faster still, but gives other bytes for the same
input from one run to the next.
"""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal, Protocol

import zstandard

from niximage.image.descriptor import LAYER_GZIP, LAYER_ZSTD

CodecName = Literal["zstd", "gzip"]

Data = bytes | memoryview


class Codec(Protocol):
    """One way to compress a stream: head, then each block, then tail."""

    @property
    def name(self) -> CodecName:
        """What users call it."""

    @property
    def id(self) -> str:
        """What the bytes depend on: library and version, level, block size."""

    @property
    def media_type(self) -> str:
        """The media type of a layer."""

    @property
    def block(self) -> int:
        """Bytes of input per block; the last may have fewer."""

    @property
    def window(self) -> int:
        """How many bytes before a block its compressor looks back to."""

    @property
    def head(self) -> bytes:
        """What a stream begins with."""

    def compress(self, data: Data, before: Data) -> bytes:
        """Compress one block.

        Args:
            data: the block.
            before: the last `window` bytes of the block before; empty for the first.
        """

    def checksum(self, data: Data, running: int) -> int:
        """The checksum of a stream so far, one block later; it starts at 0."""

    def tail(self, checksum: int, size: int) -> bytes:
        """What a stream ends with.

        Args:
            checksum: of the whole input.
            size: bytes of the whole input.
        """


@dataclass(frozen=True, slots=True)
class Zstd:
    """Frames of 4 MiB, each with its content size and its own checksum."""

    level: int = 3
    block: int = 4 << 20
    window: int = 0
    head: bytes = b""
    name: CodecName = "zstd"
    media_type: str = LAYER_ZSTD

    @property
    def id(self) -> str:
        """See `Codec`."""
        version = ".".join(map(str, zstandard.ZSTD_VERSION))
        return f"zstd-{version}/{self.level}/{self.block >> 20}M"

    def compress(self, data: Data, before: Data) -> bytes:  # noqa: ARG002 (frames know no past)
        """See `Codec`."""
        # `compress` knows the length, and so writes the content size.
        return zstandard.ZstdCompressor(
            level=self.level, write_content_size=True, write_checksum=True, write_dict_id=False
        ).compress(data)

    def checksum(self, data: Data, running: int) -> int:  # noqa: ARG002 (each frame has its own)
        """See `Codec`."""
        return running

    def tail(self, checksum: int, size: int) -> bytes:  # noqa: ARG002 (frames end by themselves)
        """See `Codec`."""
        return b""


@dataclass(frozen=True, slots=True)
class Gzip:
    """One member, of blocks of 1 MiB that look back 32 KiB and end on a byte."""

    level: int = 6
    block: int = 1 << 20
    window: int = 32 << 10
    # Deflate, no flags, no time, no hint, of an unknown system: libraries disagree on the rest.
    head: bytes = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
    name: CodecName = "gzip"
    media_type: str = LAYER_GZIP

    @property
    def id(self) -> str:
        """See `Codec`; distributions that put zlib-ng in zlib's place say so in the version."""
        return f"gzip-{zlib.ZLIB_RUNTIME_VERSION}/{self.level}/{self.block >> 20}M"

    def compress(self, data: Data, before: Data) -> bytes:
        """See `Codec`."""
        raw = -zlib.MAX_WBITS  # no header, no trailer
        if before:
            deflate = zlib.compressobj(self.level, wbits=raw, zdict=before)
        else:
            deflate = zlib.compressobj(self.level, wbits=raw)
        return deflate.compress(data) + deflate.flush(zlib.Z_SYNC_FLUSH)

    def checksum(self, data: Data, running: int) -> int:
        """See `Codec`."""
        return zlib.crc32(data, running)

    def tail(self, checksum: int, size: int) -> bytes:
        """See `Codec`."""
        final = b"\x03\x00"  # an empty last block
        return final + checksum.to_bytes(4, "little") + (size % (1 << 32)).to_bytes(4, "little")


ZSTD: Final[Codec] = Zstd()
GZIP: Final[Codec] = Gzip()

ZSTD_ID: Final = ZSTD.id

CODECS: Final[Mapping[CodecName, Codec]] = MappingProxyType({"zstd": ZSTD, "gzip": GZIP})
"""The codecs by the names that users give them."""
