"""A layer in one pass: both digests are true, and nothing is left behind."""

import gzip
import hashlib
import io
import itertools
import os
import resource
import tarfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
import zstandard

from niximage.errors import Reason, Retryable
from niximage.image.compress import CODECS, ZSTD, Codec
from niximage.image.entries import FileEntry, Kind, directory, file
from niximage.image.pack import LAYERS, PackedLayer, Packer, pack
from niximage.image.tar import BLOCK

ENTRIES = [directory(b"bin"), file(b"bin/big", bytes(range(256)) * 40_000), file(b"small", b"x")]
NOISE = hashlib.shake_256(b"noise").digest(3 << 20)  # nothing compresses it

each_codec = pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)


def uncompressed(layer: PackedLayer, codec: Codec = ZSTD) -> bytes:
    blob = layer.path.read_bytes()
    if codec.name == "gzip":
        return gzip.decompress(blob)
    reader = zstandard.ZstdDecompressor().stream_reader(blob, read_across_frames=True)
    return bytes(reader.read())


def different_layers() -> list[list[FileEntry]]:
    """Layers of many small files, of one large one, of several blocks, and nearly empty ones."""
    return [
        [file(b"s/%03d" % i, NOISE[: i * 37 % 9000]) for i in range(800)],
        [file(b"large", NOISE * 3)],
        [file(b"half", NOISE[: BLOCK // 2]), file(b"more", NOISE), file(b"zeros", bytes(BLOCK))],
        [directory(b"empty")],
        [],
        ENTRIES,
    ]


@contextmanager
def files_limited_to(size: int) -> Iterator[None]:
    """No file that this process writes gets larger, as on a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@each_codec
def test_both_digests_and_sizes_are_true(tmp_path: Path, codec: Codec) -> None:
    layer = pack(ENTRIES, tmp_path, codec=codec)
    blob, tar = layer.path.read_bytes(), uncompressed(layer, codec)
    assert layer.descriptor.digest == f"sha256:{hashlib.sha256(blob).hexdigest()}"
    assert layer.descriptor.size == len(blob)
    assert layer.descriptor.media_type == codec.media_type
    assert layer.diff_id == f"sha256:{hashlib.sha256(tar).hexdigest()}"
    assert layer.tar_size == len(tar)


@each_codec
def test_the_tar_inside_has_the_entries(tmp_path: Path, codec: Codec) -> None:
    data = uncompressed(pack(ENTRIES, tmp_path, codec=codec), codec)
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
        assert archive.getnames() == ["bin", "bin/big", "small"]


@each_codec
def test_threads_and_neighbours_do_not_change_a_layer(tmp_path: Path, codec: Codec) -> None:
    layers = different_layers()
    found = []
    for threads in (1, 2, 8):
        with Packer(threads=threads) as packer, ThreadPoolExecutor(len(layers)) as pool:
            packing = [pool.submit(packer.pack, each, tmp_path, codec=codec) for each in layers]
            found.append([future.result() for future in packing])
    alone = [pack(each, tmp_path, codec=codec, threads=1) for each in layers]
    for others in found:
        for one, other in zip(alone, others, strict=True):
            assert (one.descriptor, one.diff_id) == (other.descriptor, other.diff_id)
    assert len({layer.diff_id for layer in alone}) == len(layers)


def test_what_is_packed_at_once_is_bounded(tmp_path: Path) -> None:
    now, most = itertools.count(), 0
    inside, lock = 0, threading.Lock()

    def counted() -> Iterator[FileEntry]:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        yield file(b"%d" % next(now), bytes(2 * BLOCK))
        with lock:
            inside -= 1

    with Packer(threads=2) as packer, ThreadPoolExecutor(6) as pool:
        for future in [pool.submit(packer.pack, counted(), tmp_path) for _ in range(6)]:
            future.result()
    assert most <= LAYERS


def test_what_fails_leaves_no_spool_file(tmp_path: Path) -> None:
    def failing() -> Iterator[FileEntry]:
        yield file(b"a", bytes(5 << 20))
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        pack(failing(), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_entries_are_read_from_is_let_go_when_packing_fails(tmp_path: Path) -> None:
    is_open = True

    def entries() -> Iterator[FileEntry]:
        nonlocal is_open
        try:
            yield FileEntry(b"gone", Kind.FILE, 0o444, size=1, origin=b"/nowhere")
        finally:
            is_open = False

    reading = entries()  # held here, so that nothing else closes it
    with pytest.raises(Retryable, match="/nowhere"):
        pack(reading, tmp_path)
    assert not is_open


def test_layers_that_failed_do_not_hold_up_the_next(tmp_path: Path) -> None:
    gone = FileEntry(b"f", Kind.FILE, 0o444, size=BLOCK, origin=b"/nowhere")
    with Packer(threads=1) as packer:
        for _ in range(20):  # more often than there are buffers
            with pytest.raises(Retryable, match="/nowhere"):
                packer.pack([file(b"a", bytes(3 * BLOCK)), gone], tmp_path)
        assert packer.pack(ENTRIES, tmp_path).diff_id == pack(ENTRIES, tmp_path).diff_id


@pytest.mark.parametrize("grown", [-1, 1])
def test_a_file_that_changes_is_an_error_and_no_layer(tmp_path: Path, grown: int) -> None:
    origin = tmp_path / "origin"
    origin.write_bytes(bytes(3 * BLOCK))
    entry = FileEntry(b"f", Kind.FILE, 0o444, size=3 * BLOCK - grown, origin=os.fsencode(origin))
    folder = tmp_path / "spool"
    folder.mkdir()
    with pytest.raises(Retryable, match="origin changed while it was packed") as caught:
        pack([entry], folder)
    assert caught.value.reason is Reason.BUILD_INTERRUPTED
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("size", [0, 10_000, 5 << 20])
def test_a_full_disk_is_an_error_that_names_the_folder(tmp_path: Path, size: int) -> None:
    with (
        files_limited_to(size),
        pytest.raises(Retryable, match=f"cannot be spooled to {tmp_path}: ") as caught,
    ):
        pack([file(b"%d" % i, NOISE) for i in range(20)], tmp_path)
    assert caught.value.reason is Reason.BUILD_INTERRUPTED
    assert "ephemeral storage" in caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_full_at_the_very_end_is_an_error(tmp_path: Path) -> None:
    size = pack(ENTRIES, tmp_path).descriptor.size
    spool = tmp_path / "spool"
    spool.mkdir()
    with files_limited_to(size - 1), pytest.raises(Retryable, match="cannot be spooled"):
        pack(ENTRIES, spool)
    assert list(spool.iterdir()) == []


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(Retryable, match="cannot be spooled"):
        pack(ENTRIES, tmp_path / "absent")


def test_packing_that_is_stopped_ends_at_its_next_block(tmp_path: Path) -> None:
    packer = Packer(threads=2)
    names = itertools.count()

    def endless() -> Iterator[FileEntry]:
        for name in names:
            if name == 3:  # some blocks are under way
                packer.stop()
            yield file(b"%d" % name, bytes(BLOCK))

    with packer, pytest.raises(Retryable, match="packing was stopped"):
        packer.pack(endless(), tmp_path)
    assert next(names) < 6
    assert list(tmp_path.iterdir()) == []
