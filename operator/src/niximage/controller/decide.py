"""What to do next for one image: a pure function, and the whole of the operator's judgement.

`decide` sees the image, what was observed around it, and the time. It answers with either
looks (go and see, then ask again), or effects on the cluster, and with the status to write.
It never waits and never acts. Whatever happens in between, the same facts give the same
answer, so a crash, a lost event or a second call do no harm.

    0. deleted                             → RemoveRepository, if the spec asks for it
    1. suspended                           → say so, leave everything
    2. a new spec, or a request            → say that it was seen; Resolve
    3. its class is not known              → wait for it; not allowed by it: Stalled
    4. the source is not known             → Resolve; failed: a good image stays Ready
    5. its base is not known               → FindBase; not ready: wait for it
    6. these inputs are what is published  → Ready
    7. these inputs failed                 → Stalled, or wait until the retry is due
    8. a Job is at it                      → ReadProgress, Building; one whose pod cannot start,
                                            and would be made otherwise today, is made anew
    9. a Job ended                         → ReadOutcome
   10. the bucket holds the image          → FindPublished, Ready
   11. it is not its turn                  → TakeTurn, Queued
   12. otherwise                           → CreateJob
"""

import datetime as dt
from dataclasses import replace
from math import inf
from typing import Final

from niximage.api.build import BuildRequest, PinnedSource, PublishResult, input_hash
from niximage.api.image import NixImage
from niximage.api.status import NixImageStatus, Progress, SourceStatus
from niximage.controller import answers
from niximage.controller import conditions as say
from niximage.controller.case import Case, Decision
from niximage.controller.failures import failed, still_failed, wait_of
from niximage.controller.history import has_room
from niximage.controller.job import template
from niximage.controller.job_view import LOST, PENDING, JobState, JobView
from niximage.controller.removal import finalizers_due, leaving, must_wait_for
from niximage.controller.settings import Settings
from niximage.controller.steps import (
    CreateJob,
    DeleteJob,
    FindBase,
    FindJob,
    FindPublished,
    HideImage,
    MoveTags,
    ReadOutcome,
    ReadProgress,
    Resolve,
    ShowImage,
    TakeTurn,
    Urgency,
)
from niximage.controller.views import (
    Absent,
    BaseWanting,
    ClassWanting,
    Observed,
    Published,
    Queued,
    Turn,
)
from niximage.errors import NixImageError, Reason, Retryable, Terminal
from niximage.source.failures import shown_url
from niximage.source.resolve import wanted

GONE_SOON: Final = 2.0  # seconds between looks at a Job that is being deleted
# Of an object of Flux, whose next change is told by the watch: no delays to be waited out.
_NOT_YET: Final = frozenset(
    {Reason.REFERENCE_NOT_FOUND, Reason.SOURCE_UNAVAILABLE, Reason.CREDENTIALS_NOT_GRANTED}
)
PROGRESS_EVERY: Final = 15.0  # seconds between looks at a Job that runs
PROGRESS_FIRST: Final = 4.0  # seconds after which a pod that cannot start is told of


def decide(image: NixImage, observed: Observed, now: dt.datetime, settings: Settings) -> Decision:
    """What to do next for an image.

    Args:
        image: the object as last seen, with its status.
        observed: its surroundings; what is None was not looked at yet.
        now: the time, in UTC.
        settings: the operator's, with what the image's class says.

    Returns:
        A decision. With looks or effects in it, `decide` is to be called again with what
        they found.
    """
    case = Case(image, observed, now, settings)
    if image.metadata.deletion_timestamp:
        return leaving(case)
    if observed.refused is None and (due := finalizers_due(image)) is not None:
        return Decision(effects=(due,))
    if image.spec.suspend:
        return _suspended(case)
    if observed.policy is not None:
        return _not_allowed(case.answering(), observed.policy)
    if not case.is_current or case.requested is not None:
        answer = answers.requested if case.is_current else answers.seen
        if observed.source is None:
            # A request is answered together with what it finds: a crash must not lose it.
            looks = (Resolve(fresh=case.requested is not None),)
            return Decision(looks=looks, status=answer(case))
        case = case.with_status(answer(case.answering()))
    if observed.refused is not None:
        return failed(case, observed.refused, case.status.source, "")
    failure = case.status.failure
    if failure is not None and not failure.input_hash and 0 < (wait := wait_of(failure, now)) < inf:
        return still_failed(case, failure, case.status.source, wait)
    if former := must_wait_for(case):
        words = f"waiting for the NixImage {former} to leave the repository {image.repository}"
        waits = answers.waiting(case, case.status.source, words)
        return replace(waits, requeue_after=GONE_SOON)
    match observed.source:
        case None:
            return Decision(looks=(Resolve(),))
        case NixImageError() as error:
            return _source_failed(case, error)
        case PinnedSource() as pinned:
            return _with_source(case, _held(case, pinned))


def _suspended(case: Case) -> Decision:
    """To suspend is an edit, too, and one that leaves the published image what it is."""
    if case.is_current:
        return answers.suspended(case, good=True)
    base = case.image.spec.base
    if base is not None and base.niximage is not None and case.observed.base is None:
        return Decision(looks=(FindBase(base.niximage.name),))
    return answers.suspended(case, good=_is_of_this_spec(case))


def _is_of_this_spec(case: Case) -> bool:
    """Whether the published image is what this spec asks for, at the source's known revision."""
    source, artifact = case.status.source, case.status.artifact
    if source is None or artifact is None:
        return False
    if (case.base is None) != (case.image.spec.base is None):
        return False
    asked = wanted(case.image.spec.source, case.settings.nixpkgs_url)
    if asked.commit not in {"", artifact.revision}:
        return False
    if asked.ref != source.ref or (asked.url and shown_url(asked.url) != source.url):
        return False
    pinned = asked.pinned(artifact.revision, digest=artifact.source_digest)
    inputs = input_hash(case.image, pinned, case.base)
    return inputs == artifact.input_hash


def _not_allowed(case: Case, policy: ClassWanting | NixImageError) -> Decision:
    """Nothing is looked up or built that no class allows; a good image stays."""
    match policy:
        case ClassWanting(words):
            return answers.waiting(case, case.status.source, words, Reason.WAITING_FOR_CLASS)
        case error:
            return failed(case, error, case.status.source, "")


def _source_failed(case: Case, error: NixImageError) -> Decision:
    """A good image stays good while its source cannot be asked."""
    unresolved = say.source_unresolved(error.reason, str(error))
    if case.image.spec.source.source_ref is not None and error.reason in _NOT_YET:
        source = case.status.source
        return answers.waiting(case, source, str(error), error.reason, resolved=unresolved)
    if case.standing is not None:
        status = case.said(case.status, say.kept(case.standing), unresolved)
        return Decision(status=status, poll_after=case.poll)
    return failed(case, error, case.status.source, "", unresolved)


def _held(case: Case, pinned: PinnedSource) -> PinnedSource:
    """The source that a build under `concurrencyPolicy: Forbid` is at, until that was told."""
    build, source = case.status.current_build, case.status.source
    if case.image.spec.concurrency_policy != "Forbid" or build is None or source is None:
        return pinned
    if all(job.name != build.job_name for job in case.observed.jobs):
        return pinned
    of_then = {"ref": source.ref, "revision": source.revision, "digest": source.digest}
    held = pinned.model_copy(update=of_then)
    same = input_hash(case.image, held, case.base) == build.input_hash
    return held if same else pinned


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
                return failed(case, error, source, "")
    inputs = input_hash(case.image, pinned, case.base)
    decision = _with_inputs(case, pinned, source, inputs)
    if decision.looks or case.image.spec.concurrency_policy == "Forbid":
        return decision
    superseded = tuple(DeleteJob(job) for job in _others(case, inputs))
    return replace(decision, effects=(*superseded, *decision.effects))


def _others(case: Case, inputs: str) -> list[JobView]:
    """The image's live builds of other inputs."""
    return [
        job
        for job in case.observed.jobs
        if job.owner == case.image.metadata.uid
        and job.input_hash != inputs
        and job.state is JobState.LIVE
    ]


def _with_inputs(case: Case, pinned: PinnedSource, source: SourceStatus, inputs: str) -> Decision:
    name = job_name(case.image, inputs)
    job = next((j for j in case.observed.jobs if j.name == name), None)
    if case.forced is not None:
        if job is None or job.force != case.forced:
            return _again(case, pinned, source, inputs, job)
        answered = case.status.model_copy(update={"last_handled_force_at": case.forced})
        case = case.with_status(answered)

    status = case.status
    build = status.current_build
    untold = job is not None and (
        job.state is JobState.LIVE or (build is not None and build.job_name == name)
    )
    if (
        status.digest
        and status.artifact is not None
        and status.artifact.input_hash == inputs
        and not untold
    ):
        return _published(case, answers.with_reference(case, status), source, inputs)

    failure = status.failure
    if failure is not None and failure.input_hash != inputs:
        failure = None
    if failure is not None and (wait := wait_of(failure, case.now)) > 0:
        return still_failed(case, failure, source, wait)

    if job is None:
        return _from_bucket(case, pinned, source, inputs, None)
    if job.state is JobState.DELETING:
        if case.observed.in_the_way is None:
            return Decision(looks=(FindJob(job),))  # a watch that has just begun missed its end
        return Decision(status=answers.building(case, source, job), requeue_after=GONE_SOON)
    if job.owner != case.image.metadata.uid:
        return _taken(case, source, inputs, job)
    if job.state is JobState.LIVE:
        return _live(case, pinned, source, job)

    told = failure is not None and failure.attempts >= job.attempt
    if told and job.state is JobState.FAILED:
        return Decision(effects=(DeleteJob(job),))  # its retry is due
    if not told:
        match case.observed.outcome:
            case None:
                return Decision(looks=(ReadOutcome(job, log=has_room(case.image, job)),))
            case NixImageError() as error:
                told_of = _without_start(case, job, error)
                return failed(case, told_of, source, inputs, job=job)
            case PublishResult() | Absent.ABSENT:
                pass
    return _from_bucket(case, pinned, source, inputs, job, told=told)


def _live(case: Case, pinned: PinnedSource, source: SourceStatus, job: JobView) -> Decision:
    """A build is under way, or waits for what its pod needs."""
    progress = case.observed.progress
    outlived = _is_outlived(case, pinned, job)
    if progress is None:
        return Decision(looks=(ReadProgress(job, fresh=outlived),))
    if outlived and isinstance(progress, Progress) and progress.phase == PENDING:
        return Decision(effects=(DeleteJob(job),))  # nothing runs that could be lost
    is_young = (case.now - job.created).total_seconds() < PROGRESS_FIRST
    early = is_young and progress is Absent.ABSENT
    status = answers.building(case, source, job)
    return Decision(status=status, requeue_after=PROGRESS_FIRST if early else PROGRESS_EVERY)


def _without_start(case: Case, job: JobView, error: NixImageError) -> NixImageError:
    """The error, unless the time ran out for a pod that never started."""
    build = case.status.current_build
    if error.reason is not Reason.BUILD_TIMEOUT or build is None or build.job_name != job.name:
        return error
    if build.progress is None or build.progress.phase not in {PENDING, LOST}:
        return error
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


def _taken(case: Case, source: SourceStatus, inputs: str, job: JobView) -> Decision:
    """A Job of another object has the name of ours, if the cluster itself says so, too."""
    if case.observed.in_the_way is None:
        return Decision(looks=(FindJob(job),))
    taken = Retryable(
        Reason.BUILD_INTERRUPTED,
        f"the Job {job.name} belongs to another object",
        hint="The build starts when that Job is gone; delete it if nothing needs it",
    )
    return failed(case, taken, source, inputs)


def _again(
    case: Case, pinned: PinnedSource, source: SourceStatus, inputs: str, job: JobView | None
) -> Decision:
    """Build again what may be published already: a Job of an earlier request makes way."""
    match job:
        case None:
            return _create(case, pinned, source, inputs)
        case JobView(state=JobState.DELETING):
            return Decision(status=answers.building(case, source, job), requeue_after=GONE_SOON)
        case JobView() if job.owner != case.image.metadata.uid:
            return _taken(case, source, inputs, job)
        case JobView():
            return Decision(effects=(DeleteJob(job),))


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
            return _published(case, status, source, inputs, job)
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
            return failed(case, lost, source, inputs, job=job)


def _published(
    case: Case,
    status: NixImageStatus,
    source: SourceStatus,
    inputs: str,
    job: JobView | None = None,
) -> Decision:
    """The bucket holds the image: it is taken, unless the spec expects another one."""
    expected = case.image.spec.output.expected_digest
    if expected is None or expected == status.digest:
        return _tagged(case, status, source, inputs, job)
    mismatch = Terminal(
        Reason.DIGEST_MISMATCH,
        f"the image is {status.digest}, but spec.output.expectedDigest is {expected}",
        hint="Pin the source to the revision that gave the expected digest, or change it",
    )
    return failed(case, mismatch, source, inputs, job=job)


def _tagged(
    case: Case, status: NixImageStatus, source: SourceStatus, inputs: str, job: JobView | None
) -> Decision:
    """The tags come last, for they are what others follow."""
    assert status.artifact is not None
    assert status.digest is not None
    tags = sorted(case.image.spec.output.tags)
    if status.artifact.tags != tags:
        move = MoveTags(status.digest, tuple(tags))
        match case.observed.tagged:
            case NixImageError() as error:
                return failed(case, error, source, inputs)
            case moved if tags and moved != move:
                return Decision(looks=(move,))
        artifact = status.artifact.model_copy(update={"tags": tags})
        status = status.model_copy(update={"artifact": artifact})
    return _shown(case, status, source, job)


def _shown(
    case: Case, status: NixImageStatus, source: SourceStatus, job: JobView | None
) -> Decision:
    """The ConfigMap follows the image, and the status follows the ConfigMap."""
    assert status.artifact is not None
    assert status.digest is not None
    name = case.image.config_map_name
    wants = case.image.spec.output.config_map
    look = (
        ShowImage(name, status.image or "", status.digest, status.artifact.revision)
        if wants
        else HideImage(name)
    )
    if wants or status.config_map is not None:
        match case.observed.shown:
            case NixImageError() as error:
                return failed(case, error, source, "")
            case shown if shown != look:
                return Decision(looks=(look,))
        status = status.model_copy(update={"config_map": name if wants else None})
    return answers.ready(case, status, source, job)


def _create(case: Case, pinned: PinnedSource, source: SourceStatus, inputs: str) -> Decision:
    if case.image.spec.concurrency_policy == "Forbid" and (others := _others(case, inputs)):
        return answers.queued(case, source, f"waiting for the build {others[0].name} to finish")
    failure = case.status.failure
    if failure is not None and failure.input_hash != inputs:
        failure = None
    match case.observed.turn:
        case None:
            return Decision(looks=(TakeTurn(inputs, _urgency(case, again=failure is not None)),))
        case Queued(words):
            return answers.queued(case, source, words)
        case Turn.GRANTED:
            pass
    asked_at = int(case.now.timestamp()) * 1_000_000_000
    request = BuildRequest.of(case.image, pinned, case.base, asked_at=asked_at)
    attempt = failure.attempts + 1 if failure is not None else 1
    create = CreateJob(job_name(case.image, inputs), request, attempt, case.forced or "")
    return Decision(effects=(create,), status=answers.building(case, source, None))


def _urgency(case: Case, *, again: bool) -> Urgency:
    if again:
        return Urgency.RETRY
    return Urgency.WANTED if case.standing is None or case.forced else Urgency.MOVED


def job_name(image: NixImage, inputs: str) -> str:
    """The name of the Job that builds these inputs: equal inputs, equal name, no second Job."""
    return f"{image.metadata.name}-{inputs[:10]}"
