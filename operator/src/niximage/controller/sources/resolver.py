"""Revisions of moving sources, each (url, ref) asked once for all images that follow it."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Final

from cachetools import LRUCache

from niximage.api.build import PinnedSource
from niximage.controller.sources.due import Question, slot_start
from niximage.errors import NixImageError, Retryable

REMEMBERED: Final = 50_000  # answers: every source of five times as many images as there may be

Ask = Callable[[Question], Awaitable[PinnedSource]]


@dataclass(frozen=True, slots=True)
class _Answer:
    """What was answered, when, and the shortest interval of those who took it."""

    at: float
    interval: float
    pinned: PinnedSource | NixImageError


class Resolver:
    """Asks for revisions once in each slot of `due`, and once at a time."""

    def __init__(
        self,
        ask: Ask,
        *,
        retry_delay: float,
        acted_until: float | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Make a resolver that knows nothing.

        Args:
            ask: how to find a revision; raises NixImageError.
            retry_delay: seconds that a passing failure is remembered, so that a thousand
                images of one source do not knock a thousand times on a server in trouble.
            acted_until: when the operator before this one was at work last, in seconds since
                1970; None: it is not known to have paused.
            clock: seconds since 1970.
        """
        self._ask = ask
        self._retry_delay = retry_delay
        self._clock = clock
        began = clock()
        self._acted_until = began if acted_until is None else min(acted_until, began)
        # Sources come and go for as long as the operator runs.
        self._answers: LRUCache[str, _Answer] = LRUCache(REMEMBERED)
        self._asking: dict[str, asyncio.Task[_Answer]] = {}

    async def resolve(
        self,
        question: Question,
        *,
        interval: float,
        told: PinnedSource | None = None,
        fresh: bool = False,
    ) -> PinnedSource | NixImageError:
        """The pinned source, from an answer of the present slot.

        Args:
            question: what to find.
            interval: how often to ask, in seconds.
            told: what the asker's status tells: the answer, where an operator before this one
                asked in the present slot.
            fresh: ask now, whatever was answered before.

        Returns:
            The revision, or the error that asking for it met.
        """
        key = question.key
        known = None if fresh else self._remembered(key, interval)
        if known is None:
            if told is not None and not fresh and self._was_asked_before(key, interval):
                return told
            task = self._asking.get(key)
            if task is None:
                task = asyncio.create_task(self._answer(key, question, interval))
                self._asking[key] = task
            # Shielded: the one who asked first may be cancelled, the others still wait.
            known = await asyncio.shield(task)
        if isinstance(known.pinned, NixImageError):
            return known.pinned
        source = question.source
        return known.pinned.model_copy(update={"path": source.path, "attr": source.attr})

    def forget(self, question: Question) -> None:
        """Do not answer from memory any more: what was asked changed just now."""
        key = question.key
        self._answers.pop(key, None)
        self._asking.pop(key, None)  # who waits for it still gets it, and nobody else

    def _remembered(self, key: str, interval: float) -> _Answer | None:
        """What this life was answered in the present slot: the asker's, or a faster one's."""
        answer, now = self._answers.get(key), self._clock()
        if answer is None or answer.at > now:  # the clock was set back: slots begin anew
            return None
        if isinstance(answer.pinned, Retryable) and now - answer.at >= self._retry_delay:
            return None
        periods = {interval, min(interval, answer.interval)}
        if all(answer.at < slot_start(key, period, now) for period in periods):
            return None
        answer = self._answers[key] = replace(answer, interval=min(periods))
        return answer

    def _was_asked_before(self, key: str, interval: float) -> bool:
        """Whether a life before this one has asked in the present slot."""
        if key in self._answers:
            return False
        now = self._clock()
        return slot_start(key, interval, now) <= self._acted_until <= now

    async def _answer(self, key: str, question: Question, interval: float) -> _Answer:
        try:
            pinned: PinnedSource | NixImageError
            try:
                pinned = await self._ask(question)
            except NixImageError as error:
                pinned = error
            answer = _Answer(self._clock(), interval, pinned)
            if self._asking.get(key) is asyncio.current_task():
                self._answers[key] = answer
            return answer
        finally:
            if self._asking.get(key) is asyncio.current_task():
                del self._asking[key]
