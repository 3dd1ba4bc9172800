"""The bucket as the gateway's handlers see it: awaited, bounded, and remembered.

Stores block; their calls run on a bounded pool of threads, each with a time-out, so that a
bucket that hangs costs an answer 503 and never the event loop.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
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
from niximage.bucket.referrers import Referrer, list_referrers
from niximage.bucket.store import ObjectStore
from niximage.errors import NixImageError, Reason, Retryable
from niximage.gateway.memo import Memo, size_of
from niximage.gateway.metrics import Metrics

LOGGER = logging.getLogger("niximage.gateway")

SMALL: Final = 64 << 10  # bytes of a blob that is kept in memory: most configs
SIGNED_FOR: Final = 3600.0  # seconds that a signed URL holds
USED_FOR: Final = 1800.0  # seconds that it is given out; the rest is for the download
UNSIGNED_FOR: Final = 60.0  # seconds until it is tried again where nobody could sign

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Limits:
    """What the gateway spends.

    Attributes:
        threads: calls to the bucket that may be under way.
        senders: threads that copy local files to clients.
        call_timeout: seconds that one call may take.
        memory: bytes of manifests, links and small blobs kept; as much again of answers.
        lifetime: seconds that these are kept, for what a digest names can only go away.
        tag_lifetime: seconds after which a tag that moved is seen.
        redirect: whether clients are sent to the bucket for blobs, where it can sign URLs.
    """

    threads: int = 32
    senders: int = 8
    call_timeout: float = 30.0
    memory: int = 64 << 20
    lifetime: float = 300.0
    tag_lifetime: float = 1.0
    redirect: bool = True


class Backend:
    """Reads of one bucket."""

    def __init__(self, store: ObjectStore, limits: Limits, metrics: Metrics) -> None:
        self._store = store
        self._limits = limits
        self._metrics = metrics
        self._content: Memo[bytes | None] = Memo(
            limits.memory, size=size_of, lifetime=lambda found: _if_any(found, limits.lifetime)
        )
        self._tags: Memo[str | None] = Memo(
            10_000, lifetime=lambda found: _if_any(found, limits.tag_lifetime)
        )
        self._urls: Memo[str] = Memo(10_000, lifetime=lambda url: USED_FOR if url else UNSIGNED_FOR)
        self._pool = ThreadPoolExecutor(limits.threads, thread_name_prefix="gateway")
        self.senders = ThreadPoolExecutor(limits.senders, thread_name_prefix="sender")
        metrics.memory.labels("content").set_function(lambda: self._content.used)

    async def ready(self) -> None:
        """Return if the bucket answers.

        Raises:
            Retryable: it does not.
        """
        await self._call("ready", lambda: next(self._store.list(keys.ROOT), None))

    async def manifest(self, repository: str, digest: str) -> bytes | None:
        """A manifest's verified bytes, or None."""
        if not keys.is_digest(digest):
            return None
        return await self._content.get(
            ("manifest", repository, digest),
            lambda: self._call("manifest", lambda: read_manifest(self._store, repository, digest)),
        )

    async def tag(self, repository: str, tag: str) -> str | None:
        """The digest that a tag names now, or a moment ago, or None."""
        return await self._tags.get(
            (repository, tag),
            lambda: self._call("tag", lambda: resolve_tag(self._store, repository, tag)),
        )

    async def blob_size(self, repository: str, digest: str) -> int | None:
        """The size of a blob that the repository may serve, or None.

        The link is remembered; the blob is looked at, for garbage collection may take it.
        """
        if not keys.is_digest(digest):
            return None
        linked = await self._content.get(
            ("link", repository, digest),
            lambda: self._call(
                "link", lambda: b"" if has_blob(self._store, repository, digest) else None
            ),
        )
        if linked is None:
            return None
        if (kept := self._content.peek(("blob", digest))) is not None:
            return len(kept)
        found = await self._call("stat", lambda: self._store.stat(keys.blob(digest)))
        return None if found is None else found.size

    async def small_blob(self, digest: str) -> bytes | None:
        """The whole of a blob of at most `SMALL` bytes, or None if it went away."""
        return await self._content.get(
            ("blob", digest),
            lambda: self._call("read", lambda: self._store.read(keys.blob(digest), limit=SMALL)),
        )

    async def tags(self, repository: str) -> list[str]:
        """A repository's tags, sorted."""
        return await self._call("tags", lambda: list(list_tags(self._store, repository)))

    async def referrers(self, repository: str, digest: str) -> list[Referrer]:
        """What refers to a manifest, which need not be there."""
        if not keys.is_digest(digest):
            return []
        return await self._call(
            "referrers", lambda: list_referrers(self._store, repository, digest)
        )

    async def has_repository(self, repository: str) -> bool:
        """Whether anything was ever published to a repository."""
        return await self._call("repository", lambda: has_repository(self._store, repository))

    def local_path(self, digest: str) -> Path | None:
        """Where a blob lies on this machine, if the bucket is a folder."""
        locate: Callable[[str], Path] | None = getattr(self._store, "local_path", None)
        return None if locate is None else locate(keys.blob(digest))

    async def signed_url(self, digest: str) -> str | None:
        """Where a client may fetch a blob from the bucket itself, or None if it must be sent."""
        sign: Callable[[str, float], str | None] | None
        sign = getattr(self._store, "signed_url", None) if self._limits.redirect else None
        if sign is None:
            return None
        signed = sign

        async def ask() -> str:
            try:
                return await self._call("sign", lambda: signed(keys.blob(digest), SIGNED_FOR)) or ""
            except NixImageError as error:
                LOGGER.warning("%s; blobs are sent from here instead", error)
                return ""

        return await self._urls.get(digest, ask) or None

    async def open(self, path: Path) -> Any:
        """A file of this machine, opened for reading bytes."""
        try:
            return await self._call("open", lambda: path.open("rb"))
        except OSError as error:
            raise Retryable(
                Reason.BUCKET_UNAVAILABLE, f"cannot read {path}: {error.strerror}"
            ) from error

    async def stream(self, digest: str, start: int, length: int) -> AsyncGenerator[bytes, None]:
        """A blob's bytes in chunks, read ahead by none."""
        chunks = self._store.stream(keys.blob(digest), start=start, length=length)
        try:
            while (chunk := await self._call("chunk", lambda: next(chunks, None))) is not None:
                yield chunk
        finally:
            # A chunk that timed out may still be read by its thread; it ends by itself.
            with contextlib.suppress(ValueError):
                _close(chunks)

    def close(self) -> None:
        """Stop the threads; the store is the caller's to close."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        self.senders.shutdown(wait=False, cancel_futures=True)

    async def _call(self, name: str, function: Callable[[], _Result]) -> _Result:
        loop = asyncio.get_running_loop()
        began = time.monotonic()
        try:
            async with asyncio.timeout(self._limits.call_timeout):
                return await loop.run_in_executor(self._pool, function)
        except TimeoutError:
            self._metrics.bucket_failures.labels(name).inc()
            raise Retryable(
                Reason.BUCKET_UNAVAILABLE,
                f"{self._store.url} did not answer within {self._limits.call_timeout:g} s",
            ) from None
        except NixImageError:
            self._metrics.bucket_failures.labels(name).inc()
            raise
        finally:
            self._metrics.bucket_seconds.labels(name).observe(time.monotonic() - began)


def page(names: list[str], *, last: str | None, limit: int) -> tuple[list[str], bool]:
    """A page of sorted names, as `last` and `n` of the distribution-spec cut them. Pure.

    Returns:
        The names after `last`, at most `limit` of them, and whether more follow.
    """
    rest = names if last is None else [name for name in names if name > last]
    return rest[:limit], limit < len(rest)


def _if_any(found: object, lifetime: float) -> float:
    """What is not there may come at any moment."""
    return 0.0 if found is None else lifetime


def _close(chunks: Iterator[bytes]) -> None:
    close: Callable[[], None] | None = getattr(chunks, "close", None)
    if close is not None:
        close()
