"""What to do next for one image: a pure function, and the whole of the operator's judgement.

`decide` sees the image, what was observed around it, and the time. It answers with either
looks (go and see, then ask again), or effects on the cluster, and with the status to write.
It never waits and never acts. Whatever happens in between, the same facts give the same
answer, so a crash, a lost event or a second call do no harm.

    1. suspended                           → say so, leave everything
    2. a new spec                          → say that it was seen
    3. its class is not known              → wait for it; not allowed by it: Stalled
    4. the source is not known             → Resolve; failed: a good image stays Ready
    5. its base is not known               → FindBase; not ready: wait for it
    6. these inputs are what is published  → Ready
    7. these inputs failed                 → Stalled, or wait until the retry is due
    8. a Job is at it                      → Building
    9. a Job ended                         → ReadOutcome
   10. the bucket holds the image          → FindPublished, Ready
   11. otherwise                           → CreateJob
"""

import datetime as dt
from dataclasses import replace
from math import inf
from typing import Final

from niximage.api.build import BuildRequest, PinnedSource, PublishResult, input_hash
from niximage.api.image import NixImage
from niximage.api.status import SourceStatus
from niximage.controller import answers
from niximage.controller import conditions as say
from niximage.controller.answers import Case, Decision
from niximage.controller.settings import Settings
from niximage.controller.views import (
    Absent,
    BaseWanting,
    ClassWanting,
    CreateJob,
    DeleteJob,
    FindBase,
    FindPublished,
    JobState,
    JobView,
    Observed,
    Published,
    ReadOutcome,
    Resolve,
)
from niximage.errors import NixImageError, Reason, Retryable

GONE_SOON: Final = 2.0  # seconds between looks at a Job that is being deleted


def decide(image: NixImage, observed: Observed, now: dt.datetime, settings: Settings) -> Decision:
    """What to do next for an image.

    Args:
        image: the object as last seen, with its status.
        observed: its surroundings; what is None was not looked at yet.
        now: the time, in UTC.
        settings: the operator's.

    Returns:
        A decision. With looks or effects in it, `decide` is to be called again with what
        they found.
    """
    case = Case(image, observed, now, settings)
    if image.metadata.deletion_timestamp:
        return Decision()  # its Jobs go with it: they are owned
    if image.spec.suspend:
        return answers.suspended(case)
    if not case.is_current and observed.policy is None:
        return Decision(looks=(Resolve(),), status=answers.seen(case))
    if observed.refused is not None:
        return answers.failed(case, observed.refused, image.status.source, "")
    match observed.policy:
        case ClassWanting(words):
            return answers.waiting(case, image.status.source, words, Reason.WAITING_FOR_CLASS)
        case NixImageError() as error:
            return answers.failed(case, error, image.status.source, "")
    failure = image.status.failure
    if (
        failure is not None
        and not failure.input_hash
        and 0 < (wait := answers.wait_of(failure, now)) < inf
    ):
        return answers.still_failed(case, failure, image.status.source, wait)
    match observed.source:
        case None:
            return Decision(looks=(Resolve(),))
        case NixImageError() as error:
            return _source_failed(case, error)
        case PinnedSource() as pinned:
            return _with_source(case, pinned)


def _source_failed(case: Case, error: NixImageError) -> Decision:
    """A good image stays good while its source cannot be asked."""
    unresolved = say.source_unresolved(error.reason, str(error))
    if case.standing is not None:
        status = case.said(case.status, answers.kept(case.standing), unresolved)
        return Decision(status=status, requeue_after=case.poll)
    return answers.failed(case, error, case.status.source, "", unresolved)


def _with_source(case: Case, pinned: PinnedSource) -> Decision:
    source = answers.source_status(case, pinned)
    base = case.image.spec.base
    if base is not None and base.niximage is not None:
        match case.observed.base:
            case None:
                return Decision(looks=(FindBase(base.niximage.name),))
            case BaseWanting(words):
                return answers.waiting(case, source, words)
            case NixImageError() as error:
                return answers.failed(case, error, source, "")
    inputs = input_hash(case.image, pinned, case.settings.system, case.base)
    decision = _with_inputs(case, pinned, source, inputs)
    if decision.looks:
        return decision
    superseded = tuple(
        DeleteJob(job)
        for job in case.observed.jobs
        if job.owner == case.image.metadata.uid
        and job.input_hash != inputs
        and job.state is JobState.LIVE
    )
    return replace(decision, effects=(*superseded, *decision.effects))


def _with_inputs(case: Case, pinned: PinnedSource, source: SourceStatus, inputs: str) -> Decision:
    status = case.status
    if status.digest and status.artifact is not None and status.artifact.input_hash == inputs:
        return answers.ready(case, status, source)

    failure = status.failure
    if failure is not None and failure.input_hash != inputs:
        failure = None
    if failure is not None and (wait := answers.wait_of(failure, case.now)) > 0:
        return answers.still_failed(case, failure, source, wait)

    name = job_name(case.image, inputs)
    job = next((j for j in case.observed.jobs if j.name == name), None)
    if job is None:
        return _from_bucket(case, pinned, source, inputs, None)
    if job.state is JobState.DELETING:
        return Decision(status=answers.building(case, source, job), requeue_after=GONE_SOON)
    if job.owner != case.image.metadata.uid:
        taken = Retryable(
            Reason.BUILD_INTERRUPTED,
            f"the Job {name} belongs to another object",
            hint="The build starts when that Job is gone; delete it if nothing needs it",
        )
        return answers.failed(case, taken, source, inputs)
    if job.state is JobState.LIVE:
        return Decision(status=answers.building(case, source, job), requeue_after=case.poll)

    told = failure is not None and failure.attempts >= job.attempt
    if told and job.state is JobState.FAILED:
        return Decision(effects=(DeleteJob(job),))  # its retry is due
    if not told:
        match case.observed.outcome:
            case None:
                return Decision(looks=(ReadOutcome(job),))
            case NixImageError() as error:
                return answers.failed(case, error, source, inputs, attempts=job.attempt)
            case PublishResult() | Absent.ABSENT:
                pass
    return _from_bucket(case, pinned, source, inputs, job, told=told)


def _from_bucket(
    case: Case,
    pinned: PinnedSource,
    source: SourceStatus,
    inputs: str,
    job: JobView | None,
    *,
    told: bool = False,
) -> Decision:
    """The bucket has the last word: what it holds need not be built, and nothing else counts."""
    match case.observed.published:
        case None:
            return Decision(looks=(FindPublished(inputs),))
        case NixImageError() as error:
            return answers.failed(case, error, source, inputs)
        case Published() as published if (
            isinstance(case.observed.outcome, PublishResult)
            and case.observed.outcome.digest != published.digest
        ):
            other = Retryable(
                Reason.RESULT_INVALID,
                f"the build reported {case.observed.outcome.digest}, "
                f"but the bucket holds {published.digest}",
            )
            return answers.failed(case, other, source, inputs, attempts=job.attempt if job else 1)
        case Published() as published:
            return answers.ready(
                case, answers.with_artifact(case, published, source, inputs), source
            )
        case Absent.ABSENT if job is None:
            return _create(case, pinned, source, inputs)
        case Absent.ABSENT if told:
            return Decision(effects=(DeleteJob(job),))
        case Absent.ABSENT:
            lost = Retryable(
                Reason.RESULT_INVALID,
                f"the Job {job.name} succeeded, but the bucket does not hold its image",
                hint="The build is repeated",
            )
            return answers.failed(case, lost, source, inputs, attempts=job.attempt)


def _create(case: Case, pinned: PinnedSource, source: SourceStatus, inputs: str) -> Decision:
    request = BuildRequest.of(case.image, pinned, case.settings.system, case.base)
    failure = case.status.failure
    attempt = failure.attempts + 1 if failure is not None and failure.input_hash == inputs else 1
    return Decision(
        effects=(CreateJob(job_name(case.image, inputs), request, attempt),),
        status=answers.building(case, source, None),
    )


def job_name(image: NixImage, inputs: str) -> str:
    """The name of the Job that builds these inputs: equal inputs, equal name, no second Job."""
    return f"{image.metadata.name}-{inputs[:10]}"
