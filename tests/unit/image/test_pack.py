"""A layer in one pass: both digests are true, and nothing is left behind."""

import hashlib
import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import zstandard

from niximage.errors import Retryable
from niximage.image.descriptor import LAYER_ZSTD
from niximage.image.entries import FileEntry, directory, file
from niximage.image.pack import PackedLayer, pack

ENTRIES = [directory(b"bin"), file(b"bin/big", bytes(range(256)) * 40_000), file(b"small", b"x")]


def uncompressed(layer: PackedLayer) -> bytes:
    with layer.path.open("rb") as blob:
        reader = zstandard.ZstdDecompressor().stream_reader(blob, read_across_frames=True)
        return bytes(reader.read())


def test_both_digests_and_sizes_are_true(tmp_path: Path) -> None:
    layer = pack(ENTRIES, tmp_path)
    blob, tar = layer.path.read_bytes(), uncompressed(layer)
    assert layer.descriptor.digest == f"sha256:{hashlib.sha256(blob).hexdigest()}"
    assert layer.descriptor.size == len(blob)
    assert layer.descriptor.media_type == LAYER_ZSTD
    assert layer.diff_id == f"sha256:{hashlib.sha256(tar).hexdigest()}"
    assert layer.tar_size == len(tar)


def test_the_tar_inside_has_the_entries(tmp_path: Path) -> None:
    data = uncompressed(pack(ENTRIES, tmp_path))
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
        assert archive.getnames() == ["bin", "bin/big", "small"]


@pytest.mark.parametrize("threads", [2, 8])
def test_threads_do_not_change_the_layer(tmp_path: Path, threads: int) -> None:
    one, many = pack(ENTRIES, tmp_path, threads=1), pack(ENTRIES, tmp_path, threads=threads)
    assert (one.descriptor, one.diff_id) == (many.descriptor, many.diff_id)


def test_what_fails_leaves_no_spool_file(tmp_path: Path) -> None:
    def failing() -> Iterator[FileEntry]:
        yield file(b"a", bytes(5 << 20))
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        pack(failing(), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(Retryable, match="cannot be spooled"):
        pack(ENTRIES, tmp_path / "absent")
