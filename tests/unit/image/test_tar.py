"""The tar writer against two independent readers, Python's and GNU's, and its exact bytes."""

import hashlib
import io
import os
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from niximage.errors import Retryable
from niximage.image.entries import (
    EXECUTABLE_MODE,
    FileEntry,
    Kind,
    directory,
    file,
    symlink,
    walk,
)
from niximage.image.tar import header, tar

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
).filter(lambda part: part not in {b".", b".."} and b"/" not in part and b"\0" not in part)
NAME = st.lists(PART, min_size=1, max_size=8).map(b"/".join)
TARGET = st.one_of(NAME, NAME.map(lambda name: b"../" + name), NAME.map(lambda name: b"/" + name))


@st.composite
def entry_lists(draw: st.DrawFn) -> list[FileEntry]:
    names = draw(st.lists(NAME, unique=True, max_size=8))
    made: list[FileEntry] = []
    for name in names:
        match draw(st.sampled_from(Kind)):
            case Kind.FILE:
                content = bytes(range(256)) * 20
                made.append(
                    file(name, content[: draw(SIZES)], draw(st.sampled_from([0o444, 0o555])))
                )
            case Kind.DIRECTORY:
                made.append(directory(name, draw(st.sampled_from([0o555, 0o755, 0o1777]))))
            case Kind.SYMLINK:
                made.append(symlink(name, draw(TARGET)))
    return made


def read_with_python(data: bytes) -> list[FileEntry]:
    found = []
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
        for member in archive:
            assert (member.uid, member.gid, member.uname, member.gname) == (0, 0, "", "")
            assert member.mtime == 1
            name = member.name.encode("utf-8", "surrogateescape")
            if member.isdir():
                found.append(directory(name, member.mode))
            elif member.issym():
                assert member.mode == 0o777
                found.append(symlink(name, member.linkname.encode("utf-8", "surrogateescape")))
            else:
                content = archive.extractfile(member)
                assert content is not None
                found.append(file(name, content.read(), member.mode))
    return found


@given(entry_lists())
def test_python_reads_back_every_entry(entries: list[FileEntry]) -> None:
    assert read_with_python(b"".join(tar(entries))) == entries


@settings(max_examples=25, deadline=None)
@given(st.lists(NAME, unique=True, min_size=1, max_size=6), st.integers(0, 3000))
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


@pytest.mark.parametrize("name", [b"", b"/a", b"a/", b"a\0b"])
def test_what_is_no_relative_name_is_refused(name: bytes) -> None:
    with pytest.raises(ValueError, match="no relative name"):
        list(tar([file(name, b"")]))


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


def test_large_files_come_in_bounded_chunks(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(bytes(9 << 20))
    chunks = [len(chunk) for chunk in tar(walk(str(tmp_path)))]
    assert max(chunks) < 3 << 20
    assert sum(chunks) > 9 << 20


def test_the_bytes_are_what_they_always_were() -> None:
    """Whoever changes these bytes must raise PACKER_ID: layer keys rely on it."""
    entries = [
        directory(b"nix"),
        directory(b"tmp", 0o1777),
        file(b"nix/" + b"x" * 120, b"content"),
        symlink(b"nix/l", b"t" * 120),
        file("ü".encode(), b"y" * 600, 0o555),
        file(b"\xff", b""),
    ]
    assert hashlib.sha256(b"".join(tar(entries))).hexdigest() == (
        "bbe85e4e035f0b8cc63b13d220161f49d153f6190d089db04b4ca07e6f5bea41"
    )
