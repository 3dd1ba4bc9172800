"""What only a folder must show: modes, crashes, conditional deletes, broken disks."""

import os
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from niximage.bucket.file import DEAD_AFTER, TEMPORARY, FileStore
from niximage.errors import Reason, Retryable

KEY = "niximage/v1/layers/default/data"


@pytest.fixture
def folder_store(tmp_path: Path) -> FileStore:
    return FileStore(tmp_path / "bucket")


@pytest.fixture
def private_umask() -> Iterator[None]:
    before = os.umask(0o077)
    yield
    os.umask(before)


def test_other_users_may_read_whatever_the_umask(
    folder_store: FileStore, private_umask: None
) -> None:
    folder_store.create(KEY, b"x")
    folder_store.replace("other/key", b"y")
    for folder, _folders, files in os.walk(folder_store.root):
        assert stat.S_IMODE(Path(folder).stat().st_mode) == 0o755, folder
        for file in files:
            assert stat.S_IMODE((Path(folder) / file).stat().st_mode) == 0o644, file


def test_a_writer_killed_halfway_leaves_nothing_to_see(
    folder_store: FileStore, tmp_path: Path
) -> None:
    pipe = tmp_path / "endless"
    os.mkfifo(pipe)
    program = (
        "import sys; from pathlib import Path; from niximage.bucket.file import FileStore;"
        "FileStore(Path(sys.argv[1])).create(sys.argv[2], Path(sys.argv[3]))"
    )
    writer = subprocess.Popen([sys.executable, "-c", program, folder_store.root, KEY, pipe])
    with pipe.open("wb") as feed:
        feed.write(b"half of it")
        feed.flush()
        deadline = time.monotonic() + 10
        while not list((folder_store.root / TEMPORARY).glob("*")):
            assert time.monotonic() < deadline
        writer.kill()
        assert writer.wait(10) != 0
    assert folder_store.stat(KEY) is None
    assert list(folder_store.list("")) == []
    assert folder_store.create(KEY, b"whole")
    assert [found.key for found in folder_store.list("")] == [KEY]


def test_a_delete_leaves_what_changed_since(folder_store: FileStore) -> None:
    folder_store.create(KEY, b"old")
    old = folder_store.stat(KEY)
    assert old is not None
    folder_store.replace(KEY, b"new")
    assert folder_store.delete(old) is False
    assert folder_store.read(KEY, limit=10) == b"new"


def test_no_temporary_file_stays(folder_store: FileStore) -> None:
    folder_store.create(KEY, b"1")
    folder_store.create(KEY, b"2")
    folder_store.replace(KEY, b"3")
    assert list((folder_store.root / TEMPORARY).iterdir()) == []


def test_a_file_of_the_spool_becomes_the_object_itself(
    folder_store: FileStore, tmp_path: Path, private_umask: None
) -> None:
    spool = folder_store.spool(tmp_path)
    made = spool / "layer"
    made.write_bytes(b"packed")
    assert folder_store.create(KEY, made)
    found = folder_store.local_path(KEY)
    assert found.samefile(made)
    assert stat.S_IMODE(found.stat().st_mode) == 0o644
    # Where the object is there already, the file is compared with it, and stays its maker's.
    again = spool / "again"
    again.write_bytes(b"packed")
    assert folder_store.create(KEY, again)
    again.write_bytes(b"others")
    assert folder_store.create(KEY, again) is None
    for file in (made, again):
        file.unlink()
    assert found.read_bytes() == b"packed"


def test_what_killed_writers_left_in_the_spool_goes(
    folder_store: FileStore, tmp_path: Path
) -> None:
    spool = folder_store.spool(tmp_path)
    dead, living = spool / "dead", spool / "living"
    for file, age in ((dead, DEAD_AFTER + 1), (living, DEAD_AFTER - 60)):
        file.write_bytes(b"half of a laye")
        os.utime(file, (time.time() - age, time.time() - age))
    assert folder_store.spool(tmp_path) == spool
    assert list(spool.iterdir()) == [living]


def test_a_clock_that_is_ahead_makes_no_living_file_look_dead(
    folder_store: FileStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    living = folder_store.spool(tmp_path) / "living"
    living.write_bytes(b"half of a laye")
    ahead = time.time() + 10 * DEAD_AFTER
    monkeypatch.setattr(time, "time", lambda: ahead)
    folder_store.spool(tmp_path)
    assert living.exists()


def test_a_missing_folder_cannot_be_listed_but_is_made_by_writing(folder_store: FileStore) -> None:
    with pytest.raises(Retryable, match="the folder is not there") as caught:
        list(folder_store.list(""))
    assert caught.value.reason is Reason.BUCKET_UNAVAILABLE
    assert folder_store.read(KEY, limit=1) is None
    assert folder_store.create(KEY, b"")
    assert [found.key for found in folder_store.list("")] == [KEY]


def test_a_folder_that_is_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "bucket").write_text("not a folder")
    with pytest.raises(Retryable, match=KEY) as caught:
        FileStore(tmp_path / "bucket").create(KEY, b"")
    assert caught.value.reason is Reason.BUCKET_UNAVAILABLE


def test_a_key_below_another_object_is_told(folder_store: FileStore) -> None:
    folder_store.create("a", b"")
    assert folder_store.stat("a/b") is None
    with pytest.raises(Retryable, match="a/b"):
        folder_store.create("a/b", b"")
    folder_store.create("c/d", b"")
    assert folder_store.stat("c") is None
    with pytest.raises(Retryable, match="cannot write c "):
        folder_store.create("c", b"")


def test_a_disk_that_takes_no_more_is_told_and_left_clean(
    folder_store: FileStore,
) -> None:
    program = """
import resource, sys
from pathlib import Path
from niximage.bucket.file import FileStore
from niximage.errors import Retryable
resource.setrlimit(resource.RLIMIT_FSIZE, (1024, 1024))
try:
    FileStore(Path(sys.argv[1])).create(sys.argv[2], b"x" * 4096)
except Retryable as error:
    print(error.reason, error.message)
"""
    told = subprocess.run(
        [sys.executable, "-c", program, folder_store.root, KEY],
        check=True,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert told.stdout.startswith(f"BucketUnavailable cannot write {KEY} in file://")
    assert "File too large" in told.stdout
    assert list(folder_store.list("")) == []
    assert list((folder_store.root / TEMPORARY).iterdir()) == []


def test_a_delete_leaves_no_empty_folder(folder_store: FileStore) -> None:
    kept, gone = folder_store.create("a/b/kept", b""), folder_store.create("a/b/c/d/gone", b"")
    assert kept is not None
    assert gone is not None
    assert folder_store.delete(gone)
    assert [path.name for path in (folder_store.root / "a" / "b").iterdir()] == ["kept"]
    assert folder_store.delete(kept)
    assert [path.name for path in folder_store.root.iterdir()] == [TEMPORARY]


def test_creates_and_deletes_in_one_folder_do_not_fail_each_other(folder_store: FileStore) -> None:
    def work(number: int) -> None:
        for _ in range(50):
            made = folder_store.create(f"a/b/c/{number}", b"x")
            assert made is not None
            assert folder_store.delete(made)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert list(folder_store.list("")) == []
