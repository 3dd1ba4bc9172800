"""Layers made by others: listed as any tar reader would, and believed only when they are whole."""

import gzip
import hashlib
import io
import tarfile
from collections.abc import Callable, Iterator

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from niximage.errors import Reason, Terminal
from niximage.image.descriptor import LAYER_GZIP, LAYER_TAR, LAYER_ZSTD, Descriptor
from niximage.image.entries import Kind
from niximage.image.layer_reader import decompress, list_layer
from niximage.image.tree import Listed

LONG = "long/" + "x" * 180 + "/" + "y" * 180
CODECS: dict[str, Callable[[bytes], bytes]] = {
    LAYER_GZIP: lambda data: gzip.compress(data[:700]) + gzip.compress(data[700:]),
    LAYER_ZSTD: lambda data: zstandard.compress(data[:700]) + zstandard.compress(data[700:]),
    LAYER_TAR: lambda data: data,
}


def a_tar(style: int = tarfile.PAX_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=style) as archive:
        for name, kind in (("./", tarfile.DIRTYPE), ("etc", tarfile.DIRTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.mode = kind, 0o755
            archive.addfile(info)
        for name, content in (("etc/passwd", b"root"), (LONG, b"z" * 5000), ("ä", b"")):
            info = tarfile.TarInfo(name)
            info.size, info.mode, info.uid, info.gid = len(content), 0o640, 5, 6
            archive.addfile(info, io.BytesIO(content))
        for name, kind in (("bin", tarfile.SYMTYPE), ("hard", tarfile.LNKTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "etc/passwd"
            archive.addfile(info)
    return buffer.getvalue()


def cut(data: bytes, size: int) -> Iterator[bytes]:
    return (data[start : start + size] for start in range(0, len(data), size))


def listed(
    content: bytes, kind: str, *, size: int = 1000, blob: bytes | None = None, diff_id: str = ""
) -> list[Listed]:
    packed = CODECS[kind](content)
    descriptor = Descriptor.of(kind, packed)
    wanted = diff_id or f"sha256:{hashlib.sha256(content).hexdigest()}"
    chunks = cut(packed if blob is None else blob, size)
    return list(list_layer(chunks, descriptor, wanted, keep=(b"etc/passwd",)))


def test_owners_are_those_that_the_kernel_would_set() -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as archive:
        info = tarfile.TarInfo("x")
        info.uid, info.gid = -2, (1 << 32) - 2
        archive.addfile(info)
    (entry,) = listed(buffer.getvalue(), LAYER_TAR)
    assert (entry.uid, entry.gid) == (4294967294, 4294967294)


@pytest.mark.parametrize("kind", CODECS)
@pytest.mark.parametrize("style", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
@pytest.mark.parametrize("size", [1, 511, 1 << 20])
def test_every_entry_is_listed(kind: str, style: int, size: int) -> None:
    found = {entry.name.decode(): entry for entry in listed(a_tar(style), kind, size=size)}
    assert list(found) == ["", "etc", "etc/passwd", LONG, "ä", "bin", "hard"]
    assert found["etc"].kind is Kind.DIRECTORY
    assert found["etc/passwd"] == Listed(b"etc/passwd", Kind.FILE, 0o640, 5, 6, content=b"root"), (
        "its content was asked for"
    )
    assert found[LONG].content == b""
    assert (found["bin"].kind, found["bin"].target) == (Kind.SYMLINK, b"etc/passwd")
    assert found["hard"].kind is Kind.FILE


@pytest.mark.parametrize("kind", CODECS)
def test_no_tar_at_all_and_an_empty_one_have_no_entries(kind: str) -> None:
    assert listed(b"", kind) == []
    assert listed(bytes(1024), kind) == []


@pytest.mark.parametrize("kind", CODECS)
@given(position=st.floats(0, 1, exclude_max=True), byte=st.integers(1, 255))
def test_no_changed_byte_goes_unseen(kind: str, position: float, byte: int) -> None:
    content = a_tar()
    blob = bytearray(CODECS[kind](content))
    blob[int(position * len(blob))] ^= byte
    with pytest.raises(Terminal) as caught:
        listed(content, kind, blob=bytes(blob))
    assert caught.value.reason in {Reason.HASH_MISMATCH, Reason.INVALID_SPEC}


@pytest.mark.parametrize("kind", CODECS)
@given(part=st.floats(0, 1, exclude_max=True))
def test_no_cut_goes_unseen(kind: str, part: float) -> None:
    content = a_tar()
    blob = CODECS[kind](content)
    with pytest.raises(Terminal):
        listed(content, kind, blob=blob[: int(part * len(blob))])


def test_another_tar_than_the_config_names_is_refused() -> None:
    with pytest.raises(Terminal) as caught:
        listed(a_tar(), LAYER_GZIP, diff_id=f"sha256:{'0' * 64}")
    assert "does not hold the tar" in caught.value.message


def test_what_follows_the_archive_counts_for_the_digests() -> None:
    content = a_tar() + bytes(4096)
    assert len(listed(content, LAYER_ZSTD)) == 7


def test_a_header_that_would_fill_the_memory_is_refused() -> None:
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, 1 << 40
    with pytest.raises(Terminal) as caught:
        listed(info.tobuf(tarfile.GNU_FORMAT) + bytes(1024), LAYER_TAR)
    assert "header" in caught.value.message


def test_headers_without_end_are_refused() -> None:
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 1
    header = info.tobuf(tarfile.GNU_FORMAT) + b"x".ljust(512, b"\0")
    with pytest.raises(Terminal) as caught:
        listed(header * 5000, LAYER_GZIP)
    assert "is damaged" in caught.value.message


def test_a_name_that_leads_outside_is_refused() -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("a/../../etc/passwd"))
    with pytest.raises(Terminal) as caught:
        listed(buffer.getvalue(), LAYER_GZIP)
    assert caught.value.reason is Reason.INVALID_SPEC


@pytest.mark.parametrize("kind", CODECS)
def test_decompressing_gives_the_tar(kind: str) -> None:
    content = a_tar()
    packed = CODECS[kind](content)
    assert b"".join(decompress(cut(packed, 100), Descriptor.of(kind, packed))) == content
