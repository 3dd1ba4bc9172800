"""A NAR gives the entries of a walk over what it unpacks to, and everything else an error."""

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from niximage.errors import NixImageError, Reason, Retryable, Terminal
from niximage.image.entries import DEPTH_LIMIT, FileEntry, walk
from niximage.image.tar import tar
from niximage.nix.nar import read_nar
from unit.nix.nars import (
    ROOT,
    TREES,
    File,
    Link,
    Node,
    chunked,
    entry,
    make,
    nar,
    nested,
    node,
    read_content,
    text,
    written,
)

DEMO: Node = {
    b"bin": {b"a": File(b"#!/bin/sh\n", is_executable=True), b"b": Link(b"a")},
    b"empty": {},
    b"lib": {b"big": File(bytes(range(256)) * 800), b"none": File(b"")},
}


def read(data: bytes, chunk: int = 1 << 16, size: int | None = None) -> Iterator[FileEntry]:
    return read_nar(chunked(data, chunk), ROOT, len(data) if size is None else size)


@settings(max_examples=300, deadline=None)
@given(TREES, st.integers(1, 100_000))
def test_a_nar_and_a_walk_give_the_same_tar(tree: Node, chunk: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tree"
        make(tree, path)
        data = nar(tree)
        found = list(read_nar([data], str(path), len(data)))
        walked = list(walk(str(path)))
        assert [(e.name, e.kind, e.mode, e.size, e.target) for e in found] == [
            (e.name, e.kind, e.mode, e.size, e.target) for e in walked
        ]
        streamed = read_nar(chunked(data, chunk), str(path), len(data))
        assert b"".join(tar(streamed)) == b"".join(tar(walked))
        assert written(walked) == data


@settings(deadline=None)
@given(TREES, st.integers(1, 10_000))
def test_entries_make_the_nar_that_they_came_from(tree: Node, chunk: int) -> None:
    data = nar(tree)
    assert written(read(data, chunk)) == data


@pytest.mark.parametrize("chunk", range(1, 65))
def test_where_a_nar_is_cut_on_its_way_does_not_matter(chunk: int) -> None:
    data = nar(DEMO)
    assert written(read(data, chunk)) == data


def test_contents_may_be_left_unread() -> None:
    data = nar(DEMO)
    names = [found.name.removeprefix(ROOT.encode()[1:]) for found in read(data, 1000)]
    assert names == [
        b"", b"/bin", b"/bin/a", b"/bin/b", b"/empty", b"/lib", b"/lib/big", b"/lib/none",
    ]  # fmt: skip


def test_contents_may_be_left_half_read() -> None:
    sizes = [
        (found.size, found.reader(memoryview(bytearray(7))))
        for found in read(nar(DEMO), 1000)
        if found.reader is not None
    ]
    assert sizes == [(10, 7), (256 * 800, 7), (0, 0)]


def test_no_more_than_a_piece_is_taken_before_it_is_needed() -> None:
    data = nar({b"big": File(bytes(10 << 20))})
    taken = 0

    def pieces() -> Iterator[bytes]:
        nonlocal taken
        for piece in chunked(data, 100_000):
            taken += len(piece)
            yield piece

    for found in read_nar(pieces(), ROOT, len(data)):
        assert taken <= 100_000
        if found.reader is not None:
            buffer = memoryview(bytearray(300_000))
            seen = found.reader(buffer)
            seen += found.reader(buffer)
            assert taken <= seen + 200_000


def test_the_deepest_directories_are_read_and_deeper_ones_refused() -> None:
    assert len(list(read(nested(DEPTH_LIMIT + 1)))) == DEPTH_LIMIT + 1
    with pytest.raises(Terminal, match="nested more than 256 deep") as caught:
        list(read(nested(DEPTH_LIMIT + 2)))
    assert caught.value.reason is Reason.BUILD_FAILED


def long_path(length: int) -> Node:
    """A file whose entry's name has this length."""
    left = length - len(ROOT[1:])
    names = []
    while left:
        # A slash before each; no name is left without a byte.
        part = min(left, 201) if left != 202 else 200
        names.append(b"n" * (part - 1))
        left -= part
    tree: Node = File(b"")
    for name in reversed(names):
        tree = {name: tree}
    return tree


def test_the_longest_path_is_read_and_longer_ones_refused() -> None:
    assert len(list(read(nar(long_path(4094))))[-1].name) == 4094
    with pytest.raises(Terminal, match="longer than the 4095 bytes of a path"):
        list(read(nar(long_path(4095))))


START = text(b"nix-archive-1", b"(", b"type")
DIRECTORY = START + text(b"directory")
A = entry(b"a", File(b"1"))
B = entry(b"b", File(b"2"))
END = text(b")")


def number(value: int) -> bytes:
    return value.to_bytes(8, "little")


def of_name(name: bytes) -> bytes:
    return DIRECTORY + entry(name, File(b"")) + END


def file_of(length: int, content: bytes) -> bytes:
    return START + text(b"regular", b"contents") + number(length) + content + END


HOSTILE = {
    "a name twice": DIRECTORY + A + A + END,
    "a symlink and then a directory of its name": DIRECTORY
    + entry(b"a", Link(b"/etc"))
    + entry(b"a", {b"passwd": File(b"root")})
    + END,
    "names out of order": DIRECTORY + B + A + END,
    "upper case after lower case": DIRECTORY + A + entry(b"B", File(b"")) + END,
    "a name of two dots": of_name(b".."),
    "a name of one dot": of_name(b"."),
    "an empty name": of_name(b""),
    "a name with a slash": of_name(b"a/b"),
    "a name that is a slash": of_name(b"/"),
    "an absolute name": of_name(b"/etc/passwd"),
    "a name that leads out": of_name(b"../../etc/passwd"),
    "a name with NUL": of_name(b"a\0b"),
    "a name longer than any": of_name(b"n" * 256),
    "a name longer than memory": DIRECTORY
    + text(b"entry", b"(", b"name")
    + number(2**64 - 1)
    + bytes(64),
    "a target longer than any": nar(Link(b"t" * 4096)),
    "an empty target": nar(Link(b"")),
    "a target with NUL": nar(Link(b"a\0b")),
    "a target longer than memory": START + text(b"symlink", b"target") + number(2**63) + bytes(64),
    "a file longer than memory": file_of(2**64 - 1, b""),
    "a file longer than its NAR": file_of(1000, bytes(100)),
    "a file that runs over its own end": file_of(9, b"12345678"),
    "a file shorter than it says it is": file_of(1, bytes(16)),
    "padding that is not zero": START
    + text(b"regular", b"contents")
    + number(1)
    + b"1234567\x01"
    + END,
    "padding of a name that is not zero": of_name(b"abc").replace(b"abc\0", b"abc\1"),
    "padding of a tag that is not zero": nar({}).replace(b"type\0", b"type\1"),
    "no padding": START + text(b"regular", b"contents") + number(1) + b"1" + END,
    "another magic": nar({}).replace(b"archive-1", b"archive-2"),
    "no magic": nar({})[24:],
    "a tar": b"".join(bytes(view) for view in tar([])),
    "text": b"<html><body>404 Not Found</body></html>\n" * 20,
    "zeros": bytes(1000),
    "a tag of another length": nar({}).replace(number(9) + b"directory", number(10) + b"directory"),
    "a type that there is not": START + text(b"fifo") + END,
    "a regular file without contents": START + text(b"regular") + END,
    "an executable mark after the contents": START
    + text(b"regular", b"contents", b"x", b"executable", b"")
    + END,
    "an executable mark with a value": START
    + text(b"regular", b"executable", b"yes", b"contents", b"x")
    + END,
    "an executable mark twice": START
    + text(b"regular", b"executable", b"", b"executable", b"", b"contents", b"x")
    + END,
    "contents twice": START + text(b"regular", b"contents", b"x", b"contents", b"y") + END,
    "an executable symlink": START + text(b"symlink", b"executable", b"", b"target", b"x") + END,
    "a symlink with contents": START + text(b"symlink", b"target", b"x", b"contents", b"y") + END,
    "a directory with contents": DIRECTORY + text(b"contents", b"x") + END,
    "a type twice": START + text(b"directory", b"type", b"directory") + END,
    "a node without a type": text(b"nix-archive-1", b"(", b")"),
    "a node that is not closed": DIRECTORY + A + text(b"entry"),
    "an entry without a name": DIRECTORY
    + text(b"entry", b"(", b"node")
    + node(File(b""))
    + END * 2,
    "a name after its node": DIRECTORY
    + text(b"entry", b"(", b"node")
    + node(File(b""))
    + text(b"name", b"a")
    + END * 2,
    "an entry without a node": DIRECTORY + text(b"entry", b"(", b"name", b"a", b")") + END,
    "an entry with two nodes": DIRECTORY
    + text(b"entry", b"(", b"name", b"a", b"node")
    + node(File(b""))
    + text(b"node")
    + node(File(b""))
    + END * 2,
    "an entry with two names": DIRECTORY
    + text(b"entry", b"(", b"name", b"a", b"name", b"b", b"node")
    + node(File(b""))
    + END * 2,
    "an entry that is not closed": DIRECTORY + A[:-16] + B + END * 2,
    "one bracket too many": nar({}) + END,
    "a zero behind the end": nar({}) + b"\0",
    "text behind the end": nar({}) + b"and more",
    "a second NAR": nar({}) * 2,
}


def consume(entries: Iterable[FileEntry]) -> None:
    for found in entries:
        read_content(found)


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("chunk", [1, 8, 1 << 16])
def test_what_is_no_canonical_nar_is_refused(data: bytes, chunk: int) -> None:
    with pytest.raises(Terminal, match=f"the NAR of {ROOT} at byte") as caught:
        consume(read(data, chunk))
    assert caught.value.reason is Reason.HASH_MISMATCH
    assert len(str(caught.value)) < 1000


def test_an_error_says_where_and_in_what() -> None:
    data = DIRECTORY + entry(b"bin", {b"sh": Link(b"")}) + END
    with pytest.raises(Terminal) as caught:
        list(read(data))
    at = data.index(text(b"target")) + 24
    assert caught.value.message == (
        f"the NAR of {ROOT} at byte {at}, in b'bin/sh': "
        "a link's target of 0 bytes: there may be 1 to 4095"
    )


@settings(deadline=None)
@given(st.data())
def test_a_nar_that_is_cut_short_ends_early(data: st.DataObject) -> None:
    whole = nar(DEMO)
    end = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(Retryable, match="it ends early"):
        list(read(whole[:end], data.draw(st.integers(1, 9000)), size=len(whole)))


@st.composite
def mutations(draw: st.DrawFn) -> bytes:
    """A NAR with some of its bytes, words or parts changed, dropped, moved or repeated."""
    data = bytearray(nar(draw(TREES)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        words = at - at % 8
        match draw(st.integers(0, 6)):
            case 0 if data:
                data[at % len(data)] ^= 1 << draw(st.integers(0, 7))
            case 1:
                data[words : words + 8] = number(draw(st.integers(0, 2**64 - 1)))
            case 2:
                del data[words : words + 8 * draw(st.integers(1, 12))]
            case 3:
                other = draw(st.integers(0, len(data)))
                part = data[other - other % 8 :][: 8 * draw(st.integers(1, 40))]
                data[words:words] = part
            case 4:
                data[words:words] = text(
                    draw(st.sampled_from([b"(", b")", b"type", b"entry", b"name", b"node", b""]))
                )
            case 5:
                del data[at:]
            case _:
                data[at:at] = draw(st.binary(max_size=16))
    return bytes(data)


@settings(max_examples=500, deadline=None)
@given(mutations(), st.integers(1, 9000))
def test_whatever_is_accepted_is_what_was_there(data: bytes, chunk: int) -> None:
    try:
        found = written(read(data, chunk))
    except NixImageError:
        return
    assert found == data


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=600))
def test_bytes_of_any_kind_give_an_error(data: bytes) -> None:
    with pytest.raises(NixImageError):
        list(read(START + data))
