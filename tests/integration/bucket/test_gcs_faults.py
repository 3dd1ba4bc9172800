"""Google's storage at its worst, from a stand-in that is strict: nothing is lost, nothing hangs."""

import hashlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from niximage.bucket import ObjectStore, open_store
from niximage.errors import Reason, Retryable
from support.strict_gcs import Fault, StrictGcs

KEY = "a/key"
LARGE = hashlib.shake_256(b"large").digest(9 << 20)  # over the bound of one request
UPLOAD = "POST /upload"
CHUNK = "PUT /upload"
DOWNLOAD = "GET /download"


@pytest.fixture
def gcs(strict_gcs: StrictGcs) -> Iterator[ObjectStore]:
    opened = open_store("gs://images", patience=8)
    yield opened
    opened.close()


def _read(store: ObjectStore) -> bytes | None:
    return store.read(KEY, limit=10)


def _stream(store: ObjectStore) -> bytes | None:
    return b"".join(store.stream(KEY))


PASSING = [
    Fault(UPLOAD, status=503),
    Fault(UPLOAD, status=429),
    Fault(UPLOAD, status=500, times=2),
    Fault(UPLOAD, lost=True),
    Fault(UPLOAD, refused=10),
    Fault(UPLOAD, cut=10),
]


@pytest.mark.parametrize("fault", PASSING, ids=range(len(PASSING)))
def test_a_small_upload_gets_through(gcs: ObjectStore, strict_gcs: StrictGcs, fault: Fault) -> None:
    strict_gcs.faults = [fault]
    assert gcs.create(KEY, b"content") is not None
    assert gcs.read(KEY, limit=10) == b"content"
    assert fault.times == 0


@pytest.mark.parametrize(
    "fault",
    [
        Fault(UPLOAD, status=503),
        Fault(UPLOAD, lost=True),
        Fault(CHUNK, status=503),
        Fault(CHUNK, status=429),
        Fault(CHUNK, lost=True),
        Fault(CHUNK, refused=1 << 20),
    ],
    ids=range(6),
)
def test_a_large_upload_gets_through(
    gcs: ObjectStore, strict_gcs: StrictGcs, fault: Fault, tmp_path: Path
) -> None:
    file = tmp_path / "large"
    file.write_bytes(LARGE)
    strict_gcs.faults = [fault]
    assert gcs.create(KEY, file) is not None
    assert b"".join(gcs.stream(KEY)) == LARGE
    assert fault.times == 0


def test_an_upload_that_stays_refused_leaves_nothing(
    gcs: ObjectStore, strict_gcs: StrictGcs
) -> None:
    strict_gcs.faults = [Fault("upload", refused=3, times=1000)]
    with pytest.raises(Retryable, match=f"cannot write {KEY}") as caught:
        gcs.create(KEY, b"content")
    assert caught.value.reason is Reason.BUCKET_UNAVAILABLE
    assert strict_gcs.buckets == {"images": {}}


def test_a_lost_answer_to_another_s_content_is_no_success(
    gcs: ObjectStore, strict_gcs: StrictGcs
) -> None:
    gcs.create(KEY, b"other")
    strict_gcs.faults = [Fault(UPLOAD, lost=True)]
    assert gcs.create(KEY, b"mine!") is None
    assert gcs.read(KEY, limit=10) == b"other"


def test_a_replacement_whose_answer_was_lost_is_known(
    gcs: ObjectStore, strict_gcs: StrictGcs
) -> None:
    seen = gcs.create(KEY, b"old")
    strict_gcs.faults = [Fault(UPLOAD, lost=True)]
    assert gcs.replace(KEY, b"new", seen=seen) is True
    assert gcs.replace(KEY, b"third", seen=seen) is False
    assert gcs.read(KEY, limit=10) == b"new"


def test_a_touch_whose_answer_was_lost_is_repeated(gcs: ObjectStore, strict_gcs: StrictGcs) -> None:
    seen = gcs.create(KEY, b"x")
    assert seen is not None
    strict_gcs.faults = [Fault("PATCH", lost=True)]
    assert gcs.touch(seen) is True
    touched = gcs.stat(KEY)
    assert touched is not None
    assert touched.metageneration == 3


def test_a_delete_whose_answer_was_lost_has_deleted(
    gcs: ObjectStore, strict_gcs: StrictGcs
) -> None:
    seen = gcs.create(KEY, b"x")
    assert seen is not None
    strict_gcs.faults = [Fault("DELETE", lost=True)]
    gcs.delete(seen)
    assert gcs.stat(KEY) is None
    assert gcs.delete(seen) is False


@pytest.mark.parametrize("count", [0, 1, 5 << 20])
def test_a_download_cut_short_is_read_to_its_end(
    gcs: ObjectStore, strict_gcs: StrictGcs, count: int
) -> None:
    gcs.create(KEY, LARGE)
    strict_gcs.faults = [Fault(DOWNLOAD, cut=count, times=2)]
    assert gcs.read(KEY, limit=len(LARGE)) == LARGE
    strict_gcs.faults = [Fault(DOWNLOAD, cut=count, times=2, skip=1)]
    assert b"".join(gcs.stream(KEY, start=1)) == LARGE[1:]


@pytest.mark.parametrize("read", [_read, _stream])
def test_a_download_that_is_always_cut_ends_in_an_error(
    gcs: ObjectStore, strict_gcs: StrictGcs, read: Callable[[ObjectStore], bytes | None]
) -> None:
    gcs.create(KEY, b"content")
    strict_gcs.faults = [Fault(DOWNLOAD, cut=0, times=1000)]
    with pytest.raises(Retryable, match=f"cannot read {KEY}"):
        read(gcs)


def test_a_damaged_object_is_not_read(gcs: ObjectStore, strict_gcs: StrictGcs) -> None:
    gcs.create(KEY, b"content")

    stored = strict_gcs.buckets["images"][KEY]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(stored), "crc32c", "AAAAAA==")
        with pytest.raises(Retryable, match=f"cannot read {KEY}"):
            gcs.read(KEY, limit=10)


def test_an_object_written_anew_does_not_mix_with_what_was_streamed(
    gcs: ObjectStore, strict_gcs: StrictGcs
) -> None:
    gcs.create(KEY, LARGE)
    chunks = gcs.stream(KEY)
    next(chunks)
    gcs.replace(KEY, b"short")
    with pytest.raises(Retryable, match=f"cannot read {KEY}"):
        next(chunks)


def test_a_listing_goes_on_after_a_page_that_failed(
    gcs: ObjectStore, strict_gcs: StrictGcs
) -> None:
    for number in range(2100):
        strict_gcs.put("images", f"n/{number:04}", b"", {}, {})
    strict_gcs.asked.clear()
    strict_gcs.faults = [Fault("pageToken", status=503), Fault("pageToken", cut=100, skip=1)]
    assert [found.key for found in gcs.list("n/")] == [f"n/{n:04}" for n in range(2100)]
    assert len(strict_gcs.asked) == 3 + 2


def test_a_clock_that_is_behind_can_touch(gcs: ObjectStore, strict_gcs: StrictGcs) -> None:
    seen = gcs.create(KEY, b"x")
    strict_gcs.patch("images", KEY, {}, {"customTime": "2100-01-01T00:00:00Z"})
    assert seen is not None
    ahead = gcs.stat(KEY)
    assert ahead is not None
    assert gcs.touch(ahead) is True
    assert gcs.delete(ahead) is False


def test_32_threads_take_32_connections_at_most(gcs: ObjectStore, strict_gcs: StrictGcs) -> None:
    start = threading.Barrier(32)

    def work(number: int) -> None:
        start.wait()
        for turn in range(10):
            assert gcs.create(f"{number}/{turn}", b"x")

    with ThreadPoolExecutor(32) as pool:
        list(pool.map(work, range(32)))
    assert len(strict_gcs.buckets["images"]) == 320
    assert strict_gcs.connections <= 32
