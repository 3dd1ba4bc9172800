"""A layer in one pass: entries, tar, diff ID, frames, digest, spool file.

Nothing is read twice, and nothing but the compressed blob touches the disk.
"""

import hashlib
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from niximage.errors import Reason, Retryable
from niximage.image.compress import ZSTD_MEDIA_TYPE, compress
from niximage.image.descriptor import Descriptor
from niximage.image.entries import FileEntry, directory, walk
from niximage.image.tar import tar


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


def store_entries(paths: Sequence[str]) -> Iterator[FileEntry]:
    """The entries of a layer of store paths, their parents first."""
    yield directory(b"nix")
    yield directory(b"nix/store")
    for path in sorted(paths):
        yield from walk(path)


def pack(entries: Iterable[FileEntry], folder: Path, *, threads: int | None = None) -> PackedLayer:
    """Pack entries into a compressed layer.

    Args:
        entries: what the layer holds, parents before children.
        folder: where the blob is spooled.
        threads: how many frames are compressed at once; as many as processors by default. The
            bytes do not depend on it.

    Raises:
        Terminal: an entry that no layer can hold.
        Retryable: something cannot be read, or the spool cannot be written.
    """
    workers = threads or len(os.sched_getaffinity(0))
    diff_id = hashlib.sha256()
    digest = hashlib.sha256()
    tar_size = size = 0

    def measured() -> Iterator[bytes]:
        nonlocal tar_size
        for chunk in tar(entries):
            diff_id.update(chunk)
            tar_size += len(chunk)
            yield chunk

    try:
        spool = tempfile.NamedTemporaryFile(  # noqa: SIM115 (closed below, kept on success)
            dir=folder, prefix="layer-", delete=False
        )
    except OSError as error:
        raise _unwritable(folder, error) from None
    path = Path(spool.name)
    try:
        with spool, ThreadPoolExecutor(workers, thread_name_prefix="compress") as pool:
            for frame in compress(measured(), pool, workers=workers):
                digest.update(frame)
                size += len(frame)
                spool.write(frame)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise _unwritable(folder, error) from None
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return PackedLayer(
        descriptor=Descriptor(ZSTD_MEDIA_TYPE, f"sha256:{digest.hexdigest()}", size),
        diff_id=f"sha256:{diff_id.hexdigest()}",
        tar_size=tar_size,
        path=path,
    )


def _unwritable(folder: Path, error: OSError) -> Retryable:
    return Retryable(
        Reason.BUILD_INTERRUPTED,
        f"a layer cannot be spooled to {folder}: {error.strerror}",
        hint="Give the build more ephemeral storage",
    )
