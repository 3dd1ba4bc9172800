"""Blocks: readable by everyone, and the same whatever came before."""

import gzip
import hashlib
import subprocess
import zlib

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from niximage.image.compress import CODECS, GZIP, ZSTD, Codec
from niximage.image.descriptor import LAYER_GZIP, LAYER_ZSTD

SAMPLE = b"".join(hashlib.sha256(bytes([i % 256])).digest() * (i % 7) for i in range(90_000))

each_codec = pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)


def blocks(codec: Codec, data: bytes) -> list[bytes]:
    """The stream in its parts: head, blocks, tail."""
    parts, before, checksum = [codec.head], b"", 0
    for start in range(0, len(data), codec.block):
        block = data[start : start + codec.block]
        parts.append(codec.compress(block, before))
        before = block[-codec.window :] if codec.window else b""
        checksum = codec.checksum(block, checksum)
    return [*parts, codec.tail(checksum, len(data))]


def stream(codec: Codec, data: bytes) -> bytes:
    return b"".join(blocks(codec, data))


def test_the_sample_has_more_than_one_block() -> None:
    assert all(len(SAMPLE) > 2 * codec.block for codec in CODECS.values())


@each_codec
def test_a_view_gives_the_same_bytes(codec: Codec) -> None:
    view, before = memoryview(bytearray(SAMPLE))[:100_000], SAMPLE[-codec.window :]
    assert codec.compress(view, before) == codec.compress(SAMPLE[:100_000], before)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.binary(max_size=5000), max_size=20))
def test_python_reads_back_every_stream(pieces: list[bytes]) -> None:
    data = b"".join(pieces)
    reader = zstandard.ZstdDecompressor().stream_reader(stream(ZSTD, data), read_across_frames=True)
    assert reader.read() == data
    assert gzip.decompress(stream(GZIP, data)) == data


@pytest.mark.parametrize(("program", "codec"), [("zstd", ZSTD), ("gzip", GZIP)])
def test_the_program_reads_it_back(program: str, codec: Codec) -> None:
    done = subprocess.run(
        [program, "-dc"], input=stream(codec, SAMPLE), capture_output=True, check=True, timeout=60
    )
    assert done.stdout == SAMPLE
    assert done.stderr == b""


def test_every_frame_tells_its_size_and_has_a_checksum() -> None:
    frames = blocks(ZSTD, SAMPLE)[1:-1]
    sizes = [zstandard.get_frame_parameters(frame).content_size for frame in frames]
    assert sizes == [ZSTD.block, ZSTD.block, len(SAMPLE) - 2 * ZSTD.block]
    assert all(zstandard.get_frame_parameters(frame).has_checksum for frame in frames)


def test_gzip_is_one_member_whose_checks_are_true() -> None:
    inflate = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    assert inflate.decompress(stream(GZIP, SAMPLE) + b"after") == SAMPLE
    assert inflate.eof
    assert inflate.unused_data == b"after"


def test_gzip_s_blocks_look_back() -> None:
    # What zlib cannot compress by itself, but knows from the block before.
    noise = b"".join(hashlib.sha256(bytes([i])).digest() for i in range(256))
    assert len(GZIP.compress(noise, noise)) < len(GZIP.compress(noise, b"")) / 50


def test_gzip_s_size_field_starts_again_at_four_gibibytes() -> None:
    assert GZIP.tail(1, (1 << 32) + 5) == b"\x03\x00\x01\x00\x00\x00\x05\x00\x00\x00"


def test_codecs_have_their_media_types() -> None:
    assert {name: codec.media_type for name, codec in CODECS.items()} == {
        "zstd": LAYER_ZSTD,
        "gzip": LAYER_GZIP,
    }
    assert all(codec.name == name for name, codec in CODECS.items())


def test_zstd_s_bytes_are_what_its_id_says() -> None:
    """Whoever changes these bytes must change the id: layer keys rely on it."""
    assert ZSTD.id == "zstd-1.5.7/3/4M"
    assert hashlib.sha256(stream(ZSTD, SAMPLE)).hexdigest() == (
        "a72d69024be56b0f7417395b15bebafa43571697bc6b9310b774db5e3ff79c9b"
    )


def test_gzip_s_id_names_the_library_that_is_loaded() -> None:
    assert GZIP.id == f"gzip-{zlib.ZLIB_RUNTIME_VERSION}/6/1M"
