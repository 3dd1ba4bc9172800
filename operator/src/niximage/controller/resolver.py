"""Revisions of moving sources, each (url, ref) asked once for all images that follow it."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from cachetools import LRUCache

from niximage.api.build import PinnedSource
from niximage.api.canonical import canonical_hash
from niximage.api.source import Source
from niximage.errors import NixImageError, Retryable

REMEMBERED: Final = 50_000  # answers: every source of five times as many images as there may be


@dataclass(frozen=True, slots=True)
class Question:
    """What to find the revision of.

    Attributes:
        source: what the spec says.
        namespace: where its image is, and the Secrets that it may name.
        nixpkgs_url: the repository that `source.nixpkgs` means.
    """

    source: Source
    namespace: str
    nixpkgs_url: str


Ask = Callable[[Question], Awaitable[PinnedSource]]


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
            ask: how to find a revision; raises NixImageError.
            retry_delay: seconds that a passing failure is remembered, so that a thousand
                images of one source do not knock a thousand times on a server in trouble.
            clock: seconds that only grow.
        """
        self._ask = ask
        self._retry_delay = retry_delay
        self._clock = clock
        # Sources come and go for as long as the operator runs.
        self._answers: LRUCache[str, _Answer] = LRUCache(REMEMBERED)
        self._asking: dict[str, asyncio.Task[_Answer]] = {}

    async def resolve(self, question: Question, *, max_age: float) -> PinnedSource | NixImageError:
        """The pinned source, from an answer of at most `max_age` seconds.

        Args:
            question: what to find.
            max_age: seconds.

        Returns:
            The revision, or the error that asking for it met.
        """
        key = canonical_hash(_moving_part(question))
        known = self._answers.get(key)
        if known is None or self._clock() - known.at >= self._lifetime(known, max_age):
            task = self._asking.get(key)
            if task is None:
                task = asyncio.create_task(self._answer(key, question))
                self._asking[key] = task
            # Shielded: the one who asked first may be cancelled, the others still wait.
            known = await asyncio.shield(task)
        if isinstance(known.pinned, NixImageError):
            return known.pinned
        source = question.source
        return known.pinned.model_copy(update={"path": source.path, "attr": source.attr})

    def forget(self, question: Question) -> None:
        """Do not answer from memory any more: what was asked changed just now."""
        key = canonical_hash(_moving_part(question))
        self._answers.pop(key, None)
        self._asking.pop(key, None)  # who waits for it still gets it, and nobody else

    def _lifetime(self, answer: _Answer, max_age: float) -> float:
        return min(max_age, self._retry_delay) if isinstance(answer.pinned, Retryable) else max_age

    async def _answer(self, key: str, question: Question) -> _Answer:
        try:
            pinned: PinnedSource | NixImageError
            try:
                pinned = await self._ask(question)
            except NixImageError as error:
                pinned = error
            answer = _Answer(self._clock(), pinned)
            if self._asking.get(key) is asyncio.current_task():
                self._answers[key] = answer
            return answer
        finally:
            if self._asking.get(key) is asyncio.current_task():
                del self._asking[key]


def _moving_part(question: Question) -> dict[str, object]:
    """What a server is asked about: two images of one branch ask the same, whatever the path.

    What one namespace's Secret opens is no answer for another namespace.
    """
    source = question.source
    if source.git is not None:
        part: dict[str, object] = {"url": source.git.url, "ref": source.git.ref.to_json()}
        if source.secret is not None:
            part["secret"] = [question.namespace, source.secret]
        return part
    if source.source_ref is not None:
        flux = source.source_ref
        return {"flux": [question.namespace, flux.kind, flux.name]}
    if source.volume is not None:
        volume = source.volume
        return {"volume": [question.namespace, volume.claim_name, volume.revision]}
    assert source.nixpkgs is not None
    return {"url": question.nixpkgs_url, "nixpkgs": source.nixpkgs.to_json()}
