"""Binary caches in their order: what they have of store paths, whose closures, and the NARs.

A path counts as there where a cache has a narinfo of it that a trusted key signed, or whose
content is its own address. Caches are asked by priority, each answer is remembered for as
long as this is open, and a closure is walked with as many requests at once as connections
allow. A cache that cannot be reached fails what it would have decided, nothing else.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Self

from niximage.errors import NixImageError, Reason, Terminal
from niximage.image.closure import HASH_LENGTH, PATH_LIMIT, STORE, PathInfo
from niximage.nix.background import BackgroundLoop
from niximage.nix.download import Download
from niximage.nix.narinfo import (
    CACHE_INFO_LIMIT,
    NARINFO_LIMIT,
    NarInfo,
    parse_cache_info,
    parse_narinfo,
    parse_priority,
)
from niximage.nix.signature import TrustedKeys
from niximage.nix.transport import Patience, Session, Transport, bad_url

CACHES_LIMIT: Final = 16
_SLACK: Final = 1 << 20  # bytes that a compressed NAR may have beyond an uncompressed one


@dataclass(frozen=True, slots=True)
class Substitute:
    """A store path as a binary cache has it.

    Attributes:
        nar: its narinfo, which is trusted.
        trusted_by: why: the name of the key that signed it, or its content address.
        cache: where it is.
    """

    nar: NarInfo
    trusted_by: str
    cache: Transport

    @property
    def info(self) -> PathInfo:
        """The path info that is trusted."""
        return self.nar.info


@dataclass(frozen=True, slots=True)
class Walk:
    """Store paths and what they refer to, as far as it is known.

    Attributes:
        substitutes: the paths that a cache has.
        local: the paths that none has, but this machine's store.
        absent: the paths that nobody has.
        refused: why narinfos that were there do not count, by store path.
    """

    substitutes: Mapping[str, Substitute]
    local: Mapping[str, PathInfo] = field(default_factory=dict)
    absent: frozenset[str] = frozenset()
    refused: Mapping[str, str] = field(default_factory=dict)

    def infos(self) -> list[PathInfo]:
        """The path infos of all that somebody has."""
        return [*(each.info for each in self.substitutes.values()), *self.local.values()]

    def incomplete(self, roots: Iterable[str]) -> list[str]:
        """Those of the roots that lead to a path that nobody has."""
        users: dict[str, list[str]] = {}
        for info in self.infos():
            for reference in info.references:
                users.setdefault(reference, []).append(info.path)
        tainted = set(self.absent)
        waiting = list(tainted)
        while waiting:
            fresh = set(users.get(waiting.pop(), ())) - tainted
            tainted |= fresh
            waiting += fresh
        return [root for root in roots if root in tainted]


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
        self._loop = BackgroundLoop()
        self._caches: list[_Cache] = []
        self._lookups: dict[str, asyncio.Task[_Answer]] = {}
        self._opened: asyncio.Task[None] | None = None

    def __enter__(self) -> Self:
        self._loop.__enter__()
        try:
            self._loop.call(self._open())
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._loop.call(self._session.__aexit__(None, None, None))
        finally:
            self._loop.__exit__(None, None, None)

    def walk(self, roots: Iterable[str], local: Mapping[str, PathInfo] | None = None) -> Walk:
        """Look up store paths and, over any number of steps, all that they refer to.

        Args:
            roots: store paths.
            local: what this machine's store has; it counts only where no cache has a path.

        Raises:
            Retryable: a cache cannot be reached that might have had a path.
            Terminal: more paths than an image may have, or a cache wants credentials.
        """
        return self._loop.call(_Walking(self, local or {}).walk(roots))

    def open(self, substitute: Substitute) -> Download:
        """Begin to fetch a NAR, compressed as its narinfo says; nothing of it is verified."""
        nar = substitute.nar
        limit = nar.file_size or nar.info.nar_size + nar.info.nar_size // 16 + _SLACK
        return Download(self._loop, substitute.cache.stream(nar.url, limit))

    async def look_up(self, path: str) -> "_Answer":
        """What the caches have of a path; in the event loop."""
        task = self._lookups.get(path)
        if task is None:
            task = self._lookups[path] = asyncio.create_task(self._ask(path))
        return await asyncio.shield(task)

    async def _open(self) -> None:
        await self._session.__aenter__()
        self._caches = [_Cache(self._session.open(url), priority) for url, priority in self._places]

    async def _by_priority(self) -> "list[_Cache]":
        """The caches in their order; those that do not answer come where they were named."""
        if self._opened is None:
            self._opened = asyncio.create_task(self._introduce())
        await asyncio.shield(self._opened)
        return self._caches

    async def _introduce(self) -> None:
        await asyncio.gather(*(cache.introduce() for cache in self._caches))
        self._caches.sort(key=lambda cache: cache.priority or 0)

    async def _ask(self, path: str) -> "_Answer":
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
                return _Answer(Substitute(nar, trusted_by, cache.transport))
            names = ", ".join(sorted({each.key for each in nar.signatures})[:3])
            signed = f"signed by {names}, " if names else "signed by nobody, "
            refused.append(f"at {cache.transport.url} it is {signed}by no trusted key")
        return _Answer(None, "; ".join(refused), failure)


@dataclass(frozen=True, slots=True)
class _Answer:
    """What the caches say of a path.

    Attributes:
        found: it, or None.
        refused: why what was there does not count.
        failure: why it is not known whether it is there.
    """

    found: Substitute | None
    refused: str = ""
    failure: NixImageError | None = None


@dataclass(slots=True)
class _Cache:
    """One binary cache.

    Attributes:
        transport: how to read it.
        priority: the lower, the earlier; None until it says.
        failure: why it is not asked any more.
    """

    transport: Transport
    priority: int | None
    failure: NixImageError | None = None

    async def introduce(self) -> None:
        """Ask what it is."""
        try:
            data = await self.transport.read("nix-cache-info", CACHE_INFO_LIMIT)
            if data is None:
                raise self._no_cache("it has no nix-cache-info")
            said = parse_cache_info(data).priority
        except ValueError as error:
            self.failure = self._no_cache(str(error))
        except NixImageError as error:
            self.failure = error
        else:
            self.priority = said if self.priority is None else self.priority

    async def narinfo(self, path: str) -> NarInfo | None:
        """What it has of a path.

        Raises:
            ValueError: its narinfo is malformed, or about another path.
            Retryable: it cannot be reached.
            Terminal: it is no binary cache, or wants credentials.
        """
        if self.failure is not None:
            raise self.failure
        hash_part = path[len(STORE) :][:HASH_LENGTH]
        try:
            data = await self.transport.read(f"{hash_part}.narinfo", NARINFO_LIMIT)
        except NixImageError as error:
            # It was tried often enough: what is asked next need not wait as long again.
            self.failure = error
            raise
        if data is None:
            return None
        nar = parse_narinfo(data, hash_part)
        if nar.info.path != path:
            raise ValueError(f"it is about {nar.info.path}")
        return nar

    def _no_cache(self, why: str) -> Terminal:
        return Terminal(
            Reason.INVALID_SPEC,
            f"{self.transport.url} is no binary cache for us: {why}",
            hint="Correct the URL among the substituters",
        )


class _Walking:
    """One walk: every path once, all that are known of at the same time."""

    def __init__(self, substituters: Substituters, local: Mapping[str, PathInfo]) -> None:
        self._substituters = substituters
        self._local = local
        self._seen: set[str] = set()
        self._substitutes: dict[str, Substitute] = {}
        self._found_here: dict[str, PathInfo] = {}
        self._absent: set[str] = set()
        self._refused: dict[str, str] = {}

    async def walk(self, roots: Iterable[str]) -> Walk:
        try:
            async with asyncio.TaskGroup() as group:
                self._visit_all(roots, group)
        except* NixImageError as errors:
            raise _first(errors) from None
        return Walk(
            dict(sorted(self._substitutes.items())),
            dict(sorted(self._found_here.items())),
            frozenset(self._absent),
            self._refused,
        )

    def _visit_all(self, paths: Iterable[str], group: asyncio.TaskGroup) -> None:
        for path in paths:
            if path not in self._seen:
                self._seen.add(path)
                group.create_task(self._visit(path, group))
        if len(self._seen) > PATH_LIMIT:
            raise Terminal(
                Reason.INVALID_SPEC,
                f"the closure has more than {PATH_LIMIT} store paths",
                hint="Ask for fewer packages",
            )

    async def _visit(self, path: str, group: asyncio.TaskGroup) -> None:
        answer = await self._substituters.look_up(path)
        if answer.found is not None:
            self._substitutes[path] = answer.found
            info = answer.found.info
        elif (here := self._local.get(path)) is not None:
            self._found_here[path] = info = here
        elif answer.failure is not None:
            raise answer.failure
        else:
            self._absent.add(path)
            if answer.refused:
                self._refused[path] = answer.refused
            return
        self._visit_all(info.references, group)


def _first(errors: BaseExceptionGroup[NixImageError]) -> NixImageError:
    found: BaseException = errors
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    assert isinstance(found, NixImageError)
    return found


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
