"""One line of JSON per request, on a stream of its own.

Lines are written some at a time: a system call for each would cost more than most answers.
"""

import asyncio
import io
import json
import time
from collections.abc import Callable
from typing import BinaryIO, Final

from aiohttp import hdrs, web

from niximage.gateway.facts import facts

FLUSH_AFTER: Final = 0.25  # seconds that a line may wait
FLUSH_AT: Final = 1 << 16  # bytes

_HEADER_LIMIT: Final = 256  # characters of what a client says about itself
_PATH_LIMIT: Final = 2048


class AccessLog:
    """Writes what was asked, what was answered, and how long it took.

    Args:
        stream: where lines go, in UTF-8; not closed here.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._lines = io.BytesIO()
        self._timer: asyncio.TimerHandle | None = None

    def answered(
        self, request: web.BaseRequest, response: web.StreamResponse, seconds: float
    ) -> Callable[[str], None]:
        """Write a request's line; returns what writes one for each replay of its answer."""
        what = {
            "method": request.method,
            "path": request.path_qs[:_PATH_LIMIT],
            "status": response.status,
            "bytes": body_length(request, response),
            "userAgent": request.headers.get(hdrs.USER_AGENT, "")[:_HEADER_LIMIT],
        }
        if spans := request.headers.get(hdrs.RANGE):
            what["range"] = spans[:_HEADER_LIMIT]
        if user := facts(request).user:
            what["user"] = user[:_HEADER_LIMIT]
        # Opened again for the fields that differ from replay to replay.
        constant = json.dumps(what)[1:]
        self._write(f"{{{_changing(request.remote or '', seconds)}, {constant}\n")
        return lambda remote: self._write(f"{{{_changing(remote, 0.0)}, {constant}\n")

    def flush(self) -> None:
        """Write what waits."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        lines, self._lines = self._lines, io.BytesIO()
        self._stream.write(lines.getbuffer())
        self._stream.flush()

    def _write(self, line: str) -> None:
        self._lines.write(line.encode())
        if self._lines.tell() >= FLUSH_AT:
            self.flush()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(FLUSH_AFTER, self.flush)


def body_length(request: web.BaseRequest, response: web.StreamResponse) -> int:
    """Bytes of the body as announced: what was sent past aiohttp, it has not counted."""
    if request.method == hdrs.METH_HEAD or response.status == 304:  # noqa: PLR2004 (Not Modified)
        return 0
    return response.content_length or 0


def _changing(remote: str, seconds: float) -> str:
    return f'"time": {time.time():.3f}, "remote": "{remote}", "seconds": {seconds:.6f}'
