"""Files of a binary cache over HTTP.

What is absent is an answer. What may pass (no connection, a server that is busy or broken, a
file cut short) is tried again with growing pauses, and a NAR goes on where it was cut: hashes
tell whether the parts belong together. Every wait has an end, every answer a bound.
"""

import asyncio
import random
import re
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Final

import aiohttp
from yarl import URL

from niximage.errors import Reason, Retryable, Terminal, plain_text
from niximage.nix.folder_cache import Unreachable, unavailable
from niximage.nix.patience import Patience

_REDIRECTS: Final = 5
# As Nix has it: a bucket that may not be listed says "forbidden" of what is not there.
_ABSENT: Final = frozenset({403, 404, 410})
_REFUSED: Final = frozenset({401, 407})
_PASSING: Final = frozenset({408, 421, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524})
_RANGE = re.compile(r"bytes ([0-9]{1,15})-[0-9]{1,15}/(?:[0-9]{1,15}|\*)")
_RETRY_AFTER = re.compile(r"[0-9]{1,5}")


class _PassingError(Exception):
    """An attempt that failed in a way that may pass.

    Attributes:
        wait: seconds that the server wants us to wait.
    """

    def __init__(self, why: str, wait: float = 0.0) -> None:
        super().__init__(why)
        self.why = why
        self.wait = wait


_PASSING_ERRORS: Final = (_PassingError, aiohttp.ClientError, TimeoutError)
_ANSWERS: Final = (_PassingError, aiohttp.ClientResponseError, aiohttp.ClientPayloadError)


class _Tries:
    """How often a file was asked for in vain; an attempt that got further does not count.

    Libraries that repeat calls know nothing of streams that go on where they were cut.
    """

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._failures = 0
        self._reached = 0
        self.pause = 0.0

    def again(self, error: BaseException, reached: int = 0) -> bool:
        """Whether to try again, after `pause` seconds."""
        patience = self._patience
        self._failures = 1 if reached > self._reached else self._failures + 1
        self._reached = reached
        # Full jitter: clients that failed together do not come back together.
        backoff = random.uniform(0, 2 * patience.pause) * 2 ** (self._failures - 1)  # noqa: S311 (no secret)
        asked = error.wait if isinstance(error, _PassingError) else 0.0
        self.pause = min(max(backoff, asked), patience.longest_pause)
        return self._failures < patience.attempts


@dataclass(frozen=True, slots=True)
class HttpCache:
    """Reads a cache's files over HTTP; see `niximage.nix.transport.Transport`.

    Attributes:
        url: where it is, without a slash at the end.
        client: its connections.
        patience: how long to try.
        turns: bounds how many small files are asked for at once.
    """

    url: str
    client: aiohttp.ClientSession
    patience: Patience
    turns: asyncio.Semaphore

    async def read(self, name: str, limit: int) -> bytes | None:
        """See `Transport`."""
        tries = _Tries(self.patience)
        while True:
            try:
                async with (
                    self.turns,  # before the time-out: waiting for one's turn is nobody's fault
                    asyncio.timeout(self.patience.answer),
                    self._asked(name) as answer,
                ):
                    return None if answer is None else await self._whole(answer, limit)
            except _PASSING_ERRORS as error:
                if not tries.again(error):
                    kind = Retryable if isinstance(error, _ANSWERS) else Unreachable
                    raise unavailable(f"{self.url}/{name}", _why(error), kind) from None
            await asyncio.sleep(tries.pause)

    async def stream(self, name: str, limit: int) -> AsyncGenerator[bytes, None]:
        """See `Transport`."""
        patience = self.patience
        tries = _Tries(patience)
        now = asyncio.get_running_loop().time
        done = 0
        waited = 0.0  # for the cache; how long whoever takes the bytes takes is another matter
        while True:
            try:
                async with aclosing(self._from(name, done)) as parts:
                    while True:
                        asked = now()
                        part = await anext(parts, None)
                        waited += now() - asked
                        if part is None:
                            return
                        done += len(part)
                        if done > limit:
                            raise self._failed(name, f"it has more than {limit} bytes")
                        if waited > patience.grace + done / patience.slowest:
                            raise self._failed(name, "it comes too slowly")
                        yield part
            except _PASSING_ERRORS as error:
                if not tries.again(error, done):
                    raise self._failed(name, _why(error)) from None
            waited += tries.pause  # one that is cut after each byte goes on, but not for ever
            await asyncio.sleep(tries.pause)

    async def _whole(self, answer: aiohttp.ClientResponse, limit: int) -> bytes:
        parts: list[bytes] = []
        size = 0
        async for part in answer.content.iter_any():
            size += len(part)
            if size > limit:
                raise ValueError(f"it has more than {limit} bytes")
            parts.append(part)
        return b"".join(parts)

    async def _from(self, name: str, start: int) -> AsyncGenerator[bytes, None]:
        """What one request gives of a file, from an offset on."""
        async with self._asked(name, start) as answer:
            if answer is None:
                raise self._failed(name, "it is not there")
            skip = start - _start(answer)
            if skip < 0:
                raise _PassingError("a part of it came from another place")
            async for part in answer.content.iter_any():
                if fresh := part[skip:]:
                    yield fresh
                skip = max(skip - len(part), 0)

    @asynccontextmanager
    async def _asked(
        self, name: str, start: int = 0
    ) -> AsyncGenerator[aiohttp.ClientResponse | None, None]:
        """The answer to one GET, from an offset on; None where there is nothing."""
        where = f"{self.url}/{name}"
        headers = {"Range": f"bytes={start}-"} if start else {}
        # The name was checked; encoded again it would not be what the narinfo says.
        url = URL(where, encoded=True)
        async with self.client.get(url, headers=headers, max_redirects=_REDIRECTS) as answer:
            encrypted = where.startswith("https:")
            yield answer if _judged(answer, where, encrypted=encrypted) else None

    def _failed(self, name: str, why: str) -> Retryable:
        return unavailable(f"{self.url}/{name}", why)


def _judged(answer: aiohttp.ClientResponse, where: str, *, encrypted: bool) -> bool:
    """Whether there is what was asked for.

    Args:
        answer: the server's.
        where: the URL that was asked for.
        encrypted: whether only servers that speak TLS may answer.

    Raises:
        _PassingError: it may be there another time.
        Retryable: it is no answer.
        Terminal: the cache wants credentials.
    """
    status = answer.status
    passed = (each.url.scheme for each in (*answer.history, answer))
    if encrypted and any(scheme != "https" for scheme in passed):
        raise unavailable(where, "it redirects from HTTPS to HTTP")
    if status in _ABSENT:
        return False
    if status in _REFUSED:
        raise Terminal(
            Reason.AUTHENTICATION_FAILED,
            f"{where}: the binary cache wants credentials (HTTP {status})",
            hint="Only binary caches that anyone may read can be used",
        )
    if status in _PASSING:
        asked = answer.headers.get("Retry-After", "")
        wait = float(asked) if _RETRY_AFTER.fullmatch(asked) else 0.0
        raise _PassingError(f"HTTP {status}", wait)
    if status not in {200, 206}:
        raise unavailable(where, f"HTTP {status}")
    encoding = answer.headers.get("Content-Encoding", "identity")
    if encoding != "identity":
        raise unavailable(where, f"it comes as {plain_text(encoding, 40)}, unasked")
    return True


def _start(answer: aiohttp.ClientResponse) -> int:
    """The offset at which an answer begins."""
    if answer.status == 200:  # noqa: PLR2004 (HTTP's word for the whole)
        return 0
    found = _RANGE.fullmatch(answer.headers.get("Content-Range", ""))
    if found is None:
        raise _PassingError("a part of it came without its place")
    return int(found[1])


def _why(error: BaseException | None) -> str:
    match error:
        case _PassingError():
            return error.why
        case TimeoutError():
            return "it did not answer in time"
        case aiohttp.ClientPayloadError():
            return "the connection was cut"
        case _:
            return plain_text(str(error) or type(error).__name__, 200)
