"""NARs of the real Nix give the layers of the trees that they were made of, and the other way."""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given, settings

from integration.nix.caches import copy_to_cache, narinfo_file
from niximage.errors import NixImageError
from niximage.image.closure import PathInfo
from niximage.image.contents import StoreDirectory
from niximage.image.entries import FileEntry, Kind, walk
from niximage.image.pack import pack
from niximage.image.tar import tar
from niximage.nix.decompress import PIECE
from niximage.nix.nar import read_nar
from niximage.nix.nar_file import nar_file_entries
from niximage.nix.narinfo import Compression, parse_narinfo
from unit.nix.nars import TREES, File, Link, Node, chunked, make, nar, written


def nix_store(*arguments: str, given: bytes = b"") -> bytes:
    return subprocess.run(
        ["nix-store", *arguments], input=given, stdout=subprocess.PIPE, check=True, timeout=60
    ).stdout


@settings(max_examples=60, deadline=None)
@given(TREES)
def test_a_dump_of_nix_gives_the_tar_of_the_tree(tree: Node) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tree"
        make(tree, path)
        dump = nix_store("--dump", str(path))
        assert dump == nar(tree)
        entries = read_nar(chunked(dump, 1000), str(path), len(dump))
        assert b"".join(tar(entries)) == b"".join(tar(walk(str(path))))


@settings(max_examples=60, deadline=None)
@given(TREES)
def test_what_nix_restores_is_what_was_read(tree: Node) -> None:
    data = nar(tree)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tree"
        nix_store("--restore", str(path), given=data)
        restored = b"".join(tar(walk(str(path))))
        assert b"".join(tar(read_nar([data], str(path), len(data)))) == restored
        assert written(walk(str(path))) == data


@pytest.fixture(scope="module")
def store_path(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A path in the store with files of all kinds, some larger than any buffer."""
    folder = tmp_path_factory.mktemp("nar") / "tree"
    names = [os.fsdecode(name) for name in (b"a", b"a-b", b"a.b", b"B", b"\xff", b"\xc3\xa4")]
    tree: Node = {
        b"big": File(os.urandom(1 << 20) * 6),  # of more, brotli takes ten seconds
        b"zeros": File(bytes(9 << 20)),
        b"program": File(b"#!/bin/sh\n", is_executable=True),
        b"links": {b"there": Link(b"../big"), b"nowhere": Link(b"/nowhere" * 400)},
        b"names": {
            os.fsencode(name): {b"x": File(name.encode(errors="replace"))} for name in names
        },
        b"many": {b"%d" % i: File(b"%d" % i * i) for i in range(300)},
        b"empty": {},
    }
    make(tree, folder)
    return nix_store("--add", str(folder)).decode().strip()


@pytest.mark.parametrize("compression", get_args(Compression))
def test_a_layer_from_a_cache_is_the_layer_from_the_store(
    store_path: str, tmp_path: Path, compression: Compression
) -> None:
    cache = copy_to_cache(tmp_path / "cache", [store_path], key=None, compression=compression)
    told = parse_narinfo(narinfo_file(cache, store_path).read_bytes(), store_path[11:43])
    assert told.compression == compression

    def fetched() -> Iterator[FileEntry]:
        with (cache / told.url).open("rb") as file:
            yield from nar_file_entries(iter(lambda: file.read(PIECE), b""), told)

    spool = tmp_path / "spool"
    spool.mkdir()
    from_cache = pack(fetched(), spool)
    info = PathInfo(store_path, told.info.nar_hash, told.info.nar_size, ())
    from_store = pack(StoreDirectory().entries([info]), spool)
    assert from_cache.descriptor == from_store.descriptor
    assert from_cache.diff_id == from_store.diff_id


def deep_path(folder: Path, length: int) -> None:
    """A file whose path has this many bytes below a folder, made step by step as few can."""
    here = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    left = length
    while left > 201:
        name = "n" * 199
        os.mkdir(name, dir_fd=here)
        below = os.open(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=here)
        os.close(here)
        here = below
        left -= 200
    os.close(os.open("f" * (left - 1), os.O_WRONLY | os.O_CREAT, dir_fd=here))
    os.close(here)


@pytest.mark.parametrize(("length", "is_read"), [(4095, True), (4096, False)])
def test_a_walk_and_a_nar_agree_about_the_longest_path(
    tmp_path: Path, length: int, is_read: bool
) -> None:
    top = tmp_path / "tree"
    top.mkdir()
    deep_path(top, length - len(os.fsencode(top)))
    outcomes: list[tuple[bytes, Kind | None]] = []
    for entries in (walk(str(top)), read_nar([long_nar(top, length)], str(top), 1 << 20)):
        try:
            *_, last = entries
            outcomes.append((last.name, last.kind))
        except NixImageError as error:
            outcomes.append((str(error).encode(), None))
    assert outcomes[0] == outcomes[1]
    assert (outcomes[0][1] is Kind.FILE) == is_read


def long_nar(top: Path, length: int) -> bytes:
    left = length - len(os.fsencode(top))
    parts = [b"n" * 199] * ((left - 2) // 200)
    tree: Node = File(b"")
    for name in [b"f" * (left - 200 * len(parts) - 1), *parts]:
        tree = {name: tree}
    return nar(tree)
