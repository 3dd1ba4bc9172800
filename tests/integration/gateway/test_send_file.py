"""Files reach clients whole, however slowly they read, and whatever happens to them."""

import asyncio
import hashlib
import os
import socket
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from niximage.gateway.send_file import _send_burst, send_file

CONTENT = hashlib.shake_256(b"content").digest(24 << 20)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "file").write_bytes(CONTENT)
    return tmp_path / "file"


@asynccontextmanager
async def sending(
    file: Path, *, start: int = 0, length: int = len(CONTENT)
) -> AsyncIterator[tuple[socket.socket, "asyncio.Task[int]"]]:
    """A client's socket, and the task that sends it a file."""
    loop = asyncio.get_running_loop()
    ours, client = socket.socketpair()
    client.setblocking(False)
    transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
    with file.open("rb") as opened, ThreadPoolExecutor(2) as pool:
        task = asyncio.create_task(send_file(transport, opened, start, length, pool))
        try:
            yield client, task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            transport.close()
            client.close()


async def read(client: socket.socket, count: int) -> bytes:
    loop, pieces, left = asyncio.get_running_loop(), [], count
    async with asyncio.timeout(20):
        while left > 0:
            pieces.append(await loop.sock_recv(client, min(left, 1 << 20)))
            assert pieces[-1]
            left -= len(pieces[-1])
    return b"".join(pieces)


def test_whatever_a_connection_fails_with_the_client_has_gone(file: Path) -> None:
    with file.open("rb") as source, file.open("rb") as nobody, pytest.raises(ConnectionResetError):
        _send_burst(nobody.fileno(), source.fileno(), 0, 100)


async def test_a_file_comes_whole(file: Path) -> None:
    async with sending(file) as (client, task):
        assert await read(client, len(CONTENT)) == CONTENT
        assert await task == len(CONTENT)


async def test_a_part_comes_as_asked(file: Path) -> None:
    async with sending(file, start=1_000_001, length=3_000_003) as (client, task):
        assert await read(client, 3_000_003) == CONTENT[1_000_001:4_000_004]
        assert await task == 3_000_003


async def test_a_client_that_pauses_gets_the_rest(file: Path) -> None:
    async with sending(file) as (client, task):
        first = await read(client, 100_000)
        await asyncio.sleep(0.2)  # longer than a thread waits
        assert not task.done()
        assert first + await read(client, len(CONTENT) - 100_000) == CONTENT
        assert await task == len(CONTENT)


async def test_a_file_that_is_shorter_says_so(file: Path) -> None:
    os.truncate(file, 1_000_000)
    async with sending(file) as (client, task):
        assert await read(client, 1_000_000) == CONTENT[:1_000_000]
        assert await asyncio.wait_for(task, 10) == 1_000_000


async def test_a_client_that_goes_away_ends_it(file: Path) -> None:
    async with sending(file) as (client, task):
        await read(client, 100_000)
        client.close()
        with pytest.raises(OSError, match=r"pipe|reset|gone"):
            await asyncio.wait_for(task, 10)


async def test_a_client_that_takes_nothing_is_left(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("niximage.gateway.send_file.STUCK", 0.2)
    async with sending(file) as (_client, task):
        with pytest.raises(ConnectionResetError, match="took nothing"):
            await asyncio.wait_for(task, 10)


async def test_nothing_stays_open(file: Path) -> None:
    before = descriptors()
    for ends in ("read", "closed", "cancelled"):
        async with sending(file) as (client, task):
            await read(client, len(CONTENT) if ends == "read" else 1000)
            if ends == "closed":
                client.close()
            if ends == "cancelled":
                task.cancel()
            await asyncio.gather(task, return_exceptions=True)
    for _ in range(3):
        await asyncio.sleep(0)  # transports close in the loop's next turn
    assert descriptors() == before


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))
