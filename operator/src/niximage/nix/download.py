"""A NAR on its way: fetched in the event loop, read in a thread, a bounded part of it between.

The next NARs of a layer begin to arrive while one is being packed; how much of each is held
is bounded, and who reads slowly slows the fetching down.
"""

import asyncio
import threading
from collections import deque
from collections.abc import AsyncGenerator, Iterator
from concurrent.futures import Future
from contextlib import aclosing
from typing import Final

from niximage.errors import Reason, Retryable
from niximage.nix.background import BackgroundLoop

BUFFER: Final = 4 << 20  # bytes of one file that wait to be read


class Download:
    """A file's bytes in pieces, for one thread; who opens it closes it.

    Args:
        loop: where it is fetched.
        pieces: the fetching.
        buffer: the most bytes that wait to be read, give or take a piece.
    """

    def __init__(
        self, loop: BackgroundLoop, pieces: AsyncGenerator[bytes, None], *, buffer: int = BUFFER
    ) -> None:
        self._loop = loop
        self._pieces = pieces
        self._buffer = buffer
        self._arrived: deque[bytes] = deque()
        self.waiting = 0
        """Bytes that arrived and were not read yet."""
        self.size = 0
        """Bytes that were read so far."""
        self._changed = threading.Condition()
        self._room = asyncio.Event()
        self._fetching = loop.start(self._fetch())
        # Told in any case: what is cancelled before its first step takes none.
        self._fetching.add_done_callback(self._end)

    def close(self) -> None:
        """Fetch no more; whoever still reads gets an error."""
        self._fetching.cancel()
        with self._changed:
            self._arrived.clear()
            self.waiting = 0

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
            self._changed.wait_for(lambda: self._arrived or self._fetching.done())
            if self._arrived:
                piece = self._arrived.popleft()
                before, self.waiting = self.waiting, self.waiting - len(piece)
                if before >= self._buffer > self.waiting:
                    self._loop.soon(self._room.set)
                return piece
        if self._fetching.cancelled():
            raise Retryable(
                Reason.BUILD_INTERRUPTED, "the download was stopped", hint="Build it again"
            )
        self._fetching.result()  # raises what ended it, if anything did
        return b""

    async def _fetch(self) -> None:
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

    def _end(self, _: Future[None]) -> None:
        with self._changed:
            self._changed.notify()
