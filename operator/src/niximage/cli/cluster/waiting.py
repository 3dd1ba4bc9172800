"""Waiting until what was asked for has come about, or will not."""

import asyncio
import enum
import time
from typing import Final

import typer

from niximage.api.status import BuildResult, ConditionType
from niximage.cli.cluster.connect import Here
from niximage.cli.cluster.facts import Facts
from niximage.cli.cluster.tables import one_line
from niximage.cli.program import program_name
from niximage.controller.cluster.connection import NotAllowed
from niximage.errors import NixImageError, Reason, Retryable, Terminal, plain_text

LOOK_EVERY: Final = 0.5  # seconds


class Outcome(enum.Enum):
    """Where an image stands, of what somebody waits for."""

    WAITING = "waiting"
    READY = "ready"
    STALLED = "stalled"


def outcome(image: Facts) -> Outcome:
    """Whether the operator has answered spec and requests, and what came of it. Pure."""
    status = image.status
    unanswered = (
        not image.is_seen
        or (image.requested and status.last_handled_reconcile_at != image.requested)
        or (
            image.forced
            and image.forced == image.requested
            and status.last_handled_force_at != image.forced
        )
    )
    if unanswered:
        return Outcome.STALLED if image.is_suspended else Outcome.WAITING
    if status.is_true(ConditionType.STALLED):
        return Outcome.STALLED
    at_it = (ConditionType.RECONCILING, ConditionType.OUTDATED)
    if status.current_build is not None or any(map(status.is_true, at_it)):
        return Outcome.WAITING
    return Outcome.READY if status.is_true(ConditionType.READY) else Outcome.WAITING


async def wait(here: Here, name: str, *, timeout: float) -> Facts:  # noqa: ASYNC109 (the user's)
    """Wait for an image to be Ready, and tell on standard error how it goes.

    Raises:
        Terminal: it failed for good, or was suspended; or only its image of before is Ready.
        Retryable: the time is over; the failure of the last try, if there was one. Or the user
            may not look.
    """
    end = time.monotonic() + timeout
    said = ""
    first: str | None = None  # the newest build when the waiting began
    while True:
        is_late = time.monotonic() > end
        try:
            image = Facts.of(await here.image(name))
        except Retryable as error:  # an API server may be away for a moment
            if is_late or isinstance(error, NotAllowed):
                raise
            line = plain_text(f"{error.message}; asked again", 300)
        else:
            newest = next(iter(image.status.history), None)
            first = first if first is not None else newest.id if newest else ""
            if (stands := outcome(image)) is Outcome.READY:
                if newest is not None and newest.result == "Failed" and newest.id != first:
                    raise _kept(image, newest)
                return image
            if stands is Outcome.STALLED:
                raise _failed(image)
            if is_late:
                raise _late(image, timeout)
            line = one_line(image)
        if line != said:
            said = line
            typer.echo(line, err=True)
        await asyncio.sleep(LOOK_EVERY)


def _failed(image: Facts) -> NixImageError:
    failure = image.status.failure
    if image.is_suspended:
        return Terminal(
            Reason.SUSPENDED,
            f"{image.name} is suspended",
            hint=f"Resume it: {program_name()} resume {image.name}",
        )
    if failure is None:
        word, message = image.word
        return Terminal(_reason(word), message)
    return Terminal(
        _reason(failure.reason),
        failure.message,
        derivation=failure.derivation,
        log_tail=failure.log_tail,
    )


def _kept(image: Facts, build: BuildResult) -> Terminal:
    """A build that was forced failed: what was there before it is Ready, and nothing else."""
    return Terminal(
        _reason(build.reason),
        f"the build failed, and the image of before is kept: {build.message}",
        hint=f"See its log: {program_name()} logs {image.name}",
    )


def _late(image: Facts, timeout: float) -> NixImageError:
    failure = image.status.failure
    if failure is not None:
        return Retryable(
            _reason(failure.reason),
            f"not Ready within {timeout:g} s: {failure.message}",
            derivation=failure.derivation,
            log_tail=failure.log_tail,
            hint="The operator tries again; wait longer with --timeout",
        )
    return Retryable(
        Reason.BUILD_TIMEOUT,
        f"{image.name} was not Ready within {timeout:g} s: {one_line(image)}",
        hint=f"It goes on: {program_name()} status {image.name}; or wait longer with --timeout",
    )


def _reason(word: str) -> Reason:
    """A reason of the status, which may be of an operator that knows more of them."""
    return Reason(word) if word in set(Reason) else Reason.INTERNAL_ERROR
