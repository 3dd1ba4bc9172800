"""The event loop in a thread, and downloads in it: whatever ends first, nobody waits for ever."""

import asyncio
import itertools
import threading
from collections.abc import AsyncGenerator, AsyncIterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import asynccontextmanager, closing

import pytest

from niximage.errors import Reason, Retryable
from niximage.nix.background import BackgroundLoop
from niximage.nix.download import Download

SOON = 10.0  # seconds


async def _endless() -> None:
    await asyncio.Event().wait()


async def _pieces(*pieces: bytes, hang: bool = False) -> AsyncGenerator[bytes, None]:
    for piece in pieces:
        yield piece
    if hang:
        await asyncio.Event().wait()


def test_the_end_cancels_what_still_runs() -> None:
    with BackgroundLoop() as loop:
        future = loop.start(_endless())
    with pytest.raises(CancelledError):
        future.result(SOON)


@asynccontextmanager
async def _resource(said: list[str], *, fails: str = "") -> AsyncIterator[None]:
    if fails == "opening":
        raise OSError(fails)
    said.append("open")
    yield
    said.append("closed")
    if fails == "closing":
        raise OSError(fails)


def test_what_is_within_is_open_while_the_loop_runs() -> None:
    said: list[str] = []
    with BackgroundLoop(_resource(said)) as loop:
        assert said == ["open"]
        loop.call(asyncio.sleep(0))
    assert said == ["open", "closed"]


@pytest.mark.parametrize("fails", ["opening", "closing"])
def test_what_goes_wrong_within_is_told_and_the_thread_is_gone(fails: str) -> None:
    threads = threading.active_count()
    with pytest.raises(OSError, match=fails), BackgroundLoop(_resource([], fails=fails)):
        pass
    assert threading.active_count() == threads


def test_after_the_end_nothing_begins() -> None:
    with BackgroundLoop() as loop:
        pass
    with pytest.raises(RuntimeError, match="has ended"):
        loop.start(_endless())
    loop.soon(lambda: pytest.fail("it has ended"))


def test_what_begins_while_the_loop_ends_ends_too() -> None:
    """Work is refused, or ends: handed over in between it would be waited for for ever."""
    for _ in range(50):
        started: list[Future[None]] = []
        hot = threading.Event()
        loop = BackgroundLoop()

        def keep_starting(
            loop: BackgroundLoop = loop,
            started: list[Future[None]] = started,
            hot: threading.Event = hot,
        ) -> None:
            for count in itertools.count():
                try:
                    started.append(loop.start(_endless()))
                except RuntimeError:
                    return
                if count == 5:
                    hot.set()

        with loop:
            thread = threading.Thread(target=keep_starting)
            thread.start()
            assert hot.wait(SOON)
        thread.join(SOON)
        assert not thread.is_alive()
        for future in started:
            with pytest.raises(CancelledError):
                future.result(SOON)


def test_a_download_gives_its_pieces() -> None:
    with (
        BackgroundLoop() as loop,
        closing(Download(loop, _pieces(b"one", b"two"))) as download,
    ):
        assert list(download) == [b"one", b"two"]
        assert download.size == 6


def test_a_download_that_is_stopped_before_it_began_is_no_wait() -> None:
    with BackgroundLoop() as loop:
        go = threading.Event()
        loop.soon(lambda: go.wait(SOON))  # the loop is busy: what comes next has to wait
        download = Download(loop, _pieces(hang=True))
        download.close()
        go.set()
        _assert_stopped(download)


def test_a_reader_hears_that_the_loop_has_ended() -> None:
    with ThreadPoolExecutor(1) as pool:
        with BackgroundLoop() as loop:
            download = Download(loop, _pieces(b"one", hang=True))
            reading = pool.submit(_assert_stopped, download)
            while not download.size:
                assert not reading.done()
        reading.result(SOON)
    assert download.size == 3


def test_a_slow_reader_may_go_on_when_the_loop_has_ended() -> None:
    with BackgroundLoop() as loop:
        download = Download(loop, _pieces(b"one", b"two", hang=True), buffer=1)
        loop.call(asyncio.sleep(0))
    # Its place in the buffer is told to nobody.
    _assert_stopped(download)


def _assert_stopped(download: Download) -> None:
    with pytest.raises(Retryable, match="was stopped") as caught:
        list(download)
    assert caught.value.reason is Reason.BUILD_INTERRUPTED
