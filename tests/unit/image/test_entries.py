"""The walk: order, modes, and what it refuses."""

import os
import socket
from pathlib import Path

import pytest

from niximage.errors import Retryable, Terminal
from niximage.image.entries import SMALL_FILE, FileEntry, Kind, walk


def relative(tree: Path) -> list[tuple[bytes, Kind, int]]:
    prefix = len(os.fsencode(tree)) - 1
    return [(entry.name[prefix:], entry.kind, entry.mode) for entry in walk(str(tree))]


def test_parents_come_first_and_siblings_by_their_bytes(tmp_path: Path) -> None:
    for name in ("b", "a", "B", "ä", "a-b", "10", "9"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x").touch()
    names = [name for name, _, _ in relative(tmp_path)]
    order = [b"10", b"9", b"B", b"a", b"a-b", b"b", "ä".encode()]
    assert names == [b"", *(full for n in order for full in (b"/" + n, b"/" + n + b"/x"))]


def test_of_modes_only_the_owner_s_executable_bit_counts(tmp_path: Path) -> None:
    for name, mode in (("a", 0o600), ("b", 0o700), ("c", 0o4755), ("d", 0o677)):
        (tmp_path / name).touch()
        (tmp_path / name).chmod(mode)
    (tmp_path / "e").mkdir(mode=0o700)
    (tmp_path / "f").symlink_to("a")
    assert [(name, mode) for name, _, mode in relative(tmp_path)] == [
        (b"", 0o555),
        (b"/a", 0o444),
        (b"/b", 0o555),
        (b"/c", 0o555),
        (b"/d", 0o444),
        (b"/e", 0o555),
        (b"/f", 0o777),
    ]


def test_hard_links_are_files_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"same")
    os.link(tmp_path / "a", tmp_path / "b")
    assert [(e.kind, e.size) for e in walk(str(tmp_path))][1:] == [(Kind.FILE, 4)] * 2


def test_links_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "dir").mkdir()
    (tmp_path / "loop").symlink_to(tmp_path)
    (entry,) = (e for e in walk(str(tmp_path)) if e.name.endswith(b"loop"))
    assert entry == FileEntry(
        os.fsencode(tmp_path / "loop")[1:], Kind.SYMLINK, 0o777, target=os.fsencode(tmp_path)
    )


def test_a_store_path_may_be_a_file(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"12")
    (entry,) = walk(str(tmp_path / "f"))
    assert (entry.kind, entry.size) == (Kind.FILE, 2)


@pytest.mark.parametrize("size", [0, 1, SMALL_FILE])
def test_small_files_come_with_their_content(tmp_path: Path, size: int) -> None:
    (tmp_path / "f").write_bytes(b"x" * size)
    (entry,) = walk(str(tmp_path / "f"))
    assert (entry.size, entry.content, entry.origin) == (size, b"x" * size, b"")


def test_large_files_are_left_for_the_packer_to_read(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"x" * (SMALL_FILE + 1))
    (entry,) = walk(str(tmp_path / "f"))
    assert (entry.size, entry.content) == (SMALL_FILE + 1, b"")
    assert entry.origin == os.fsencode(tmp_path / "f")


def test_a_file_that_becomes_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    (tmp_path / "b").touch()
    walking = walk(str(tmp_path))
    assert [next(walking).name for _ in range(2)][1].endswith(b"/a")
    (tmp_path / "b").unlink()
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(Retryable, match="/b: "):
        next(walking)


def test_names_need_not_be_text(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"\xff\n")).touch()
    assert [name for name, _, _ in relative(tmp_path)] == [b"", b"/\xff\n"]


def test_a_fifo_is_refused_by_name(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(Terminal, match=r"pipe is neither a file, a directory nor"):
        list(walk(str(tmp_path)))


def test_a_socket_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's path may have 108 bytes only
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("talk")
        with pytest.raises(Terminal, match=r"talk is neither"):
            list(walk(str(tmp_path)))


def test_directories_nested_too_deep_are_refused(tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*["d"] * 300)
    deep.mkdir(parents=True)
    with pytest.raises(Terminal, match="nested more than 256 deep"):
        list(walk(str(tmp_path)))


def test_a_path_that_is_gone_is_an_error() -> None:
    with pytest.raises(Retryable, match="/nowhere: No such file"):
        list(walk("/nowhere"))
