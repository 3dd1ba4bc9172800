"""Revisions of moving sources, each (url, ref) asked once for all images that follow it."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from niximage.api.build import PinnedSource
from niximage.api.canonical import canonical_hash
from niximage.api.source import Source
from niximage.errors import NixImageError, Retryable

Ask = Callable[[Source, str], Awaitable[PinnedSource]]
"""Takes a source, and the repository that `source.nixpkgs` means."""


@dataclass(frozen=True, slots=True)
class _Answer:
    at: float
    pinned: PinnedSource | NixImageError


class Resolver:
    """Asks for revisions, keeps answers for as long as askers allow, and asks once at a time."""

    def __init__(
        self, ask: Ask, *, retry_delay: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Make a resolver that knows nothing.

        Args:
            ask: how to find the revision of a source; raises NixImageError.
            retry_delay: seconds that a passing failure is remembered, so that a thousand
                images of one source do not knock a thousand times on a server in trouble.
            clock: seconds that only grow.
        """
        self._ask = ask
        self._retry_delay = retry_delay
        self._clock = clock
        self._answers: dict[str, _Answer] = {}
        self._asking: dict[str, asyncio.Task[_Answer]] = {}

    async def resolve(
        self, source: Source, *, nixpkgs_url: str, max_age: float
    ) -> PinnedSource | NixImageError:
        """The pinned source, from an answer of at most `max_age` seconds.

        Args:
            source: what the spec says.
            nixpkgs_url: the repository that `source.nixpkgs` means.
            max_age: seconds.

        Returns:
            The revision, or the error that asking for it met.
        """
        key = canonical_hash(_moving_part(source, nixpkgs_url))
        known = self._answers.get(key)
        if known is None or self._clock() - known.at >= self._lifetime(known, max_age):
            task = self._asking.get(key)
            if task is None:
                task = asyncio.create_task(self._answer(key, source, nixpkgs_url))
                self._asking[key] = task
            # Shielded: the one who asked first may be cancelled, the others still wait.
            known = await asyncio.shield(task)
        if isinstance(known.pinned, NixImageError):
            return known.pinned
        git = source.git
        return known.pinned.model_copy(
            update={"path": git.path if git else ".", "attr": git.attr if git else None}
        )

    def _lifetime(self, answer: _Answer, max_age: float) -> float:
        return min(max_age, self._retry_delay) if isinstance(answer.pinned, Retryable) else max_age

    async def _answer(self, key: str, source: Source, nixpkgs_url: str) -> _Answer:
        try:
            pinned: PinnedSource | NixImageError
            try:
                pinned = await self._ask(source, nixpkgs_url)
            except NixImageError as error:
                pinned = error
            answer = _Answer(self._clock(), pinned)
            self._answers[key] = answer
            return answer
        finally:
            del self._asking[key]


def _moving_part(source: Source, nixpkgs_url: str) -> dict[str, object]:
    """What a server is asked about: two images of one branch ask the same, whatever the path."""
    if source.git is not None:
        return {"url": source.git.url, "ref": source.git.ref.to_json()}
    assert source.nixpkgs is not None
    return {"url": nixpkgs_url, "nixpkgs": source.nixpkgs.to_json()}
