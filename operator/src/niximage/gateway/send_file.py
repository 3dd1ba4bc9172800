"""Local files sent on all processors: a few threads copy, each as long as its client takes.

asyncio's own `loop.sendfile` copies in the event loop: on one processor, and a page that must
come from a disk holds up everybody. A client that takes nothing more is waited for by the event
loop, which costs nothing.

Through a small buffer rather than by `os.sendfile`: plain HTTP is spoken to clients on the same
node, as containerd is, and those would have to fetch the file's pages from memory themselves.
Both sides together then take a fifth less CPU, and a third less time; see `bench/gateway.py`.
"""

import asyncio
import os
import select
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import BinaryIO, Final

BURST: Final = 32 << 20  # bytes after which another's turn comes
PIECE: Final = 128 << 10  # bytes of one read: they stay in a processor's cache
STUCK: Final = 60.0  # seconds after which a client that takes nothing is left
PATIENCE: Final = 20  # milliseconds that a thread waits for its client


@dataclass(frozen=True, slots=True)
class _Burst:
    """What a thread got done: bytes, and whether the file ended early."""

    sent: int
    ended: bool


async def send_file(
    transport: asyncio.Transport, file: BinaryIO, start: int, length: int, pool: Executor
) -> int:
    """Send a part of a file over a connection.

    Args:
        transport: where to; nothing else writes to it meanwhile.
        file: what to send; stays open.
        start: the first byte, from 0.
        length: how many bytes.
        pool: whose threads copy.

    Returns:
        How many bytes were sent: fewer than asked for only if the file has no more.

    Raises:
        OSError: the client has gone, or takes nothing for too long.
    """
    loop = asyncio.get_running_loop()
    connection = transport.get_extra_info("socket")
    encrypted = transport.get_extra_info("sslcontext") is not None
    if connection is None or encrypted or transport.get_write_buffer_size() > 0:
        return await loop.sendfile(transport, file, start, length)
    if transport.is_closing():
        raise ConnectionResetError("the client has gone")
    # Our own descriptors: a thread may still use them when the connection or the file is closed.
    target, source = os.dup(connection.fileno()), os.dup(file.fileno())
    burst: asyncio.Future[_Burst] | None = None
    sent = 0
    try:
        while sent < length:
            burst = loop.run_in_executor(
                pool, _send_burst, target, source, start + sent, length - sent
            )
            done = await asyncio.shield(burst)
            sent += done.sent
            if done.ended:
                break
            if done.sent < min(BURST, length - sent + done.sent):
                await _writable(loop, target)
        return sent
    finally:
        if burst is None or burst.done():
            _close(target, source)
        else:
            burst.add_done_callback(lambda ended: _close(target, source, ended))


def _send_burst(target: int, source: int, offset: int, length: int) -> _Burst:
    """Copy until the client takes no more, or another's turn comes. Runs in a thread."""
    poll = select.poll()
    poll.register(target, select.POLLOUT)
    buffer = memoryview(bytearray(min(PIECE, length)))
    sent, most = 0, min(length, BURST)
    while sent < most:
        piece = os.preadv(source, [buffer[: most - sent]], offset + sent)
        if piece == 0:
            return _Burst(sent, ended=True)
        end = sent + piece
        while sent < end:
            try:
                sent += os.write(target, buffer[piece - (end - sent) : piece])
            except BlockingIOError:
                if not poll.poll(PATIENCE):
                    return _Burst(sent, ended=False)
            except OSError as error:
                # A node that lost its power, say, is a time-out and no reset: no trouble of ours.
                raise ConnectionResetError(f"the client has gone: {error.strerror}") from error
    return _Burst(sent, ended=False)


async def _writable(loop: asyncio.AbstractEventLoop, descriptor: int) -> None:
    """Wait until a socket takes more, or its other end has gone."""
    ready = loop.create_future()
    loop.add_writer(descriptor, _set, ready)
    try:
        async with asyncio.timeout(STUCK):
            await ready
    except TimeoutError:
        raise ConnectionResetError(f"the client took nothing for {STUCK:g} s") from None
    finally:
        loop.remove_writer(descriptor)


def _set(ready: "asyncio.Future[None]") -> None:
    if not ready.done():
        ready.set_result(None)


def _close(target: int, source: int, ended: "asyncio.Future[_Burst] | None" = None) -> None:
    os.close(target)
    os.close(source)
    if ended is not None and not ended.cancelled():
        ended.exception()  # nobody is left to be told of it
