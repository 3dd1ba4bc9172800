"""What follows a failure: another try after a growing delay, or Stalled until the input changes.

What the input is at fault for is not tried again. What the world was in the way of is, as
often as `build.retry` allows for builds and for ever for everything else, credentials of a
private source among that. Memory and time that
ran out get one more chance, for the node may have been at fault.
"""

import datetime as dt
from math import inf
from typing import Final

from niximage.api.base import seconds
from niximage.api.status import Failure, SourceStatus
from niximage.controller.decision import conditions as say
from niximage.controller.decision.case import Case, Decision
from niximage.controller.decision.history import with_build
from niximage.controller.decision.words import pinned_words
from niximage.controller.job_view import JobView
from niximage.errors import NixImageError, Reason, Retryable, Terminal, plain_text

SKEW: Final = dt.timedelta(minutes=1)  # by which the clocks of two replicas may differ
_ONCE_MORE: Final = frozenset({Reason.OUT_OF_MEMORY, Reason.BUILD_TIMEOUT})
# The cause lies in a Secret, and nobody tells us when that changes.
_FOR_EVER: Final = frozenset({Reason.AUTHENTICATION_FAILED, Reason.CREDENTIALS_MISSING})
_OF_PUBLISHING: Final = frozenset(
    {Reason.BUCKET_UNAVAILABLE, Reason.RESULT_INVALID, Reason.DIGEST_MISMATCH}
)


def failed(
    case: Case,
    error: NixImageError,
    source: SourceStatus | None,
    inputs: str,
    *says: say.Say,
    job: JobView | None = None,
) -> Decision:
    """Note a failure.

    Args:
        case: the image.
        error: what went wrong.
        source: the source as far as it is known.
        inputs: the input hash that failed, or "" where none is to blame.
        says: further conditions.
        job: the build that failed, if one did.
    """
    before = case.status.failure
    if before is not None and before.input_hash != inputs:
        before = None
    attempts = max(job.attempt if job is not None else 1, before.attempts + 1 if before else 1)
    tries = before.tries + 1 if before else 1
    again = _again(case, error, tries, job)
    words = str(error)
    if not again and job is not None and tries > 1:
        again_by = f"kubectl niximage retry {case.image.metadata.name}"
        words = (
            f"{words.rstrip('.')}. Given up after {tries} attempts: change the spec, or try again "
            f"with {again_by} -n {case.image.metadata.namespace}"
        )
    failure = Failure(
        reason=error.reason,
        message=plain_text(words, 1024),
        input_hash=inputs,
        derivation=plain_text(error.derivation, 300),
        log_tail=plain_text(error.log_tail, 2048, keep="end"),
        attempts=attempts,
        tries=tries,
        last_failure_time=case.now,
        next_retry_time=case.now + delay_of(case, error, tries) if again else None,
    )
    if before is not None and not again and _same(before, failure):
        failure = before  # asked again, and told the same: nothing to write
    if job is not None and source is not None:
        case = case.with_status(
            with_build(case, job, source.revision, reason=error.reason, message=str(error))
        )
    return still_failed(case, failure, source, wait_of(failure, case.now), *says)


def still_failed(
    case: Case, failure: Failure, source: SourceStatus | None, wait: float, *says: say.Say
) -> Decision:
    """Tell of a failure, new or still standing: the same failure gives the same words."""
    status = case.status.model_copy(
        update={"source": source, "current_build": None, "failure": failure}
    )
    reason = Reason(failure.reason)
    if source is not None and failure.input_hash:
        says = (*says, say.source_resolved(pinned_words(source)))
    retry = failure.next_retry_time
    if case.standing is not None:
        says = (say.kept(case.standing), say.outdated(reason, failure.message), *says)
    else:
        if failure.input_hash:
            part = say.unpublished if reason in _OF_PUBLISHING else say.build_failed
            says = (part(reason, failure.message), *says)
        words = failure.message
        if retry is not None:
            words = f"attempt {failure.tries} failed, next at {retry:%H:%M:%SZ}: {words}"
        follows = (
            say.stalled(reason, words)
            if retry is None
            else say.reconciling(Reason.PROGRESSING_WITH_RETRY, words)
        )
        says = (say.not_ready(reason, failure.message), follows, *says)
    status = case.said(status, *says)
    if retry is None:
        return Decision(status=status, poll_after=case.poll)
    return Decision(status=status, requeue_after=wait)


def another_chance(case: Case) -> Failure | None:
    """The failure as it is after its user changed or asked for something: due at once."""
    failure = case.status.failure
    if failure is None or not failure.input_hash:
        return None
    return failure.model_copy(update={"next_retry_time": case.now, "tries": 0})


def wait_of(failure: Failure, now: dt.datetime) -> float:
    """Seconds until a failure is tried again: endless for one that only new input can mend.

    A failure of the future is one of before the clock was set back: its delay says nothing.
    """
    if failure.next_retry_time is None:
        return inf
    if failure.last_failure_time - now > SKEW:
        return 0.0
    return (failure.next_retry_time - now).total_seconds()


def _again(case: Case, error: NixImageError, tries: int, job: JobView | None) -> bool:
    """Whether another try follows."""
    limit = case.image.spec.build.retry.limit
    if isinstance(error, Terminal):
        return job is not None and error.reason in _ONCE_MORE and tries <= min(limit, 1)
    return job is None or error.reason in _FOR_EVER or tries <= limit


def delay_of(case: Case, error: NixImageError, tries: int) -> dt.timedelta:
    """The time before the next try: twice as long each time, and what a server asked for."""
    retry, settings = case.image.spec.build.retry, case.settings
    first = seconds(retry.min_backoff) if retry.min_backoff else settings.retry_delay
    longest = seconds(retry.max_backoff) if retry.max_backoff else settings.retry_delay_limit
    delay = min(first * 2.0 ** min(tries - 1, 32), max(longest, first))
    asked = error.retry_after if isinstance(error, Retryable) else 0.0
    return dt.timedelta(seconds=max(delay, asked))


def _same(before: Failure, after: Failure) -> bool:
    return before.next_retry_time is None and (
        (before.input_hash, before.reason, before.message)
        == (after.input_hash, after.reason, after.message)
    )
