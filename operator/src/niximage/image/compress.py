"""Bytes to zstd frames that are the same on every machine.

Input is cut every 4 MiB and each piece becomes a frame of its own, with its content size and
checksum, by a compressor that has seen nothing else. A decoder reads frames after each other
as one stream. So the bytes depend on the input and on libzstd's version alone, whatever the
number of threads, the processor, or how the input came in pieces. The version is part of the
codec's id, and through it of layer keys.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

import zstandard

from niximage.image.descriptor import LAYER_ZSTD

LEVEL: Final = 3
FRAME: Final = 4 << 20  # bytes of input per frame

ZSTD_ID: Final = f"zstd-{'.'.join(map(str, zstandard.ZSTD_VERSION))}/{LEVEL}/{FRAME >> 20}M"
"""What the bytes depend on: library version, level, frame size."""

ZSTD_MEDIA_TYPE: Final = LAYER_ZSTD


def compress_frame(data: bytes) -> bytes:
    """One frame, from a fresh compressor."""
    # The pledge is the size header: `compress` knows the length and writes it.
    return zstandard.ZstdCompressor(
        level=LEVEL, write_content_size=True, write_checksum=True, write_dict_id=False
    ).compress(data)


def compress(chunks: Iterable[bytes], pool: ThreadPoolExecutor, *, workers: int) -> Iterator[bytes]:
    """The frames of a stream, in order.

    Args:
        chunks: the stream, in pieces of any size.
        pool: where frames are compressed; libzstd gives the interpreter's lock back.
        workers: how many of the pool's threads there are; `workers + 2` frames are in flight.

    Yields:
        One frame at a time. An empty stream has none.
    """
    waiting: deque[Future[bytes]] = deque()
    try:
        for piece in _pieces(chunks):
            waiting.append(pool.submit(compress_frame, piece))
            while len(waiting) >= workers + 2:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


def _pieces(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The stream in pieces of exactly `FRAME` bytes, and the rest."""
    buffer = bytearray()
    for chunk in chunks:
        view = memoryview(chunk)
        while view:
            taken = view[: FRAME - len(buffer)]
            buffer += taken
            view = view[len(taken) :]
            if len(buffer) == FRAME:
                yield bytes(buffer)
                buffer.clear()
    if buffer:
        yield bytes(buffer)
