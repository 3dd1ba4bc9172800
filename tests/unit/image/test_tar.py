"""The tar writer against two independent readers, Python's and GNU's, and its exact bytes."""

import hashlib
import io
import os
import re
import subprocess
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from niximage.errors import Retryable, Terminal
from niximage.image.entries import (
    EXECUTABLE_MODE,
    WHITEOUT,
    FileEntry,
    Kind,
    directory,
    file,
    symlink,
    walk,
)
from niximage.image.tar import BLOCK, header, tar

SIZES = st.one_of(
    st.integers(0, 3),
    st.sampled_from([510, 511, 512, 513, 1023, 1024, 1025]),
    st.integers(0, 5000),
)
# Any bytes a Linux file name may have, plain ones more often.
PART = st.one_of(
    st.from_regex(r"[a-z0-9._+-]{1,60}", fullmatch=True).map(str.encode),
    st.text(min_size=1, max_size=60).map(str.encode),
    st.binary(min_size=1, max_size=60),
).filter(
    lambda part: (
        part not in {b".", b".."}
        and not part.startswith(WHITEOUT)
        and b"/" not in part
        and b"\0" not in part
    )
)
NAME = st.lists(PART, min_size=1, max_size=8).map(b"/".join)
TARGET = st.one_of(NAME, NAME.map(lambda name: b"../" + name), NAME.map(lambda name: b"/" + name))


ID = st.one_of(st.just(0), st.sampled_from([1000, 8**7 - 1, 8**7, 2**31 - 1]))


def in_order(names: list[bytes]) -> list[bytes]:
    """Parents first, the names in a directory by their bytes."""
    return sorted(names, key=lambda name: name.split(b"/"))


@st.composite
def entry_lists(draw: st.DrawFn) -> list[FileEntry]:
    names = in_order(draw(st.lists(NAME, unique=True, max_size=8)))
    made: list[FileEntry] = []
    for name in names:
        uid, gid = draw(ID), draw(ID)
        match draw(st.sampled_from(Kind)):
            case Kind.FILE:
                content = bytes(range(256)) * 20
                made.append(
                    file(
                        name,
                        content[: draw(SIZES)],
                        draw(st.sampled_from([0o444, 0o555])),
                        uid=uid,
                        gid=gid,
                    )
                )
            case Kind.DIRECTORY:
                made.append(
                    directory(name, draw(st.sampled_from([0o555, 0o1777])), uid=uid, gid=gid)
                )
            case Kind.SYMLINK:
                made.append(symlink(name, draw(TARGET), uid=uid, gid=gid))
    return made


def read_with_python(data: bytes) -> list[FileEntry]:
    found = []
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
        for member in archive:
            assert (member.uname, member.gname) == ("", "")
            uid, gid = member.uid, member.gid
            assert member.mtime == 1
            name = member.name.encode("utf-8", "surrogateescape")
            if member.isdir():
                found.append(directory(name, member.mode, uid=uid, gid=gid))
            elif member.issym():
                assert member.mode == 0o777
                target = member.linkname.encode("utf-8", "surrogateescape")
                found.append(symlink(name, target, uid=uid, gid=gid))
            else:
                content = archive.extractfile(member)
                assert content is not None
                found.append(file(name, content.read(), member.mode, uid=uid, gid=gid))
    return found


@given(entry_lists())
def test_python_reads_back_every_entry(entries: list[FileEntry]) -> None:
    assert read_with_python(b"".join(tar(entries))) == entries


@settings(max_examples=25, deadline=None)
@given(st.lists(NAME, unique=True, min_size=1, max_size=6).map(in_order), st.integers(0, 3000))
def test_gnu_tar_lists_every_name(names: list[bytes], size: int) -> None:
    data = b"".join(tar([file(name, b"x" * size) for name in names]))
    listed = subprocess.run(
        ["tar", "--list", "--null", "--quoting-style=literal", "--show-stored-names"],
        input=data,
        capture_output=True,
        check=False,
        env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"},
        timeout=30,
    )
    assert listed.returncode == 0, listed.stderr
    assert listed.stdout == b"".join(name + b"\n" for name in names)


def test_gnu_tar_extracts_what_was_packed(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    long = tree / ("d" * 90) / ("e" * 90)
    long.mkdir(parents=True)
    (long / ("f" * 120)).write_bytes(b"deep")
    (tree / "ünïcode").write_text("ö")
    (tree / "program").write_bytes(b"#!" * 700_000)
    (tree / "program").chmod(0o755)
    (tree / "link").symlink_to("x" * 150)
    (tree / "empty").mkdir()
    (tmp_path / "packed.tar").write_bytes(b"".join(tar(walk(str(tree)))))
    out = tmp_path / "out"
    out.mkdir()
    subprocess.run(["tar", "-xf", tmp_path / "packed.tar", "-C", out], check=True, timeout=30)
    copy = out / str(tree)[1:]
    difference = subprocess.run(
        ["diff", "--recursive", "--no-dereference", tree, copy],
        check=False,
        capture_output=True,
        timeout=30,
    )
    assert (difference.returncode, difference.stdout) == (0, b"")
    assert (copy / "program").stat().st_mode & 0o777 == EXECUTABLE_MODE
    assert (copy / "empty").is_dir()


@pytest.mark.parametrize(
    ("name", "blocks"),
    [
        (b"a" * 100, 1),
        (b"a" * 101, 3),  # no slash to split at: pax
        (b"p" * 155 + b"/" + b"n" * 100, 1),
        (b"p" * 156 + b"/" + b"n" * 100, 3),
        (b"p" * 100 + b"/" + b"q" * 54 + b"/" + b"n" * 99, 1),
        ("ü".encode(), 3),
    ],
)
def test_pax_only_where_a_name_does_not_fit(name: bytes, blocks: int) -> None:
    assert len(header(file(name, b""))) == blocks * 512


def test_pax_only_where_a_link_target_does_not_fit() -> None:
    assert len(header(symlink(b"l", b"t" * 100))) == 512
    assert len(header(symlink(b"l", b"t" * 101))) == 3 * 512


@pytest.mark.parametrize("size", [(8 << 30) - 1, 8 << 30, 200 << 30])
def test_sizes_beyond_eight_gibibytes_are_told(size: int) -> None:
    entry = FileEntry(b"big", Kind.FILE, 0o444, size=size, origin=b"/nowhere")
    with tarfile.open(fileobj=io.BytesIO(header(entry) + bytes(1024)), mode="r:") as archive:
        member = archive.next()
    assert member is not None
    assert member.size == size


def test_a_name_that_comes_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="twice"):
        list(tar([file(b"a", b""), directory(b"a")]))


@pytest.mark.parametrize(
    ("first", "second"), [(b"b", b"a"), (b"a/b", b"a"), (b"a-b", b"a/b"), (b"a/b/c", b"a/b")]
)
def test_a_name_that_comes_too_late_is_refused(first: bytes, second: bytes) -> None:
    list(tar([directory(second), directory(first)]))
    with pytest.raises(ValueError, match="too late"):
        list(tar([directory(first), directory(second)]))


@pytest.mark.parametrize("name", [b"", b"/a", b"a/", b"a\0b"])
def test_what_is_no_relative_name_is_refused(name: bytes) -> None:
    with pytest.raises(ValueError, match="no relative name"):
        list(tar([file(name, b"")]))


@pytest.mark.parametrize("name", [b".wh.a", b"a/.wh.b", b"a/.wh..wh..opq", b"a/.wh.b/c"])
def test_a_name_that_says_what_is_deleted_is_refused(name: bytes) -> None:
    with pytest.raises(Terminal, match=r"/(a/)?\.wh\."):
        list(tar([file(name, b"")]))


@pytest.mark.parametrize("name", [b".wh", b"a.wh.b", b"a/b.wh.c", b".who"])
def test_a_name_that_only_looks_like_that_is_packed(name: bytes) -> None:
    assert header(file(name, b"")) in b"".join(tar([file(name, b"")]))


@pytest.mark.parametrize("size", [4, 6])
def test_a_file_that_changed_its_size_is_an_error(tmp_path: Path, size: int) -> None:
    (tmp_path / "f").write_bytes(b"12345")
    entry = FileEntry(b"f", Kind.FILE, 0o444, size=size, origin=os.fsencode(tmp_path / "f"))
    with pytest.raises(Retryable, match="changed while it was packed"):
        list(tar([entry]))


def test_a_file_that_is_gone_is_an_error() -> None:
    entry = FileEntry(b"f", Kind.FILE, 0o444, size=1, origin=b"/nowhere/at/all")
    with pytest.raises(Retryable, match="/nowhere/at/all"):
        list(tar([entry]))


@pytest.mark.parametrize("size", [0, 5])
def test_a_pipe_in_a_file_s_place_is_an_error_and_no_hang(tmp_path: Path, size: int) -> None:
    os.mkfifo(tmp_path / "f")
    with (tmp_path / "f").open("r+b", buffering=0) as pipe:
        pipe.write(b"x" * (size + 1))
        entry = FileEntry(b"f", Kind.FILE, 0o444, size=size, origin=os.fsencode(tmp_path / "f"))
        with pytest.raises(Retryable, match="changed while it was packed"):
            list(tar([entry]))


@pytest.mark.parametrize("make", [Path.mkdir, lambda path: path.symlink_to("/etc/passwd")])
def test_another_thing_in_a_file_s_place_is_an_error_that_names_it(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    make(tmp_path / "f")
    entry = FileEntry(b"f", Kind.FILE, 0o444, size=5, origin=os.fsencode(tmp_path / "f"))
    with pytest.raises(Retryable, match=re.escape(f"the store cannot be read: {tmp_path}/f: ")):
        list(tar([entry]))


def test_a_file_that_grows_while_it_is_read_is_an_error(tmp_path: Path) -> None:
    origin = tmp_path / "f"
    origin.write_bytes(b"x" * 9000)
    entry = FileEntry(b"f", Kind.FILE, 0o444, size=9000, origin=os.fsencode(origin))
    blocks = tar([entry], block=4096)
    next(blocks)
    with origin.open("ab") as file_:
        file_.write(b"y")
    with pytest.raises(Retryable, match="changed while it was packed"):
        list(blocks)


def test_a_file_that_shrinks_while_it_is_read_is_an_error(tmp_path: Path) -> None:
    origin = tmp_path / "f"
    origin.write_bytes(b"x" * 9000)
    entry = FileEntry(b"f", Kind.FILE, 0o444, size=9000, origin=os.fsencode(origin))
    blocks = tar([entry], block=4096)
    next(blocks)
    os.truncate(origin, 8999)
    with pytest.raises(Retryable, match="changed while it was packed"):
        list(blocks)


def test_large_files_come_in_blocks_of_one_size(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(bytes(9 << 20))
    blocks = [len(block) for block in tar(walk(str(tmp_path)))]
    assert blocks[:-1] == [BLOCK, BLOCK]
    assert 0 < blocks[-1] <= BLOCK


# Smaller than a header, odd, and such that headers, contents and padding end at an edge.
@pytest.mark.parametrize("block", [1, 7, 511, 512, 513, 1024, 1536, 4096, 5000])
def test_the_size_of_blocks_does_not_change_the_bytes(tmp_path: Path, block: int) -> None:
    for size in (0, 1, 511, 512, 513, 1024, 3584, 4096, 5000):
        (tmp_path / f"f{size}").write_bytes(os.urandom(size))
    entries = [file(b"at hand", b"z" * 3000), symlink(b"l", b"t" * 200), *walk(str(tmp_path))]
    cut = [bytes(view) for view in tar(entries, block=block)]
    assert b"".join(cut) == b"".join(tar(entries))
    assert {len(each) for each in cut[:-1]} <= {block}
    assert 0 < len(cut[-1]) <= block


def test_a_buffer_may_be_used_again_once_its_block_is_done_with(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(os.urandom(20_000))
    (tmp_path / "g").write_bytes(b"short")
    entries = list(walk(str(tmp_path)))
    buffer = bytearray(b"\xff" * 4097)
    again = b"".join(bytes(view) for view in tar(entries, block=4096, take=lambda: buffer))
    assert again == b"".join(tar(entries))


def test_the_bytes_are_what_they_always_were() -> None:
    """Whoever changes these bytes must raise PACKER_ID: layer keys rely on it."""
    entries = [
        directory(b"nix"),
        symlink(b"nix/l", b"t" * 120),
        file(b"nix/" + b"x" * 120, b"content"),
        directory(b"tmp", 0o1777),
        file("ü".encode(), b"y" * 600, 0o555),
        file(b"\xff", b""),
    ]
    assert hashlib.sha256(b"".join(tar(entries))).hexdigest() == (
        "bb682aba020e803c8feaee50606b613d9c8c8103c6912fc133a5e2f01f83e38d"
    )


def streamed(entry: FileEntry, pieces: int) -> FileEntry:
    """The entry with its content in a stream that gives a few bytes at a time."""
    stream = io.BytesIO(entry.content)

    def read(into: memoryview) -> int:
        return stream.readinto(into[:pieces])

    return replace(entry, content=b"", reader=read)


@pytest.mark.parametrize("block", [512, 700, BLOCK])
@pytest.mark.parametrize("pieces", [1, 511, 10_000])
def test_a_stream_makes_the_same_tar_as_content_at_hand(block: int, pieces: int) -> None:
    entries = [file(b"a", bytes(range(256)) * 9), file(b"b", b""), file(b"c", b"last")]
    streams = [streamed(entry, pieces) if entry.size else entry for entry in entries]
    assert b"".join(tar(streams, block=block)) == b"".join(tar(entries))


def test_a_stream_that_ends_early_is_told() -> None:
    entry = replace(streamed(file(b"a", b"four"), 10), size=5)
    with pytest.raises(Retryable, match="a ended 1 bytes early"):
        list(tar([entry]))
