"""Binary caches in their order: what they have of store paths, whose closures, and the NARs.

A path counts as there where a cache has a narinfo of it that a trusted key signed, or whose
content is its own address. Caches are asked by priority, each answer is remembered for as
long as this is open, and a closure is walked with as many requests at once as connections
allow. A cache that cannot be reached fails what it would have decided, nothing else.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final, Self

from niximage.errors import NixImageError, Reason, Terminal
from niximage.image.closure import PathInfo
from niximage.nix.background import BackgroundLoop
from niximage.nix.binary_cache import Answer, BinaryCache, Substitute
from niximage.nix.closure_walk import Walk, Walking
from niximage.nix.download import Download
from niximage.nix.narinfo import parse_priority
from niximage.nix.patience import Patience
from niximage.nix.signature import TrustedKeys
from niximage.nix.transport import Session, bad_url

CACHES_LIMIT: Final = 16
_SLACK: Final = 1 << 20  # bytes that a compressed NAR may have beyond an uncompressed one


class Substituters:
    """The binary caches of a build; used as a context manager, from any thread.

    Args:
        urls: `https://…`, `http://…` or `file:///…`, each perhaps with `?priority=N`, which
            counts before what the cache says of itself; ties keep this order.
        keys: whose signatures count.
        patience: how long to try.

    Raises:
        Terminal: a URL is no binary cache's.
    """

    def __init__(
        self, urls: Sequence[str], keys: TrustedKeys, *, patience: Patience | None = None
    ) -> None:
        if len(urls) > CACHES_LIMIT:
            raise Terminal(
                Reason.INVALID_SPEC, f"{len(urls)} binary caches; {CACHES_LIMIT} are allowed"
            )
        self._places = [_place(url) for url in dict.fromkeys(urls)]
        self._keys = keys
        self._session = Session(patience)
        self._loop = BackgroundLoop(self._open())
        self._caches: list[BinaryCache] = []
        self._lookups: dict[str, asyncio.Task[Answer]] = {}
        self._opened: asyncio.Task[None] | None = None

    def __enter__(self) -> Self:
        self._loop.__enter__()
        return self

    def __exit__(self, *raised: object) -> None:
        self._loop.__exit__(*raised)

    def walk(self, roots: Iterable[str], local: Mapping[str, PathInfo] | None = None) -> Walk:
        """Look up store paths and, over any number of steps, all that they refer to.

        Args:
            roots: store paths.
            local: what this machine's store has; it counts only where no cache has a path.

        Raises:
            Retryable: a cache cannot be reached that might have had a path.
            Terminal: more paths than an image may have, or a cache wants credentials.
        """
        return self._loop.call(Walking(self.look_up, local or {}).walk(roots))

    def open(self, substitute: Substitute) -> Download:
        """Begin to fetch a NAR, compressed as its narinfo says; nothing of it is verified."""
        nar = substitute.nar
        limit = nar.file_size or nar.info.nar_size + nar.info.nar_size // 16 + _SLACK
        return Download(self._loop, substitute.cache.stream(nar.url, limit))

    async def look_up(self, path: str) -> Answer:
        """What the caches have of a path; in the event loop."""
        task = self._lookups.get(path)
        if task is None:
            task = self._lookups[path] = asyncio.create_task(self._ask(path))
        return await asyncio.shield(task)

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[None]:
        async with self._session:
            self._caches = [
                BinaryCache(self._session.open(url), priority) for url, priority in self._places
            ]
            yield

    async def _by_priority(self) -> list[BinaryCache]:
        """The caches in their order; those that do not answer come where they were named."""
        if self._opened is None:
            self._opened = asyncio.create_task(self._introduce())
        await asyncio.shield(self._opened)
        return self._caches

    async def _introduce(self) -> None:
        await asyncio.gather(*(cache.introduce() for cache in self._caches))
        self._caches.sort(key=lambda cache: cache.priority or 0)

    async def _ask(self, path: str) -> Answer:
        refused: list[str] = []
        failure: NixImageError | None = None
        for cache in await self._by_priority():
            try:
                nar = await cache.narinfo(path)
            except NixImageError as error:
                failure = failure or error
                continue
            except ValueError as error:
                refused.append(f"the narinfo at {cache.transport.url} is malformed: {error}")
                continue
            if nar is None:
                continue
            if (trusted_by := nar.trusted_by(self._keys)) is not None:
                return Answer(Substitute(nar, trusted_by, cache.transport))
            names = ", ".join(sorted({each.key for each in nar.signatures})[:3])
            signed = f"signed by {names}, " if names else "signed by nobody, "
            refused.append(f"at {cache.transport.url} it is {signed}by no trusted key")
        return Answer(None, "; ".join(refused), failure)


def _place(url: str) -> tuple[str, int | None]:
    """A cache's own URL, and the priority that it is given."""
    base, mark, query = url.partition("?")
    if not mark:
        return url, None
    name, _, value = query.partition("=")
    if name != "priority":
        raise bad_url(url, f"the setting {query[:100]!r} is not known")
    try:
        return base, parse_priority(value)
    except ValueError as error:
        raise bad_url(url, str(error)) from None
