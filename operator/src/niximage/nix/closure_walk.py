"""A closure by its references: every path once, all that are known of at the same time."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field

from niximage.errors import NixImageError, Reason, Terminal
from niximage.image.closure import PATH_LIMIT, PathInfo
from niximage.nix.binary_cache import Answer, Substitute


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


LookUp = Callable[[str], Awaitable[Answer]]
"""Asks the caches for a path; in the event loop."""


class Walking:
    """One walk: every path once, all that are known of at the same time."""

    def __init__(self, look_up: LookUp, local: Mapping[str, PathInfo]) -> None:
        self._look_up = look_up
        self._local = local
        self._seen: set[str] = set()
        self._substitutes: dict[str, Substitute] = {}
        self._found_here: dict[str, PathInfo] = {}
        self._absent: set[str] = set()
        self._refused: dict[str, str] = {}

    async def walk(self, roots: Iterable[str]) -> Walk:
        """See `Substituters.walk`; in the event loop."""
        failure: NixImageError | None = None
        try:
            async with asyncio.TaskGroup() as group:
                self._visit_all(roots, group)
        except* NixImageError as errors:
            failure = _first(errors)
        if failure is not None:
            raise failure  # raised above, Python before 3.11.4 makes a group of it again
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
        answer = await self._look_up(path)
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
