"""One contract, every store: file:// on this disk, gs:// at a real emulator."""

import dataclasses
import hashlib
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from niximage.bucket import ObjectStat, ObjectStore
from niximage.errors import Reason, Retryable, Terminal

KEY = "docker/registry/v2/some/data"
UNSEEN = ObjectStat(KEY, 1, 1, 1, 0.0)
LARGE = 9 << 20  # bytes: over Google's bound for uploads in one request
CONTENT = hashlib.shake_256(b"any").digest(LARGE)


def test_what_was_created_is_read_back(store: ObjectStore) -> None:
    assert store.create(KEY, b"content")
    assert store.read(KEY, limit=7) == b"content"


def test_an_absent_object_is_an_answer(store: ObjectStore) -> None:
    assert store.stat(KEY) is None
    assert store.read(KEY, limit=10) is None
    assert store.delete(UNSEEN) is False
    assert store.touch(UNSEEN) is False
    assert store.replace(KEY, b"x", seen=UNSEEN) is False
    assert store.stat(KEY) is None


def test_create_leaves_what_is_there(store: ObjectStore) -> None:
    store.create(KEY, b"first")
    before = store.stat(KEY)
    assert store.create(KEY, b"second") is None
    assert store.create(KEY, b"fir5t") is None
    assert store.read(KEY, limit=10) == b"first"
    assert store.stat(KEY) == before


def test_a_large_file_arrives_whole(store: ObjectStore, tmp_path: Path) -> None:
    file = tmp_path / "large"
    file.write_bytes(CONTENT)
    assert store.create(KEY, file)
    found = store.stat(KEY)
    assert found is not None
    assert (found.key, found.size) == (KEY, LARGE)
    assert b"".join(store.stream(KEY)) == CONTENT
    assert store.create(KEY, file) == found
    file.write_bytes(CONTENT[:-1] + b"!")
    assert store.create(KEY, file) is None


@pytest.mark.parametrize(
    ("start", "length"), [(0, 10), (5, None), (LARGE - 3, None), ((4 << 20) - 2, 5), (0, 0)]
)
def test_a_range_is_streamed_exactly(store: ObjectStore, start: int, length: int | None) -> None:
    store.create(KEY, CONTENT)
    stop = None if length is None else start + length
    assert b"".join(store.stream(KEY, start=start, length=length)) == CONTENT[start:stop]


def test_an_empty_object_is_an_object(store: ObjectStore) -> None:
    assert store.create(KEY, b"")
    assert store.read(KEY, limit=0) == b""
    assert list(store.stream(KEY)) == []
    found = store.stat(KEY)
    assert found is not None
    assert found.size == 0


def test_streaming_what_is_absent_is_an_error(store: ObjectStore) -> None:
    with pytest.raises(Retryable, match="some/data") as caught:
        list(store.stream(KEY))
    assert caught.value.reason is Reason.BUCKET_UNAVAILABLE


def test_reading_stops_at_the_limit(store: ObjectStore) -> None:
    store.create(KEY, b"12345678")
    with pytest.raises(Retryable, match="larger than the 7 bytes") as caught:
        store.read(KEY, limit=7)
    assert caught.value.reason is Reason.RESULT_INVALID


def test_replace_changes_content_and_generation(store: ObjectStore) -> None:
    store.replace(KEY, b"old")
    old = store.stat(KEY)
    store.replace(KEY, b"new!")
    new = store.stat(KEY)
    assert store.read(KEY, limit=10) == b"new!"
    assert old is not None
    assert new is not None
    assert old.generation != new.generation


def test_a_touch_sets_the_time_and_keeps_the_content(store: ObjectStore) -> None:
    store.create(KEY, b"x")
    before = store.stat(KEY)
    assert before is not None
    assert store.touch(before) is True
    touched = store.stat(KEY)
    assert touched is not None
    assert touched.time > before.time
    assert abs(touched.time - time.time()) < 60
    assert store.read(KEY, limit=1) == b"x"


def test_touches_at_once_all_hold(exact_store: ObjectStore) -> None:
    store = exact_store
    store.create(KEY, b"x")
    seen = store.stat(KEY)
    assert seen is not None
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: store.touch(seen), range(8)))
    assert store.delete(seen) is False


def test_a_delete_leaves_what_was_touched_or_written_since(exact_store: ObjectStore) -> None:
    store = exact_store
    store.create(KEY, b"x")
    old = store.stat(KEY)
    assert old is not None
    assert store.touch(old) is True
    touched = store.stat(KEY)
    assert touched is not None
    assert store.delete(old) is False
    store.replace(KEY, b"y")
    assert store.delete(touched) is False
    assert store.read(KEY, limit=1) == b"y"
    assert store.touch(touched) is False


def test_a_delete_leaves_what_was_made_anew_with_the_same_content(
    exact_store: ObjectStore,
) -> None:
    store = exact_store
    old = store.create(KEY, b"x")
    assert old is not None
    assert store.delete(old) is True
    assert store.create(KEY, b"x")
    assert store.delete(old) is False


def test_of_two_who_replace_what_they_saw_one_succeeds(exact_store: ObjectStore) -> None:
    store = exact_store
    seen = store.create(KEY, b"old")
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda n: store.replace(KEY, bytes([n]), seen=seen), range(8)))
    assert won.count(True) == 1
    assert store.read(KEY, limit=1) == bytes([won.index(True)])


def test_of_a_touch_and_a_delete_at_once_one_succeeds(exact_store: ObjectStore) -> None:
    store = exact_store
    for _round in range(20):
        seen = store.create(KEY, b"x")
        assert seen is not None
        with ThreadPoolExecutor(2) as pool:
            deleted = pool.submit(store.delete, seen)
            touched = pool.submit(store.touch, seen).result()
        assert deleted.result() is not touched
        assert (store.stat(KEY) is None) is deleted.result()
        if (found := store.stat(KEY)) is not None:
            assert store.delete(found)


def test_delete_takes_the_generation_it_was_told(store: ObjectStore) -> None:
    store.create(KEY, b"x")
    found = store.stat(KEY)
    assert found is not None
    assert store.delete(found) is True
    assert store.stat(KEY) is None
    assert store.create(KEY, b"again")


def test_listing_is_in_key_order_below_any_prefix(store: ObjectStore) -> None:
    keys = ["a/b/c", "a/b-c", "a/b.c", "a/b0", "a/bb/d", "a/b/a/z", "ab", "b/x"]
    for key in keys:
        store.create(key, key.encode())
    assert [found.key for found in store.list("")] == sorted(keys)
    assert [found.key for found in store.list("a/b")] == sorted(k for k in keys if k[:3] == "a/b")
    assert [found.key for found in store.list("a/b/")] == ["a/b/a/z", "a/b/c"]
    assert [(f.key, f.size) for f in store.list("ab")] == [("ab", 2)]
    assert list(store.list("nothing/here/")) == []
    assert list(store.list("a/b")) == [store.stat(f.key) for f in store.list("a/b")]


def test_of_eight_creators_one_wins(store: ObjectStore) -> None:
    start = threading.Barrier(8)

    def create(number: int) -> ObjectStat | None:
        start.wait()
        return store.create(KEY, f"creator {number}".encode())

    for _round in range(5):
        with ThreadPoolExecutor(8) as pool:
            won = [made is not None for made in pool.map(create, range(8))]
        assert won.count(True) == 1
        found = store.stat(KEY)
        assert found is not None
        assert store.read(KEY, limit=99) == f"creator {won.index(True)}".encode()
        assert store.delete(found)


def test_readers_during_replace_see_old_or_new(store: ObjectStore) -> None:
    contents = [bytes([65 + n]) * 71 for n in range(20)]
    store.replace(KEY, contents[0])
    done = threading.Event()

    def read() -> set[bytes | None]:
        seen = set()
        while not done.is_set():
            seen.add(store.read(KEY, limit=100))
        return seen

    with ThreadPoolExecutor(3) as pool:
        readers = [pool.submit(read) for _ in range(3)]
        for content in contents:
            store.replace(KEY, content)
        done.set()
        for reader in readers:
            assert reader.result() <= set(contents)


@pytest.mark.parametrize(
    "key",
    [
        *("", "/absolute", "a//b", "a/", "../up", "a/../b", "a/./b", "a\nb", "a\0b"),
        *(".hidden", "a/.b", "x" * 256, "a/" * 511 + "aaaa", "ü"),
    ],
)
def test_bad_keys_are_refused_everywhere(store: ObjectStore, key: str) -> None:
    calls: list[Callable[[], object]] = [
        lambda: store.stat(key),
        lambda: store.read(key, limit=1),
        lambda: list(store.stream(key)),
        lambda: store.create(key, b""),
        lambda: store.replace(key, b""),
        lambda: store.delete(dataclasses.replace(UNSEEN, key=key)),
        lambda: store.touch(dataclasses.replace(UNSEEN, key=key)),
    ]
    for call in calls:
        with pytest.raises(Terminal, match="no name of an object"):
            call()
