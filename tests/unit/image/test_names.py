"""The names beside a layer: all that was in it, and nothing else is believed."""

import os
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from niximage.errors import Retryable
from niximage.image.entries import FileEntry, Kind, directory, file, symlink, walk
from niximage.image.forest import Target
from niximage.image.listing import Seen, StoreOnDisk, store_lister
from niximage.image.names import NAMES_LIMIT, LayerNames, NamesWriter, PathNames, path_names

ONE = b"/nix/store/" + b"1" * 32 + b"-one"
TWO = b"/nix/store/" + b"2" * 32 + b"-two"

PART = st.binary(min_size=1, max_size=12).filter(
    lambda part: b"/" not in part and b"\0" not in part and part not in {b".", b".."}
)
CHILDREN = st.dictionaries(PART, st.sampled_from([b"file", b"dir", b"link"]), max_size=6)


def written(entries: list[FileEntry]) -> bytes:
    writer = NamesWriter()
    assert list(writer.passing(entries)) == entries
    data = writer.finish()
    assert data is not None
    return data


def tree(top: bytes, children: dict[bytes, bytes]) -> list[FileEntry]:
    made = [directory(top[1:])]
    for part, kind in sorted(children.items()):
        name = top[1:] + b"/" + part
        match kind:
            case b"file":
                made.append(file(name, b"x"))
            case b"dir":
                made += [directory(name), file(name + b"/below", b"")]
            case _:
                made.append(symlink(name, part[::-1]))
    return made


@given(CHILDREN, CHILDREN)
def test_each_path_s_names_are_read_back(one: dict[bytes, bytes], two: dict[bytes, bytes]) -> None:
    above = [directory(b"nix"), directory(b"nix/store")]
    first, second = tree(ONE, one), tree(TWO, two)
    names = LayerNames(written([*above, *first, *second]))
    assert names.of(ONE) == path_names(first)
    assert names.of(TWO) == path_names(second)
    assert names.of(ONE + b"x") is None


def test_a_store_path_may_be_a_file_or_a_link() -> None:
    names = LayerNames(written([file(ONE[1:], b"x"), symlink(TWO[1:], ONE)]))
    assert names.of(ONE) == {ONE: Seen(Kind.FILE)}
    assert names.of(TWO) == {TWO: Seen(Kind.SYMLINK, ONE)}


def test_a_path_that_begins_like_another_is_another() -> None:
    longer = ONE + b".5"
    names = LayerNames(written([*tree(ONE, {b"a": b"file"}), *tree(longer, {b"b": b"file"})]))
    assert set(names.of(ONE) or {}) == {ONE, ONE + b"/a"}
    assert set(names.of(longer) or {}) == {longer, longer + b"/b"}


def test_too_many_names_are_not_written_down() -> None:
    long = [file(ONE[1:] + b"/%0200d" % i, b"") for i in range(NAMES_LIMIT // 200)]
    writer = NamesWriter()
    assert len(list(writer.passing(long))) == len(long)
    assert writer.finish() is None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"x" + ONE[11:] + b"\0e\0",
        b"f" + ONE[11:] + b"\0",
        b"f" + ONE[11:] + b"e\0",
        b"f\0e\0",
        b"l" + ONE[11:] + b"\0e\0",
        bytes(NAMES_LIMIT + 3),
    ],
)
def test_what_is_malformed_is_refused(data: bytes) -> None:
    with pytest.raises(Retryable, match="names are malformed"):
        LayerNames(zstandard.compress(data))


def test_a_part_never_passes_for_the_whole() -> None:
    whole = tree(ONE, {b"a": b"file", b"b": b"dir", b"c": b"link"})
    data = written(whole)
    refused = 0
    for length in range(len(data)):
        try:
            names = LayerNames(data[:length])
        except Retryable:
            refused += 1
        else:
            assert names.of(ONE) == path_names(whole)  # only the checksum was cut
    assert refused >= len(data) - 4


@given(st.integers(0, 1000), st.integers(1, 255))
def test_a_damaged_byte_is_refused(place: int, change: int) -> None:
    whole = tree(ONE, {b"a": b"file", b"b": b"dir", b"c": b"link"})
    data = bytearray(written(whole))
    data[place % len(data)] ^= change
    try:
        names = LayerNames(bytes(data))
    except Retryable:
        return
    assert names.of(ONE) == path_names(whole)  # bits of a header that mean nothing


class Written:
    """A view of names that were written down."""

    def __init__(self, names: PathNames) -> None:
        self._names = names

    def look(self, path: bytes) -> Seen | None:
        return self._names.get(path)

    def names(self, path: bytes) -> list[bytes]:
        return [n.rpartition(b"/")[2] for n in self._names if n.rpartition(b"/")[0] == path]


def test_links_lead_where_they_lead_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two views of one store: looked at, and written down."""
    store = os.fsencode(tmp_path) + b"/"
    monkeypatch.setattr("niximage.image.listing._STORE", store)
    one = tmp_path / "one"
    (one / "lib" / "deep").mkdir(parents=True)
    (one / "lib" / "data").touch()
    for name, target in {
        "relative": "lib/data",
        "up": "lib/../lib/deep",
        "absolute": f"{tmp_path}/two/bin",
        "across": "../two/bin/tool",
        "chain": "absolute",
        "circle": "circle",
        "nowhere": "lib/nothing",
        "outside": "/etc/passwd",
        "through": "lib/data/x",
        "out": "../../x",
    }.items():
        (one / name).symlink_to(target)
    (tmp_path / "two" / "bin").mkdir(parents=True)
    (tmp_path / "two" / "bin" / "tool").touch()
    names = {**path_names(walk(str(one))), **path_names(walk(str(tmp_path / "two")))}
    top = os.fsencode(one)
    found = store_lister(Written(names))(top)
    assert found == store_lister(StoreOnDisk())(top)
    two = store + b"two/bin"
    assert {name: found[name] for name in found if name != b"lib"} == {
        b"relative": Target(top + b"/lib/data", is_directory=False),
        b"up": Target(top + b"/lib/deep", is_directory=True),
        b"absolute": Target(two, is_directory=True),
        b"across": Target(two + b"/tool", is_directory=False),
        b"chain": Target(two, is_directory=True),
    }
