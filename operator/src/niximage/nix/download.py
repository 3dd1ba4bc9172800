"""A NAR on its way: fetched in the event loop, read in a thread, a bounded part of it between.

The next NARs of a layer begin to arrive while one is being packed; how much of each is held
is bounded, and who reads slowly slows the fetching down.
"""

import asyncio
import threading
from collections import deque
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from types import TracebackType
from typing import Final, Self

from niximage.errors import Reason, Retryable
from niximage.nix.background import BackgroundLoop

BUFFER: Final = 4 << 20  # bytes of one file that wait to be read


class Download:
    """A file's bytes in pieces, for one thread; used as a context manager.

    Args:
        loop: where it is fetched.
        pieces: the fetching.
        buffer: the most bytes that wait to be read, give or take a piece.
    """

    def __init__(
        self, loop: BackgroundLoop, pieces: AsyncGenerator[bytes, None], *, buffer: int = BUFFER
    ) -> None:
        self._pieces = pieces
        self._buffer = buffer
        self._arrived: deque[bytes] = deque()
        self.waiting = 0
        """Bytes that arrived and were not read yet."""
        self._ended = False
        self._error: BaseException | None = None
        self._changed = threading.Condition()
        self._room = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task = loop.start(self._fetch())
        self.size = 0
        """Bytes that were read so far."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Fetch no more; whoever still reads gets an error."""
        self._task.cancel()
        with self._changed:
            self._arrived.clear()
            self.waiting = 0
            self._stop()
            self._changed.notify()

    def __iter__(self) -> Iterator[bytes]:
        """The pieces, as they arrive.

        Raises:
            Retryable: the file cannot be fetched.
        """
        while piece := self._take():
            self.size += len(piece)
            yield piece

    def _take(self) -> bytes:
        with self._changed:
            # The fetching bounds its own waits, and ends in any case.
            self._changed.wait_for(lambda: self._arrived or self._ended)
            if self._arrived:
                piece = self._arrived.popleft()
                before, self.waiting = self.waiting, self.waiting - len(piece)
                if before >= self._buffer > self.waiting and self._loop is not None:
                    self._loop.call_soon_threadsafe(self._room.set)
                return piece
            if self._error is not None:
                raise self._error
            return b""

    async def _fetch(self) -> None:
        self._loop = asyncio.get_running_loop()
        try:
            async with aclosing(self._pieces):
                async for piece in self._pieces:
                    with self._changed:
                        self._arrived.append(piece)
                        self.waiting += len(piece)
                        full = self.waiting >= self._buffer
                        if full:
                            self._room.clear()
                        self._changed.notify()
                    if full:
                        await self._room.wait()
        except asyncio.CancelledError:
            self._stop()
            raise
        except Exception as error:  # noqa: BLE001 (raised again in the thread that reads)
            self._error = error
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify()

    def _stop(self) -> None:
        if not self._ended:
            self._ended = True
            self._error = Retryable(
                Reason.BUILD_INTERRUPTED, "the download was stopped", hint="Build it again"
            )
