"""Several programs on one store, one call at a time, in an order that the test chooses.

Each program must make one call at a time itself: set `niximage.bucket.threads.WORKERS` to 1.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from niximage.bucket import ObjectStore
from support.stores import Hooked

Program = Callable[[ObjectStore], None]
TIMEOUT = 30.0  # seconds that a program may be between two calls


class Killed(BaseException):
    """The program dies here, and so does everything it still tries."""


@dataclass
class _Actor:
    program: Program
    dies_at: int | None
    calls: int = 0
    waiting: bool = False
    ended: bool = False
    error: BaseException | None = None
    go: threading.Event = field(default_factory=threading.Event)


def _end(actors: Sequence[_Actor], threads: Sequence[threading.Thread]) -> None:
    """Let those that still run, where the test has failed, die at their next calls."""
    for actor in actors:
        actor.dies_at = 0
    while any(thread.is_alive() for thread in threads):
        for actor, thread in zip(actors, threads, strict=True):
            actor.go.set()
            thread.join(0.001)


def interleave(
    store: ObjectStore,
    programs: Sequence[Program],
    choose: Callable[[int], int],
    *,
    dies_at: Sequence[int | None] = (),
    between: Callable[[], None] = lambda: None,
) -> list[BaseException | None]:
    """Run programs until all have ended.

    Args:
        store: what they work on.
        programs: what runs.
        choose: which of so many programs may make its next call.
        dies_at: for each program the number of the call that it does not survive, if any.
        between: called after each call, while nothing runs.

    Returns:
        What each program ended with: None, `Killed`, or another error.
    """
    deaths = [*dies_at, *[None] * (len(programs) - len(dies_at))]
    actors = [_Actor(each, death) for each, death in zip(programs, deaths, strict=True)]
    changed = threading.Condition()

    def before(actor: _Actor) -> None:
        with changed:
            actor.waiting = True
            changed.notify_all()
        if not actor.go.wait(TIMEOUT):
            raise TimeoutError
        actor.go.clear()
        actor.calls += 1
        if actor.dies_at is not None and actor.calls > actor.dies_at:
            raise Killed

    def run(actor: _Actor) -> None:
        hooked = Hooked(store, lambda _verb, _key: before(actor))
        try:
            actor.program(hooked)
        except BaseException as error:  # noqa: BLE001 (told to the test)
            actor.error = error
        with changed:
            actor.ended = True
            changed.notify_all()

    threads = [threading.Thread(target=run, args=(actor,)) for actor in actors]
    for thread in threads:
        thread.start()
    try:
        while True:
            with changed:
                assert changed.wait_for(
                    lambda: all(each.waiting or each.ended for each in actors), TIMEOUT
                )
                between()
                ready = [each for each in actors if not each.ended]
                if not ready:
                    break
                actor = ready[choose(len(ready)) % len(ready)]
                actor.waiting = False
                actor.go.set()
    finally:
        _end(actors, threads)
    return [each.error for each in actors]
