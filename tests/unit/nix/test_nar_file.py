"""A binary cache's file becomes entries if it is what was promised, and otherwise an error."""

import base64
import hashlib
import io
import lzma
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import get_args

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from niximage.errors import NixImageError, Reason, Retryable, Terminal
from niximage.image.closure import PathInfo
from niximage.image.entries import FileEntry
from niximage.nix.decompress import PIECE, decompress
from niximage.nix.nar_file import nar_file_entries, verified_nar
from niximage.nix.narinfo import Compression, NarInfo
from unit.nix.nars import ROOT, TREES, File, Link, Node, chunked, compressed, nar, written

COMPRESSIONS: tuple[Compression, ...] = get_args(Compression)
NOISE = hashlib.shake_256(b"noise").digest(1 << 20)
TREE: Node = {
    b"bin": {b"a": File(b"#!/bin/sh\n", is_executable=True), b"b": Link(b"a")},
    b"noise": File(NOISE),
    b"zeros": File(bytes(1 << 20)),
}
NAR = nar(TREE)

each_compression = pytest.mark.parametrize("compression", COMPRESSIONS)
each_real_compression = pytest.mark.parametrize("compression", COMPRESSIONS[1:])


def sri(data: bytes) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(data).digest()).decode()


def promised(data: bytes, compression: Compression, packed: bytes) -> NarInfo:
    info = PathInfo(ROOT, sri(data), len(data), ())
    return NarInfo(info, "nar/file", compression, sri(packed), len(packed))


def unpacked(packed: bytes, file: NarInfo, chunk: int = PIECE) -> bytes:
    return written(nar_file_entries(chunked(packed, chunk), file))


@each_compression
@pytest.mark.parametrize("chunk", [1000, PIECE])
def test_every_compression_gives_the_same_entries(compression: Compression, chunk: int) -> None:
    packed = compressed(NAR, compression)
    assert unpacked(packed, promised(NAR, compression, packed), chunk) == NAR


@settings(deadline=None)
@given(TREES, st.sampled_from(COMPRESSIONS), st.integers(1, 3000))
def test_every_tree_comes_through(tree: Node, compression: Compression, chunk: int) -> None:
    data = nar(tree)
    packed = compressed(data, compression)
    assert unpacked(packed, promised(data, compression, packed), chunk) == data


@each_compression
def test_a_cache_that_does_not_tell_of_its_file_is_read_too(compression: Compression) -> None:
    packed = compressed(NAR, compression)
    file = replace(promised(NAR, compression, packed), file_hash="", file_size=0)
    assert unpacked(packed, file) == NAR


@pytest.mark.parametrize("compression", ["xz", "zstd", "bzip2", "gzip"])
@pytest.mark.parametrize("parts", [2, 50])
def test_several_frames_streams_or_members_are_one(compression: Compression, parts: int) -> None:
    step = len(NAR) // parts + 1
    packed = b"".join(compressed(part, compression) for part in chunked(NAR, step))
    assert unpacked(packed, promised(NAR, compression, packed)) == NAR


def test_streams_of_xz_may_have_padding_between_them() -> None:
    packed = lzma.compress(NAR[:1000], preset=0) + bytes(8) + lzma.compress(NAR[1000:], preset=0)
    assert unpacked(packed + bytes(4), promised(NAR, "xz", packed + bytes(4))) == NAR


def test_frames_of_zstd_may_be_skippable() -> None:
    skipped = b"\x50\x2a\x4d\x18" + (5).to_bytes(4, "little") + b"hello"
    packed = skipped + compressed(NAR, "zstd") + skipped
    assert unpacked(packed, promised(NAR, "zstd", packed)) == NAR


def test_zstd_s_and_xz_s_strongest_settings_are_read() -> None:
    parameters = zstandard.ZstdCompressionParameters.from_level(22, window_log=27)
    packed = zstandard.ZstdCompressor(compression_params=parameters).compress(NAR)
    assert unpacked(packed, promised(NAR, "zstd", packed)) == NAR
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 64 << 20}]
    packed = lzma.compress(NAR, filters=filters)
    assert unpacked(packed, promised(NAR, "xz", packed)) == NAR


def window_of(window_log: int) -> bytes:
    """A frame of zstd that asks for so large a window."""
    parameters = zstandard.ZstdCompressionParameters.from_level(
        3, window_log=window_log, enable_ldm=True
    )
    compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    return compressor.compress(NAR) + compressor.flush()


def test_a_decoder_that_would_need_too_much_memory_is_refused() -> None:
    for compression, packed in {
        "zstd": window_of(28),
        "xz": lzma.compress(
            NAR, filters=[{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 128 << 20}]
        ),
    }.items():
        with pytest.raises(Terminal, match=f"cannot be decompressed as {compression}: .*[mM]emory"):
            unpacked(packed, promised(NAR, compression, packed))  # type: ignore[arg-type]


@each_compression
def test_a_file_that_is_cut_short_ends_early(compression: Compression) -> None:
    packed = compressed(NAR, compression)
    for cut in (0, 1, len(packed) // 2, len(packed) - 1):
        for file in (
            promised(NAR, compression, packed),
            replace(promised(NAR, compression, packed), file_hash="", file_size=0),
        ):
            with pytest.raises(Retryable, match=r"ends (early|after)") as caught:
                unpacked(packed[:cut], file)
            assert caught.value.reason is Reason.SUBSTITUTER_UNAVAILABLE


@each_real_compression
def test_more_behind_the_end_is_refused(compression: Compression) -> None:
    packed = compressed(NAR, compression) + b"and more behind it"
    with pytest.raises(Terminal) as caught:
        unpacked(packed, promised(NAR, compression, packed))
    assert caught.value.reason is Reason.HASH_MISMATCH


@each_compression
def test_a_file_longer_than_promised_is_refused(compression: Compression) -> None:
    packed = compressed(NAR, compression)
    with pytest.raises(Terminal, match="has more than"):
        unpacked(packed + b"x", promised(NAR, compression, packed))


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("other", COMPRESSIONS)
def test_what_is_compressed_in_another_way_is_refused(
    compression: Compression, other: Compression
) -> None:
    if compression == other:
        return
    data = nar(DEMO)
    packed = compressed(data, other)
    with pytest.raises(NixImageError):
        unpacked(packed, promised(data, compression, packed))


DEMO: Node = {b"a": File(NOISE[:5000]), b"b": File(b"b" * 5000)}


@each_compression
def test_another_nar_than_promised_is_refused_at_its_end(compression: Compression) -> None:
    data = nar({b"a": File(NOISE)})
    forged = nar({b"a": File(NOISE[:-1] + b"?")})
    packed = compressed(forged, compression)
    file = promised(data, compression, packed)
    entries = nar_file_entries(chunked(packed, PIECE), file)
    assert next(entries).name == ROOT.encode()[1:]
    with pytest.raises(Terminal, match=r"the NAR of .* has the hash") as caught:
        list(entries)
    assert caught.value.reason is Reason.HASH_MISMATCH


@each_real_compression
def test_another_file_than_promised_is_refused_even_if_its_nar_is_right(
    compression: Compression,
) -> None:
    packed = compressed(NAR, compression)
    file = replace(promised(NAR, compression, packed), file_hash=sri(b"another"))
    with pytest.raises(Terminal, match=r"the file of .* has the hash"):
        unpacked(packed, file)


BOMB = 256  # MiB
BOMBS: dict[str, tuple[Compression, Callable[[], bytes]]] = {
    "frames": ("zstd", lambda: compressed(bytes(1 << 20), "zstd") * BOMB),
    "streams": ("xz", lambda: compressed(bytes(1 << 20), "xz") * BOMB),
    "one stream": ("xz", lambda: compressed(bytes(BOMB << 20), "xz")),
    "members": ("gzip", lambda: compressed(bytes(1 << 20), "gzip") * BOMB),
    "blocks": ("bzip2", lambda: compressed(bytes(16 << 20), "bzip2") * (BOMB // 16)),
    "one brotli": ("br", lambda: compressed(bytes(BOMB << 20), "br")),
}


@pytest.mark.parametrize(("compression", "make"), BOMBS.values(), ids=BOMBS)
def test_a_bomb_stops_where_its_nar_should_end(
    compression: Compression, make: Callable[[], bytes]
) -> None:
    packed = make()
    size = 3 << 20
    assert len(packed) < size
    file = replace(promised(bytes(size), compression, packed), file_hash="", file_size=0)
    taken = 0

    def take() -> None:
        nonlocal taken
        for piece in verified_nar(chunked(packed, PIECE), file):
            taken += len(piece)

    tracemalloc.start()
    try:
        with pytest.raises(Terminal, match="has more than 3145728 bytes"):
            take()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert taken <= size
    assert peak < 20 << 20


def test_a_file_much_larger_than_its_nar_is_refused_before_it_is_read() -> None:
    data = nar(File(b"x"))

    chunks = iter([data])
    file = replace(promised(data, "xz", data), file_size=1 << 40)
    with pytest.raises(Terminal, match="has 1099511627776 bytes, its NAR"):
        list(nar_file_entries(chunks, file))
    assert list(chunks) == [data]


@each_real_compression
def test_a_file_without_an_end_stops_in_time(compression: Compression) -> None:
    """Empty frames, streams or members without number, of which the cache told no size."""
    nothing = compressed(b"", compression)
    count = 0

    def endless() -> Iterator[bytes]:
        nonlocal count
        while True:
            yield nothing * 500
            count += 1

    file = NarInfo(PathInfo(ROOT, sri(b""), 1 << 20, ()), "nar/file", compression)
    with pytest.raises(Terminal):
        list(nar_file_entries(endless(), file))
    assert count * len(nothing) * 500 <= 3 << 20


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(COMPRESSIONS), st.data())
def test_a_damaged_file_gives_the_same_or_an_error(
    compression: Compression, data: st.DataObject
) -> None:
    whole = nar(DEMO)
    packed = bytearray(compressed(whole, compression))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(packed) - 1))
        match data.draw(st.integers(0, 3)):
            case 0:
                packed[at] ^= 1 << data.draw(st.integers(0, 7))
            case 1:
                packed[at:at] = data.draw(st.binary(min_size=1, max_size=8))
            case 2:
                del packed[at : at + data.draw(st.integers(1, 8))]
            case _:
                packed += packed[at:]
        if not packed:
            return
    file = replace(promised(whole, compression, b""), file_hash="", file_size=0)
    try:
        found = unpacked(bytes(packed), file, data.draw(st.integers(1, 3000)))
    except NixImageError:
        return
    assert found == whole


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(COMPRESSIONS[1:]), st.binary(max_size=300))
def test_bytes_of_any_kind_are_decompressed_or_refused(
    compression: Compression, data: bytes
) -> None:
    try:
        for piece in decompress([data], compression):
            assert len(piece) <= 2 * PIECE
    except NixImageError:
        pass


class TroubleError(Exception):
    pass


@each_compression
@pytest.mark.parametrize("error", [TroubleError("gone"), OSError("gone"), ValueError("gone")])
def test_what_goes_wrong_on_the_way_is_not_blamed_on_the_file(
    compression: Compression, error: Exception
) -> None:
    packed = compressed(NAR, compression)

    def chunks() -> Iterator[bytes]:
        yield packed[:2000]
        raise error

    with pytest.raises(type(error), match="gone"):
        list(nar_file_entries(chunks(), promised(NAR, compression, packed)))


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "decompress"]


def wait_until_no_thread_is_left() -> None:
    deadline = time.monotonic() + 10
    while threads():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_entries_that_are_closed_let_go_of_the_file() -> None:
    is_open = True
    taken = 0
    big = nar({b"a": File(NOISE), b"b": File(bytes(64 << 20))})

    def chunks() -> Iterator[bytes]:
        nonlocal is_open, taken
        try:
            for chunk in chunked(big, PIECE):
                taken += len(chunk)
                yield chunk
        finally:
            is_open = False

    entries = nar_file_entries(chunks(), promised(big, "none", big))
    next(entries)
    assert threads() == ["decompress"]
    assert isinstance(entries, Iterator)
    entries.close()  # type: ignore[attr-defined]
    wait_until_no_thread_is_left()
    assert not is_open
    assert taken <= 12 << 20


def test_a_thread_is_gone_when_the_entries_end_or_fail() -> None:
    packed = compressed(NAR, "zstd")
    file = promised(NAR, "zstd", packed)
    list(nar_file_entries([packed], file))
    wait_until_no_thread_is_left()
    with pytest.raises(Terminal):
        list(nar_file_entries([packed], replace(file, file_hash=sri(b""))))
    wait_until_no_thread_is_left()


def test_what_is_wrong_is_told_while_the_network_stalls() -> None:
    data = bytearray(nar({b"a": File(NOISE)}))
    data[0] = 1
    stalled = threading.Event()

    def chunks() -> Iterator[bytes]:
        yield bytes(data[:PIECE])
        stalled.wait()

    entries = nar_file_entries(chunks(), promised(bytes(data), "none", bytes(data)))
    with pytest.raises(Terminal, match="at byte 0"):
        next(entries)
    stalled.set()
    wait_until_no_thread_is_left()


def entry_sizes(entries: Iterable[FileEntry]) -> int:
    buffer = memoryview(bytearray(1 << 20))
    total = 0
    for entry in entries:
        while entry.reader is not None and (got := entry.reader(buffer)):
            total += got
    return total


def test_memory_is_bounded_whatever_the_size_of_a_file() -> None:
    size = 120 << 20
    head, _, tail = nar({b"big": File(b"<here>")}).partition(
        (6).to_bytes(8, "little") + b"<here>\0\0"
    )
    parts = [head + size.to_bytes(8, "little"), *[bytes(1 << 20)] * (size >> 20), tail]
    digest = hashlib.sha256()
    packed = io.BytesIO()
    with zstandard.ZstdCompressor(level=1).stream_writer(packed, closefd=False) as writer:
        for part in parts:
            digest.update(part)
            writer.write(part)
    info = PathInfo(
        ROOT,
        "sha256-" + base64.b64encode(digest.digest()).decode(),
        sum(len(part) for part in parts),
        (),
    )
    tracemalloc.start()
    try:
        chunks = chunked(packed.getvalue(), PIECE)
        assert entry_sizes(nar_file_entries(chunks, NarInfo(info, "nar/file", "zstd"))) == size
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 24 << 20
