"""Probes, metrics, many clients at once, and a stop that lets pulls finish."""

import asyncio
import hashlib
import resource
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import ClientSession, ClientTimeout, TCPConnector

from integration.gateway.conftest import running
from integration.tiny import tiny_image
from niximage.bucket.file import FileStore
from niximage.errors import Terminal
from niximage.gateway import HtpasswdAuthority, Options, serve

IMAGE = tiny_image(b"one", hashlib.shake_256(b"large").digest(200_000))
LARGE = IMAGE.layers[1][0]
BASE = "/v2/team/app"


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    store = FileStore(tmp_path)
    IMAGE.publish(store, "team/app", "latest")
    return store


@asynccontextmanager
async def serving(store: FileStore, options: Options) -> AsyncIterator[tuple[str, asyncio.Event]]:
    """The URL of a gateway in this loop, and what stops it."""
    stop, url = asyncio.Event(), asyncio.get_running_loop().create_future()
    task = asyncio.create_task(serve(store, options, stop=stop, on_start=url.set_result))
    try:
        yield await url, stop
    finally:
        stop.set()
        await asyncio.wait_for(task, 30)


def test_metrics_say_what_was_asked_and_answered(store: FileStore) -> None:
    with running(store) as client:
        for path in (f"/manifests/{IMAGE.digest}", "/manifests/latest", "/tags/list", "/tags/x"):
            client.ask(BASE + path)
        client.ask(f"{BASE}/blobs/{LARGE.digest}")
        client.ask(f"{BASE}/blobs/{LARGE.digest}", "HEAD")
        client.ask("/v2/", "DELETE")
        answer = client.ask("/metrics")
    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    lines = set(answer.body.decode().splitlines())
    requests = 'niximage_gateway_requests_total{kind="%s",method="%s",status="%s"} 1.0'
    for counted in (
        ("manifestbydigest", "GET", 200),
        ("manifestbytag", "GET", 200),
        ("tags", "GET", 200),
        ("blob", "GET", 200),
        ("blob", "HEAD", 200),
        ("registry", "GET", 404),
        ("registry", "other", 405),
    ):
        assert requests % counted in lines, counted
    sent = f'niximage_gateway_response_bytes_total{{kind="blob"}} {float(LARGE.size)}'
    assert sent in lines
    for name in ("bucket_call_seconds_count", "requests_in_flight", "memory_bytes"):
        assert any(line.startswith(f"niximage_gateway_{name}") for line in lines), name
    assert any(line.startswith("process_resident_memory_bytes") for line in lines)


async def test_while_it_drains_probes_say_no_and_pulls_go_on(store: FileStore) -> None:
    async with serving(store, Options(port=0, drain=0.5)) as (url, stop), ClientSession() as http:
        async with http.get(f"{url}/readyz") as answer:
            assert answer.status == 200
        stop.set()
        await asyncio.sleep(0)
        async with http.get(f"{url}/readyz") as answer:
            assert answer.status == 503
        async with http.get(f"{url}{BASE}/manifests/{IMAGE.digest}") as answer:
            assert await answer.read() == IMAGE.manifest


async def test_a_thousand_pulls_at_once_in_bounded_memory(store: FileStore) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    digests = [descriptor.digest for descriptor in IMAGE.blobs]

    async with serving(store, Options(port=0)) as (url, _):
        connector = TCPConnector(limit=0, force_close=True)
        timeout = ClientTimeout(total=100)
        async with ClientSession(url, connector=connector, timeout=timeout) as http:

            async def pull() -> int:
                """Everything of an image, as a node without any of it asks for it."""
                paths = [f"/manifests/{IMAGE.digest}", *(f"/blobs/{each}" for each in digests)]
                size = 0
                for path in paths:
                    async with http.get(BASE + path) as answer:
                        assert answer.status == 200
                        size += len(await answer.read())
                return size

            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            sizes = await asyncio.gather(*(pull() for _ in range(1000)))
            grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    expected = len(IMAGE.manifest) + sum(descriptor.size for descriptor in IMAGE.blobs)
    assert set(sizes) == {expected}
    # KiB, and that of a thousand clients with it.
    assert grown < 512 << 10


async def test_authentication_needs_a_key_that_signs(store: FileStore, tmp_path: Path) -> None:
    (tmp_path / "users").write_text("")
    with pytest.raises(Terminal, match="key that signs tokens has 5 bytes"):
        await serve(
            store,
            Options(port=0, token_key=b"short"),
            authority=HtpasswdAuthority(tmp_path / "users"),
        )
