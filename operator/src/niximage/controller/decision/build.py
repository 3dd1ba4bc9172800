"""From known inputs to an image: steps 6 to 12 of `decide`. Pure."""

from dataclasses import replace
from typing import Final

from niximage.api.build import BuildRequest, PinnedSource, PublishResult
from niximage.api.image import NixImage
from niximage.api.status import Failure, NixImageStatus, Progress, SourceStatus
from niximage.controller.builds.job import template
from niximage.controller.decision import answers
from niximage.controller.decision.case import Case, Decision, Target
from niximage.controller.decision.failures import failed, still_failed, wait_of
from niximage.controller.decision.history import has_room
from niximage.controller.decision.publication import accepted
from niximage.controller.job_view import LOST, PENDING, JobState, JobView
from niximage.controller.steps import (
    CreateJob,
    DeleteJob,
    FindJob,
    FindPublished,
    ReadOutcome,
    ReadProgress,
    TakeTurn,
    Urgency,
)
from niximage.controller.views import Absent, Published, Queued, Turn
from niximage.errors import NixImageError, Reason, Retryable, Terminal

GONE_SOON: Final = 2.0  # seconds between looks at a Job that is being deleted
PROGRESS_EVERY: Final = 15.0  # seconds between looks at a Job that runs
TWIN_EVERY: Final = 30.0  # seconds between looks at another image's Job that builds the same
PROGRESS_FIRST: Final = 4.0  # seconds after which a pod that cannot start is told of


def other_builds(case: Case, inputs: str) -> list[JobView]:
    """The image's live builds of other inputs."""
    return [
        job
        for job in case.observed.jobs
        if job.owner == case.image.metadata.uid
        and job.input_hash != inputs
        and job.state is JobState.LIVE
    ]


def with_inputs(case: Case, target: Target) -> Decision:
    """What to do for inputs that are known."""
    source, inputs = target.source, target.inputs
    name = job_name(case.image, inputs)
    job = next((j for j in case.observed.jobs if j.name == name), None)
    if case.forced is not None:
        if job is None or job.force != case.forced:
            return _again(case, target, job)
        if job.state is JobState.SUCCEEDED:
            case = case.with_status(_answered(case, case.status))

    status = case.status
    build = status.current_build
    untold = job is not None and (
        job.state is JobState.LIVE or (build is not None and build.job_name == name)
    )
    if (
        status.digest
        and status.artifact is not None
        and status.artifact.input_hash == inputs
        and case.forced is None
        and not untold
    ):
        return accepted(case, answers.with_reference(case, status), target)

    failure = _failure_of(case, inputs)
    if failure is not None and (wait := wait_of(failure, case.now)) > 0:
        return still_failed(case, failure, source, wait)

    if job is None:
        return _from_bucket(case, target, None)
    if job.state is JobState.DELETING:
        if case.observed.in_the_way is None:
            return Decision(looks=(FindJob(job),))  # a watch that has just begun missed its end
        return Decision(status=answers.building(case, source, job), requeue_after=GONE_SOON)
    if job.owner != case.image.metadata.uid:
        return _taken(case, source, job)
    if job.state is JobState.LIVE:
        return _live(case, target, job)

    told = failure is not None and failure.attempts >= job.attempt
    if told and job.state is JobState.FAILED:
        return Decision(effects=(DeleteJob(job),))  # its retry is due
    if not told:
        match case.observed.outcome:
            case None:
                return Decision(looks=(ReadOutcome(job, log=has_room(case.image, job)),))
            case NixImageError() as error:
                told_of = _without_start(case, job, error)
                return _unless_again(case, failed(case, told_of, source, inputs, job=job))
            case PublishResult() | Absent.ABSENT:
                pass
    return _from_bucket(case, target, job, told=told)


def _unless_again(case: Case, decision: Decision) -> Decision:
    """A failure; a forced build that will not be tried again was answered with it."""
    status = decision.status
    if status is None or status.failure is None or status.failure.next_retry_time is not None:
        return decision
    return replace(decision, status=_answered(case, status))


def _answered(case: Case, status: NixImageStatus) -> NixImageStatus:
    """The status with the request to build again answered, if there is one."""
    if case.forced is None:
        return status
    return status.model_copy(update={"last_handled_force_at": case.forced})


def _live(case: Case, target: Target, job: JobView) -> Decision:
    """A build is under way, or waits for what its pod needs."""
    progress = case.observed.progress
    outlived = _is_outlived(case, target.pinned, job)
    if progress is None:
        return Decision(looks=(ReadProgress(job, fresh=outlived),))
    if outlived and isinstance(progress, Progress) and progress.phase == PENDING:
        return Decision(effects=(DeleteJob(job),))  # nothing runs that could be lost
    is_young = (case.now - job.created).total_seconds() < PROGRESS_FIRST
    early = is_young and progress is Absent.ABSENT
    status = answers.building(case, target.source, job)
    return Decision(status=status, requeue_after=PROGRESS_FIRST if early else PROGRESS_EVERY)


def _without_start(case: Case, job: JobView, error: NixImageError) -> NixImageError:
    """The error; where the pod was gone before it could tell of its time, with what was seen."""
    build = case.status.current_build
    if job.failed_for != "DeadlineExceeded" or build is None or build.job_name != job.name:
        return error
    if build.progress is None or build.progress.phase not in {PENDING, LOST}:
        at = answers.progress_words(build.progress).removeprefix(": ")
        last = f"; it was last seen at: {at}" if at else ""
        return Terminal(
            Reason.BUILD_TIMEOUT,
            f"the build took longer than spec.timeout, {case.image.spec.timeout}{last}",
            hint=error.hint,
        )
    return Terminal(
        Reason.BUILD_TIMEOUT,
        f"the build's pod did not run within spec.timeout, {case.image.spec.timeout}: "
        f"{build.progress.message}",
        hint="Make room for it, or change what spec.build asks for",
    )


def _is_outlived(case: Case, pinned: PinnedSource, job: JobView) -> bool:
    """Whether spec.build, the class or the operator's settings are other ones since."""
    if not job.template or job.queue:  # Kueue changes its Jobs itself
        return False
    request = BuildRequest.of(case.image, pinned, case.base)
    create = CreateJob(job.name, request, job.attempt, job.force)
    return template(case.image, create, case.settings) != job.template


def _taken(case: Case, source: SourceStatus, job: JobView) -> Decision:
    """A Job of another object has the name of ours, if the cluster itself says so, too.

    Of a NixImage that was deleted and made anew the former's Job goes soon: that is no failure.
    """
    if case.observed.in_the_way is None:
        return Decision(looks=(FindJob(job),))
    waits = answers.queued(
        case,
        source,
        f"waiting for the Job {job.name} to go: it belongs to another object, such as a former "
        f"NixImage of this name. If it stays: kubectl delete job {job.name} -n {job.namespace}",
    )
    return replace(waits, requeue_after=PROGRESS_EVERY)


def _again(case: Case, target: Target, job: JobView | None) -> Decision:
    """Build again what may be published already: a Job of an earlier request makes way."""
    match job:
        case None:
            return _create(case, target)
        case JobView(state=JobState.DELETING):
            status = answers.building(case, target.source, job)
            return Decision(status=status, requeue_after=GONE_SOON)
        case JobView() if job.owner != case.image.metadata.uid:
            return _taken(case, target.source, job)
        case JobView():
            return Decision(effects=(DeleteJob(job),))


def _from_bucket(
    case: Case, target: Target, job: JobView | None, *, told: bool = False
) -> Decision:
    """The bucket has the last word: what it holds need not be built, and nothing else counts."""
    source, inputs = target.source, target.inputs
    match case.observed.published:
        case None:
            return Decision(looks=(FindPublished(inputs),))
        case NixImageError() as error:
            return failed(case, error, source, inputs)
        case Published() as published if (
            isinstance(case.observed.outcome, PublishResult)
            and case.observed.outcome.digest != published.digest
        ):
            other = Retryable(
                Reason.RESULT_INVALID,
                f"the build reported {case.observed.outcome.digest}, "
                f"but the bucket holds {published.digest}",
            )
            return failed(case, other, source, inputs, job=job)
        case Published() as published:
            status = answers.with_artifact(case, published, source, inputs)
            return accepted(case, status, target, job)
        case Absent.ABSENT if job is None:
            return _create(case, target)
        case Absent.ABSENT if told:
            return Decision(effects=(DeleteJob(job),))
        case Absent.ABSENT:
            lost = Retryable(
                Reason.RESULT_INVALID,
                f"the Job {job.name} succeeded, but the bucket does not hold its image",
                hint="The build is repeated",
            )
            return failed(case, lost, source, inputs, job=job)


def _create(case: Case, target: Target) -> Decision:
    source, inputs = target.source, target.inputs
    if case.image.spec.concurrency_policy == "Forbid" and (ahead := other_builds(case, inputs)):
        return answers.queued(case, source, f"waiting for the build {ahead[0].name} to finish")
    failure = _failure_of(case, inputs)
    match case.observed.turn:
        case None:
            return Decision(looks=(TakeTurn(inputs, _urgency(case, again=failure is not None)),))
        case Queued() as turn:
            waits = answers.queued(case, source, turn.words)
            # Whose build is the same may be stuck, and nobody tells us of that.
            return replace(waits, requeue_after=TWIN_EVERY) if turn.twin else waits
        case Turn.GRANTED:
            pass
    asked_at = int(case.now.timestamp()) * 1_000_000_000
    request = BuildRequest.of(case.image, target.pinned, case.base, asked_at=asked_at)
    attempt = failure.attempts + 1 if failure is not None else 1
    create = CreateJob(job_name(case.image, inputs), request, attempt, case.forced or "")
    return Decision(effects=(create,))


def _failure_of(case: Case, inputs: str) -> Failure | None:
    """The failure that is told, if these inputs are its own."""
    failure = case.status.failure
    return failure if failure is not None and failure.input_hash == inputs else None


def _urgency(case: Case, *, again: bool) -> Urgency:
    if again:
        return Urgency.RETRY
    return Urgency.WANTED if case.standing is None or case.forced else Urgency.MOVED


def job_name(image: NixImage, inputs: str) -> str:
    """The name of the Job that builds these inputs: equal inputs, equal name, no second Job."""
    return f"{image.metadata.name}-{inputs[:10]}"
