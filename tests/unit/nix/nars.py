"""Trees, and the NARs that they make: written anew here, so that the reader meets no relative."""

import bz2
import gzip
import lzma
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Union

import brotli  # type: ignore[import-untyped]
import zstandard
from hypothesis import strategies as st

from niximage.image.entries import EXECUTABLE_MODE, WHITEOUT, FileEntry, Kind
from niximage.nix.narinfo import Compression

ROOT = "/nix/store/00000000000000000000000000000000-tree"


@dataclass(frozen=True)
class File:
    content: bytes
    is_executable: bool = False


@dataclass(frozen=True)
class Link:
    target: bytes


Node = Union[File, Link, "dict[bytes, Node]"]


def text(*strings: bytes) -> bytes:
    """Strings as a NAR has them."""
    return b"".join(
        len(each).to_bytes(8, "little") + each + bytes(-len(each) % 8) for each in strings
    )


def nar(tree: Node) -> bytes:
    """The NAR of a tree."""
    return text(b"nix-archive-1") + node(tree)


def node(tree: Node) -> bytes:
    """A node of a NAR."""
    match tree:
        case File(content=content, is_executable=is_executable):
            mark = (b"executable", b"") if is_executable else ()
            inside = text(b"regular", *mark, b"contents", content)
        case Link(target=target):
            inside = text(b"symlink", b"target", target)
        case dict():
            inside = text(b"directory") + b"".join(
                entry(name, child) for name, child in sorted(tree.items())
            )
    return text(b"(", b"type") + inside + text(b")")


def entry(name: bytes, tree: Node) -> bytes:
    """An entry of a directory in a NAR."""
    return text(b"entry", b"(", b"name", name, b"node") + node(tree) + text(b")")


def nested(depth: int) -> bytes:
    """The NAR of so many directories within one another."""
    start, end = entry(b"d", {}).split(text(b"directory"))
    first, last = nar({}).split(text(b"directory"))
    directory = text(b"directory")
    return first + directory + (start + directory) * (depth - 1) + end * (depth - 1) + last


def make(tree: Node, path: Path) -> None:
    """Make a tree on disk, with whatever of modes and times a NAR does not have."""
    match tree:
        case File(content=content, is_executable=is_executable):
            path.write_bytes(content)
            path.chmod(0o755 if is_executable else 0o644)
        case Link(target=target):
            path.symlink_to(os.fsdecode(target))
        case dict():
            path.mkdir()
            for name, child in tree.items():
                make(child, path / os.fsdecode(name))


def read_content(found: FileEntry, step: int = 1 << 16) -> bytes:
    """The content of a file, from wherever the entry has it."""
    if found.origin:
        return Path(os.fsdecode(found.origin)).read_bytes()
    if found.reader is None:
        return found.content
    buffer = bytearray(step)
    content = b""
    while got := found.reader(memoryview(buffer)):
        content += buffer[:got]
    return content


def written(entries: Iterable[FileEntry]) -> bytes:
    """The NAR of entries: the same as they were read from, or something was lost."""
    listed = [(each, read_content(each)) for each in entries]
    tree, rest = _tree(listed, 0)
    assert rest == len(listed)
    return nar(tree)


def _tree(listed: list[tuple[FileEntry, bytes]], at: int) -> tuple[Node, int]:
    found, content = listed[at]
    at += 1
    match found.kind:
        case Kind.FILE:
            assert len(content) == found.size
            return File(content, found.mode == EXECUTABLE_MODE), at
        case Kind.SYMLINK:
            return Link(found.target), at
        case Kind.DIRECTORY:
            children: dict[bytes, Node] = {}
            prefix = found.name + b"/"
            while at < len(listed) and listed[at][0].name.startswith(prefix):
                name = listed[at][0].name.removeprefix(prefix)
                assert name not in children
                children[name], at = _tree(listed, at)
            return children, at


NAMES = st.one_of(
    st.sampled_from([b"a", b"a-b", b"a.b", b"b", b"B", b"...", b"\xff", b"a\n", b"n" * 255]),
    st.binary(min_size=1, max_size=20),
).filter(
    lambda name: (
        name not in {b".", b".."}
        and not name.startswith(WHITEOUT)
        and b"/" not in name
        and b"\0" not in name
    )
)
# Where paddings end, and more than a block of a tar or a page.
_SIZES = st.one_of(st.integers(0, 40), st.sampled_from([511, 512, 513, 8191, 8192, 70_000]))
_CONTENTS = st.tuples(_SIZES, st.binary(min_size=1, max_size=9)).map(
    lambda found: (found[1] * (found[0] // len(found[1]) + 1))[: found[0]]
)
_FILES = st.builds(File, _CONTENTS, st.booleans())
_LINKS = st.builds(
    Link,
    st.binary(min_size=1, max_size=120).filter(lambda target: b"\0" not in target)
    | st.just(b"t" * 4095),
)
TREES: st.SearchStrategy[Node] = st.recursive(
    _FILES | _LINKS,
    lambda children: st.dictionaries(NAMES, children, max_size=5),
    max_leaves=12,
)


def compressed(data: bytes, compression: Compression) -> bytes:
    """Data as a binary cache has it."""
    match compression:
        case "none":
            return data
        case "xz":
            return lzma.compress(data, preset=0)
        case "zstd":
            return zstandard.ZstdCompressor().compress(data)
        case "bzip2":
            return bz2.compress(data, 1)
        case "gzip":
            return gzip.compress(data, 1)
        case "br":
            found: bytes = brotli.compress(data, quality=1)
            return found


def chunked(data: bytes, size: int) -> Iterator[bytes]:
    """Data as it comes over a network."""
    return (data[start : start + size] for start in range(0, len(data), size))
