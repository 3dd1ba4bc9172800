"""An event loop in a thread of its own, for code that waits in ordinary threads.

Hundreds of requests wait at once in the loop, while layers are packed by threads that block.
"""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any, Self, TypeVar

_Result = TypeVar("_Result")


class BackgroundLoop:
    """A running event loop; used as a context manager, whose end cancels what still runs.

    Args:
        within: what is open for as long as the loop runs; it is opened and closed in the loop, and
            what goes wrong then is raised where the loop is entered or left.
    """

    def __init__(self, within: AbstractAsyncContextManager[object] | None = None) -> None:
        self._within = within or nullcontext()
        self._failure: BaseException | None = None
        self._started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()
        self._thread = threading.Thread(target=self._run, name="event-loop", daemon=True)
        # What is handed over under it comes before the end, and so is run, or cancelled.
        self._handing_over = threading.Lock()
        self._has_ended = False

    def __enter__(self) -> Self:
        self._thread.start()
        try:
            self._started.result()
        except BaseException:
            self._thread.join()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        loop, stop = self._started.result()
        with self._handing_over:
            self._has_ended = True
            loop.call_soon_threadsafe(stop.set)
        self._thread.join()
        if self._failure is not None:
            raise self._failure

    def call(self, work: Coroutine[Any, Any, _Result]) -> _Result:
        """Do some work in the loop and wait for it, from any other thread."""
        return self.start(work).result()

    def start(self, work: Coroutine[Any, Any, _Result]) -> "Future[_Result]":
        """Begin some work in the loop, from any other thread; cancelling the future ends it.

        Raises:
            RuntimeError: the loop has ended.
        """
        loop, _ = self._started.result()
        with self._handing_over:
            if not self._has_ended:
                return asyncio.run_coroutine_threadsafe(work, loop)
        work.close()
        raise RuntimeError("the loop has ended")

    def soon(self, step: Callable[[], object]) -> None:
        """Have a step done in the loop, from any thread; nothing once it has ended."""
        loop, _ = self._started.result()
        with self._handing_over:
            if not self._has_ended:
                loop.call_soon_threadsafe(step)

    def _run(self) -> None:
        try:
            asyncio.run(self._main())
        except BaseException as error:  # noqa: BLE001 (raised again in the thread that waits)
            if self._started.done():
                self._failure = error
            else:
                self._started.set_exception(error)

    async def _main(self) -> None:
        stop = asyncio.Event()
        async with self._within:
            self._started.set_result((asyncio.get_running_loop(), stop))
            await stop.wait()
