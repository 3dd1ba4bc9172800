"""A layer in one pass: entries, tar, diff ID, compressed blocks, digest, spool file.

    walk, read, headers ──▶ buffers ──┬──▶ compress (as many threads as cores) ──┐
    the caller's thread               └──▶ diff ID ──────────────────────────────┴▶ digest, spool
                                           one thread per layer, in the blocks' order

Nothing is read twice, nothing is copied between the page cache and the compressor, and
nothing but the compressed blob touches the disk. A fixed number of buffers goes round: who
needs one waits until another block is written, so memory is bounded whatever the sizes of
files and the speeds of disks.
"""

import contextlib
import hashlib
import os
import tempfile
import threading
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import BinaryIO, Final, Self

from niximage.errors import Reason, Retryable
from niximage.image.compress import ZSTD, Codec
from niximage.image.descriptor import Descriptor
from niximage.image.entries import FileEntry
from niximage.image.tar import BLOCK, tar

THREADS_LIMIT: Final = 16  # beyond it hashing, which has one thread per layer, is the limit
LAYERS: Final = 2  # that are packed at once: while one reads small files, the other compresses


@dataclass(frozen=True, slots=True)
class PackedLayer:
    """A layer on this machine's disk.

    Attributes:
        descriptor: the blob's media type, digest and size.
        diff_id: the digest of the uncompressed tar, `sha256:…`.
        tar_size: bytes of that tar.
        path: the file that holds the blob; the caller deletes it.
    """

    descriptor: Descriptor
    diff_id: str
    tar_size: int
    path: Path


def pack(
    entries: Iterable[FileEntry],
    folder: Path,
    *,
    codec: Codec = ZSTD,
    threads: int | None = None,
) -> PackedLayer:
    """Pack one layer; see `Packer` for the arguments, and for several layers."""
    with Packer(threads=threads) as packer:
        return packer.pack(entries, folder, codec=codec)


class Packer:
    """The threads and buffers that the layers of an image share.

    Args:
        threads: how many blocks are compressed at once; as many as processors by default, and
            no more than `THREADS_LIMIT`. The bytes do not depend on it.
    """

    def __init__(self, *, threads: int | None = None) -> None:
        workers = min(threads or len(os.sched_getaffinity(0)), THREADS_LIMIT)
        self._compressors = ThreadPoolExecutor(workers, thread_name_prefix="compress")
        # One in each compressor, one that waits for it, one that each layer fills.
        count = workers + 1 + LAYERS
        self._buffers: SimpleQueue[bytearray] = SimpleQueue()
        for _ in range(count):
            self._buffers.put(bytearray(BLOCK + 1))
        self._layers = threading.BoundedSemaphore(LAYERS)
        self._stopped = threading.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._compressors.shutdown()

    def stop(self) -> None:
        """Let whatever is being packed fail at its next block; from any thread."""
        self._stopped.set()

    def pack(
        self, entries: Iterable[FileEntry], folder: Path, *, codec: Codec = ZSTD
    ) -> PackedLayer:
        """Pack entries into a compressed layer; any number of threads may, `LAYERS` will at once.

        Args:
            entries: what the layer holds, in a tar's order; closed in any case, if it can be.
            folder: where the blob is spooled.
            codec: how it is compressed.

        Raises:
            Terminal: an entry that no layer can hold.
            Retryable: something cannot be read, the spool cannot be written, or `stop`.
        """
        with self._layers, _closed(entries), _spool(folder) as (spool, path):
            self._check_stopped()
            blob = _Blob(codec, spool, path)
            self._fill(entries, blob)
            return blob.packed()

    def _fill(self, entries: Iterable[FileEntry], blob: "_Blob") -> None:
        codec = blob.codec
        filling: list[bytearray] = []  # the buffer that the tar is written to, if any

        def take() -> bytearray:
            filling.append(self._buffers.get())
            return filling[0]

        def write(block: memoryview, compressed: Future[bytes], buffer: bytearray) -> None:
            try:
                blob.add(block, compressed)
            finally:
                self._buffers.put(buffer)

        written: deque[Future[None]] = deque()
        before = b""
        try:
            with ThreadPoolExecutor(1, thread_name_prefix="write") as writer:
                for block in tar(entries, block=codec.block, take=take):
                    self._check_stopped()
                    compressed = self._compressors.submit(codec.compress, block, before)
                    before = bytes(block[-codec.window :]) if codec.window else b""
                    written.append(writer.submit(write, block, compressed, filling.pop()))
                    while written and written[0].done():
                        written.popleft().result()
        finally:
            for buffer in filling:
                self._buffers.put(buffer)
        for each in written:
            each.result()

    def _check_stopped(self) -> None:
        if self._stopped.is_set():
            raise Retryable(Reason.BUILD_INTERRUPTED, "packing was stopped", hint="Build it again")


class _Blob:
    """A blob as it grows: both digests, both sizes, the spool file."""

    def __init__(self, codec: Codec, spool: BinaryIO, path: Path) -> None:
        self.codec = codec
        self._spool = spool
        self._path = path
        self._diff_id = hashlib.sha256()
        self._digest = hashlib.sha256()
        self._tar_size = 0
        self._size = 0
        self._checksum = 0
        self._write(codec.head)

    def add(self, block: memoryview, compressed: Future[bytes]) -> None:
        """Add a block of the tar, and wait for what it was compressed to."""
        try:
            self._diff_id.update(block)
            self._checksum = self.codec.checksum(block, self._checksum)
            self._tar_size += len(block)
        finally:
            # Waited for in any case: until then the compressor reads the block.
            data = compressed.result()
        self._write(data)

    def packed(self) -> PackedLayer:
        """The layer, all of whose blocks were added."""
        self._write(self.codec.tail(self._checksum, self._tar_size))
        try:
            self._spool.flush()
        except OSError as error:
            raise _unwritable(self._path.parent, error) from None
        return PackedLayer(
            descriptor=Descriptor(
                self.codec.media_type, f"sha256:{self._digest.hexdigest()}", self._size
            ),
            diff_id=f"sha256:{self._diff_id.hexdigest()}",
            tar_size=self._tar_size,
            path=self._path,
        )

    def _write(self, data: bytes) -> None:
        self._digest.update(data)
        self._size += len(data)
        try:
            self._spool.write(data)
        except OSError as error:
            raise _unwritable(self._path.parent, error) from None


@contextlib.contextmanager
def _closed(entries: Iterable[FileEntry]) -> Iterator[None]:
    """Let go of what entries are read from, even if not all are taken."""
    try:
        yield
    finally:
        if isinstance(entries, Generator):
            entries.close()


@contextlib.contextmanager
def _spool(folder: Path) -> Iterator[tuple[BinaryIO, Path]]:
    """A new file in a folder, that stays if all goes well."""
    try:
        descriptor, name = tempfile.mkstemp(dir=folder, prefix="layer-")
    except OSError as error:
        raise _unwritable(folder, error) from None
    spool = open(descriptor, "wb")  # noqa: SIM115, PTH123 (closed below; Path has no descriptors)
    try:
        yield spool, Path(name)
    except BaseException:
        # What could not be written once cannot be when closing, either.
        with contextlib.suppress(OSError):
            spool.close()
        Path(name).unlink(missing_ok=True)
        raise
    spool.close()


def _unwritable(folder: Path, error: OSError) -> Retryable:
    return Retryable(
        Reason.BUILD_INTERRUPTED,
        f"a layer cannot be spooled to {folder}: {error.strerror}",
        hint="Make room there: a build Job has its ephemeral storage, or the bucket's volume",
    )
