"""Frames: readable by everyone, and the same whatever the threads and the pieces."""

import hashlib
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from niximage.image.compress import FRAME, ZSTD_ID, compress

SAMPLE = b"".join(hashlib.sha256(bytes([i % 256])).digest() * (i % 7) for i in range(90_000))


def compressed(chunks: list[bytes], workers: int) -> bytes:
    with ThreadPoolExecutor(workers) as pool:
        return b"".join(compress(chunks, pool, workers=workers))


def cut(data: bytes, length: int) -> list[bytes]:
    return [data[i : i + length] for i in range(0, len(data), length)]


def test_the_sample_has_more_than_one_frame() -> None:
    assert len(SAMPLE) > 2 * FRAME


def test_threads_do_not_change_the_bytes() -> None:
    one, two, eight = (compressed([SAMPLE], workers) for workers in (1, 2, 8))
    assert one == two == eight


@pytest.mark.parametrize("length", [4096, 1 << 20, FRAME, FRAME + 1])
def test_the_input_s_pieces_do_not_change_the_bytes(length: int) -> None:
    assert compressed(cut(SAMPLE, length), 2) == compressed([SAMPLE], 2)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.binary(max_size=5000), max_size=20))
def test_python_reads_back_every_stream(chunks: list[bytes]) -> None:
    data = compressed(chunks, 2)
    reader = zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True)
    assert reader.read() == b"".join(chunks)


def test_the_zstd_program_reads_it_back() -> None:
    done = subprocess.run(
        ["zstd", "-dc"], input=compressed([SAMPLE], 2), capture_output=True, check=True, timeout=30
    )
    assert done.stdout == SAMPLE


def test_every_frame_tells_its_size_and_has_a_checksum() -> None:
    with ThreadPoolExecutor(2) as pool:
        frames = list(compress([SAMPLE], pool, workers=2))
    sizes = [zstandard.get_frame_parameters(frame).content_size for frame in frames]
    assert sizes == [FRAME, FRAME, len(SAMPLE) - 2 * FRAME]
    assert all(zstandard.get_frame_parameters(frame).has_checksum for frame in frames)


def test_what_fails_while_reading_reaches_the_caller() -> None:
    def failing() -> "list[bytes]":
        raise OSError("gone")

    with ThreadPoolExecutor(1) as pool, pytest.raises(OSError, match="gone"):
        list(compress((x for x in failing()), pool, workers=1))


def test_the_bytes_are_what_the_codec_id_says() -> None:
    """Whoever changes these bytes must change ZSTD_ID: layer keys rely on it."""
    assert ZSTD_ID == "zstd-1.5.7/3/4M"
    assert hashlib.sha256(compressed([SAMPLE], 2)).hexdigest() == (
        "a72d69024be56b0f7417395b15bebafa43571697bc6b9310b774db5e3ff79c9b"
    )
