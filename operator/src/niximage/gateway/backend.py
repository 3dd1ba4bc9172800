"""The bucket as the gateway's handlers see it: awaited, bounded, and remembered.

Stores block; their calls run on a bounded pool of threads, each with a time-out, so that a
bucket that hangs costs an answer 503 and never the event loop.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, TypeVar

from niximage.bucket import keys
from niximage.bucket.images import (
    has_blob,
    has_repository,
    list_tags,
    read_manifest,
    resolve_tag,
)
from niximage.bucket.store import ObjectStore
from niximage.errors import Reason, Retryable
from niximage.gateway.memory import Memory

THREADS: Final = 32
MEMORY_LIMIT: Final = 64 << 20  # bytes of manifests and links kept
CALL_TIMEOUT: Final = 30.0  # seconds that one call to the bucket may take

_Result = TypeVar("_Result")


class Backend:
    """Reads of one bucket."""

    def __init__(
        self,
        store: ObjectStore,
        *,
        threads: int = THREADS,
        memory_limit: int = MEMORY_LIMIT,
        timeout: float = CALL_TIMEOUT,
    ) -> None:
        self._store = store
        self._timeout = timeout
        self._memory = Memory(memory_limit)
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="gateway")

    async def ready(self) -> None:
        """Return if the bucket answers.

        Raises:
            Retryable: it does not.
        """
        await self._call(lambda: next(self._store.list(keys.ROOT), None))

    async def manifest(self, repository: str, digest: str) -> bytes | None:
        """A manifest's verified bytes, or None."""
        return await self._remembered(
            ("manifest", repository, digest), lambda: read_manifest(self._store, repository, digest)
        )

    async def tag(self, repository: str, tag: str) -> str | None:
        """The digest that a tag names now, or None; never remembered."""
        return await self._call(lambda: resolve_tag(self._store, repository, tag))

    async def blob_size(self, repository: str, digest: str) -> int | None:
        """The size of a blob that the repository may serve, or None.

        The link is remembered; the blob is looked at, for garbage collection may take it.
        """
        linked = await self._remembered(
            ("link", repository, digest),
            lambda: b"" if has_blob(self._store, repository, digest) else None,
        )
        if linked is None:
            return None
        found = await self._call(lambda: self._store.stat(keys.blob(digest)))
        return None if found is None else found.size

    async def tags(self, repository: str) -> list[str]:
        """A repository's tags, sorted."""
        return await self._call(lambda: list(list_tags(self._store, repository)))

    async def has_repository(self, repository: str) -> bool:
        """Whether anything was ever published to a repository."""
        return await self._call(lambda: has_repository(self._store, repository))

    def local_path(self, digest: str) -> Path | None:
        """Where a blob lies on this machine, if the bucket is a folder."""
        locate: Callable[[str], Path] | None = getattr(self._store, "local_path", None)
        return None if locate is None else locate(keys.blob(digest))

    async def open(self, path: Path) -> Any:
        """A file of this machine, opened for reading bytes."""
        try:
            return await self._call(lambda: path.open("rb"))
        except OSError as error:
            raise Retryable(
                Reason.BUCKET_UNAVAILABLE, f"cannot read {path}: {error.strerror}"
            ) from error

    async def stream(self, digest: str, start: int, length: int) -> AsyncGenerator[bytes, None]:
        """A blob's bytes in chunks, read ahead by none."""
        chunks = self._store.stream(keys.blob(digest), start=start, length=length)
        try:
            while (chunk := await self._call(lambda: next(chunks, None))) is not None:
                yield chunk
        finally:
            # A chunk that timed out may still be read by its thread; it ends by itself.
            with contextlib.suppress(ValueError):
                _close(chunks)

    def close(self) -> None:
        """Stop the threads; the store is the caller's to close."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _remembered(
        self, key: tuple[str, ...], load: Callable[[], bytes | None]
    ) -> bytes | None:
        if (value := self._memory.get(key)) is None:
            value = await self._call(load)
            if value is not None:
                self._memory.put(key, value)
        return value

    async def _call(self, function: Callable[[], _Result]) -> _Result:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._timeout):
                return await loop.run_in_executor(self._pool, function)
        except TimeoutError:
            raise Retryable(
                Reason.BUCKET_UNAVAILABLE,
                f"{self._store.url} did not answer within {self._timeout:g} s",
            ) from None


def page(names: list[str], *, last: str | None, limit: int | None) -> tuple[list[str], bool]:
    """A page of sorted names, as `last` and `n` of the distribution-spec cut them. Pure.

    Returns:
        The names after `last`, at most `limit` of them, and whether more follow.
    """
    rest = names if last is None else [name for name in names if name > last]
    shown = rest if limit is None else rest[:limit]
    return shown, len(shown) < len(rest)


def _close(chunks: Iterator[bytes]) -> None:
    close: Callable[[], None] | None = getattr(chunks, "close", None)
    if close is not None:
        close()
