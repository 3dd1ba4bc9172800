"""When the bucket fails, hangs or breaks off: clear answers, and never a short blob."""

import asyncio
import hashlib
import http.client
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import ClientSession, web

from integration.conftest import free_port
from integration.gateway.conftest import ANY_PORT, running
from integration.tiny import tiny_image
from niximage.bucket import ObjectStat, ObjectStore, open_store
from niximage.bucket.file import FileStore
from niximage.errors import Reason, Retryable, Terminal
from niximage.gateway import Limits, Options, serve
from niximage.gateway.app import Gateway
from niximage.gateway.backend import SMALL

# Too large for the gateway to keep in memory.
IMAGE = tiny_image(hashlib.shake_256(b"layer").digest(SMALL + 1000))
LAYER, CONTENT = IMAGE.layers[0]
BLOB = f"/v2/team/app/blobs/{LAYER.digest}"


class Troubled:
    """A bucket without local files whose reads go through a function that may misbehave."""

    def __init__(self, store: ObjectStore, trouble: Callable[[], None]) -> None:
        self._store = store
        self.trouble = trouble
        self.url = store.url

    def stat(self, key: str) -> ObjectStat | None:
        self.trouble()
        return self._store.stat(key)

    def read(self, key: str, *, limit: int) -> bytes | None:
        self.trouble()
        return self._store.read(key, limit=limit)

    def stream(self, key: str, *, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        yield from self._store.stream(key, start=start, length=1)
        self.trouble()
        yield from self._store.stream(key, start=start + 1, length=(length or 1) - 1)

    def create(self, key: str, content: bytes | Path) -> ObjectStat | None:
        return self._store.create(key, content)

    def replace(self, key: str, content: bytes, *, seen: ObjectStat | None = None) -> bool:
        return self._store.replace(key, content, seen=seen)

    def spool(self, otherwise: Path) -> Path:
        return self._store.spool(otherwise)

    def touch(self, seen: ObjectStat) -> bool:
        return self._store.touch(seen)

    def list(self, prefix: str) -> Iterator[ObjectStat]:
        self.trouble()
        return self._store.list(prefix)

    def delete(self, seen: ObjectStat) -> bool:
        return self._store.delete(seen)

    def close(self) -> None:
        self._store.close()


def nothing() -> None:
    pass


def fail() -> None:
    raise Retryable(Reason.BUCKET_UNAVAILABLE, "the bucket is on fire")


def bug() -> None:
    raise ZeroDivisionError


@pytest.fixture
def troubled(tmp_path: Path) -> Troubled:
    store = Troubled(FileStore(tmp_path), nothing)
    IMAGE.publish(store, "team/app", "latest")
    return store


@asynccontextmanager
async def site(store: ObjectStore, *, call_timeout: float = 30) -> AsyncIterator[str]:
    gateway = Gateway(store, limits=Limits(call_timeout=call_timeout))
    runner = web.ServerRunner(gateway.server(), shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
        gateway.close()


PATHS = [
    BLOB,
    "/v2/team/app/manifests/latest",
    f"/v2/team/app/manifests/{IMAGE.digest}",
    "/v2/team/app/tags/list",
    "/readyz",
]


@pytest.mark.parametrize("path", PATHS)
def test_a_failing_bucket_is_a_503_that_says_when_to_come_back(
    troubled: Troubled, path: str
) -> None:
    troubled.trouble = fail
    with running(troubled) as client:
        answer = client.ask(path)
        assert answer.status == 503
        assert answer.headers["Retry-After"] == "5"
        assert answer.json()["errors"][0]["code"] == "UNAVAILABLE"
        assert b"fire" not in answer.body
        assert client.ask("/healthz").status == 200
        troubled.trouble = nothing
        assert client.ask(path).status == 200


@pytest.mark.parametrize("path", PATHS)
async def test_a_hanging_bucket_is_a_503_in_time(troubled: Troubled, path: str) -> None:
    release = threading.Event()
    troubled.trouble = lambda: assert_released(release)
    try:
        async with site(troubled, call_timeout=0.3) as url, ClientSession() as session:
            async with session.get(url + path) as answer:
                assert answer.status == 503
            async with session.get(url + "/healthz") as answer:
                assert answer.status == 200
    finally:
        release.set()


def assert_released(release: threading.Event) -> None:
    assert release.wait(20)


def test_a_blob_that_breaks_off_is_cut_and_never_looks_whole(troubled: Troubled) -> None:
    with running(troubled) as client:
        assert client.ask(BLOB).body == CONTENT
        went_well = iter([True])  # the stat does; the link is remembered

        def break_off() -> None:
            if not next(went_well, False):
                fail()

        troubled.trouble = break_off
        with pytest.raises((http.client.IncompleteRead, ConnectionError)):
            client.ask(BLOB)
        troubled.trouble = nothing
        assert client.ask(BLOB).body == CONTENT


def test_a_bug_of_ours_is_a_500_without_a_traceback(troubled: Troubled) -> None:
    troubled.trouble = bug
    with running(troubled) as client:
        answer = client.ask("/v2/team/app/manifests/latest")
        assert answer.status == 500
        assert answer.json()["errors"][0]["code"] == "UNKNOWN"
        assert b"Zero" not in answer.body


def test_a_bucket_that_is_not_there_is_not_ready(tmp_path: Path) -> None:
    with running(FileStore(tmp_path / "absent")) as client:
        assert client.ask("/readyz").status == 503
        assert client.ask("/healthz").status == 200


def test_an_emulator_that_went_away_is_a_503(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{free_port()}")
    store = open_store("gs://images", patience=0.5)
    with running(store) as client:
        assert client.ask(BLOB).status == 503
    store.close()


async def test_a_pull_under_way_is_finished_before_the_gateway_stops(troubled: Troubled) -> None:
    release, reached = threading.Event(), threading.Event()
    stop, url = asyncio.Event(), asyncio.get_running_loop().create_future()
    gateway = asyncio.create_task(serve(troubled, ANY_PORT, stop=stop, on_start=url.set_result))
    async with ClientSession() as session:
        async with session.get(await url + BLOB) as warm:
            assert await warm.read() == CONTENT

        def hold() -> None:
            reached.set()
            assert_released(release)

        troubled.trouble = hold
        pull = asyncio.create_task(session.get(await url + BLOB))
        assert await asyncio.to_thread(reached.wait, 10)
        stop.set()
        await asyncio.sleep(0)
        release.set()
        async with await pull as answer:
            assert await answer.read() == CONTENT
    await asyncio.wait_for(gateway, 10)


async def test_an_address_in_use_is_told(troubled: Troubled) -> None:
    async with site(troubled) as url:
        port = int(url.rpartition(":")[2])
        with pytest.raises(Terminal, match=f"cannot listen on 127.0.0.1:{port}"):
            await serve(troubled, Options(port=port), stop=asyncio.Event())


def test_a_client_that_goes_away_harms_nobody(tmp_path: Path) -> None:
    store = FileStore(tmp_path)
    large = tiny_image(hashlib.shake_256(b"large").digest(16 << 20))
    large.publish(store, "team/app")
    path = f"/v2/team/app/blobs/{large.layers[0][0].digest}"
    with running(store) as client:
        for _ in range(5):
            connection = http.client.HTTPConnection(client.address, timeout=10)
            connection.request("GET", path)
            connection.getresponse().read(1)
            connection.close()
        assert client.ask(path).body == large.layers[0][1]
