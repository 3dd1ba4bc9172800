"""The answers that `decide` gives while nothing has failed: for each state the status."""

import datetime as dt
from typing import Final

import pydantic

from niximage.api.build import PinnedSource
from niximage.api.platforms import in_order
from niximage.api.status import (
    Artifact,
    ConditionType,
    CurrentBuild,
    NixImageStatus,
    Progress,
    SourceStatus,
)
from niximage.controller.decision import conditions as say
from niximage.controller.decision.case import Case, Decision
from niximage.controller.decision.conditions import kept
from niximage.controller.decision.failures import another_chance
from niximage.controller.decision.history import trimmed, with_build, with_found
from niximage.controller.decision.words import artifact_words, building_words, pinned_words
from niximage.controller.job_view import LOST, PENDING, JobState, JobView
from niximage.controller.stored import CachedImage
from niximage.controller.views import Published
from niximage.errors import Reason, plain_text
from niximage.source.failures import shown_url

_STUCK: Final = {
    PENDING: (Reason.POD_PENDING, "its pod does not start"),
    LOST: (Reason.BUILD_INTERRUPTED, "its pod is lost"),
}


def suspended(case: Case, *, good: bool) -> Decision:
    """Nothing is begun; a build that runs may finish, and a good image of this spec stays Ready.

    Args:
        case: the image.
        good: whether the published image is of this spec, however young that is.
    """
    ready = case.status.condition(ConditionType.READY)
    if good and ready is not None and case.status.is_true(ConditionType.READY):
        told = kept(ready)
    elif case.status.digest:
        told = say.not_ready(
            Reason.SUSPENDED, "suspended: the image is of an earlier spec; resume to build this one"
        )
    else:
        told = say.not_ready(Reason.SUSPENDED, "suspended before a first build; resume to build")
    build = case.status.current_build
    live = {job.name for job in case.observed.jobs if job.state is JobState.LIVE}
    if build is not None and build.job_name not in live:
        build = None
    status = case.status.model_copy(update={"current_build": build, "suspended": True})
    return Decision(status=case.said(status, told))


def seen(case: Case) -> NixImageStatus:
    """Answer a new or changed spec at once; what failed before gets another chance."""
    words = "looking up the source"
    update = {"failure": another_chance(case), "suspended": None}
    status = case.status.model_copy(update=update)
    return case.said(
        trimmed(case.image, status),
        say.ready_unknown(Reason.PROGRESSING, words),
        say.reconciling(Reason.RESOLVING_SOURCE, words),
    )


def requested(case: Case) -> NixImageStatus:
    """Answer a request to reconcile: a good image stays so, a failure gets another chance."""
    if case.standing is None:
        return seen(case)
    return case.status.model_copy(update={"failure": another_chance(case)})


def waiting(
    case: Case,
    source: SourceStatus | None,
    words: str,
    reason: Reason = Reason.PROGRESSING,
    resolved: say.Say | None = None,
) -> Decision:
    """Nothing can be built before something else is there; a good image stays Ready."""
    status = case.status.model_copy(
        update={"source": source, "current_build": None, "failure": None}
    )
    if resolved is None and source is not None:
        resolved = say.source_resolved(pinned_words(source))
    of_source = () if resolved is None else (resolved,)
    if case.standing is not None:
        status = case.said(status, kept(case.standing), *of_source)
        return Decision(status=status, poll_after=case.poll)
    told = (say.ready_unknown(Reason.PROGRESSING, words), say.reconciling(reason, words))
    return Decision(status=case.said(status, *told, *of_source), poll_after=case.poll)


def queued(case: Case, source: SourceStatus, words: str) -> Decision:
    """A build is due, and its turn has not come; who frees the place has the image looked at."""
    status = case.status.model_copy(update={"source": source, "current_build": None})
    return Decision(status=_at_it(case, status, Reason.QUEUED, words), poll_after=case.poll)


def building(case: Case, source: SourceStatus, job: JobView) -> NixImageStatus:
    """A Job is at it; a good image of an older source stays Ready."""
    before = case.status.current_build
    progress = case.observed.progress
    if not isinstance(progress, Progress):
        progress = before.progress if before is not None and before.job_name == job.name else None
    build = CurrentBuild(
        job_name=job.name,
        input_hash=job.input_hash,
        attempt=job.attempt,
        start_time=job.created,
        progress=progress,
    )
    status = case.status.model_copy(update={"source": source, "current_build": build})
    if job.suspended:
        words = f"waiting in the queue {job.queue or 'of the cluster'} for room"
        return _at_it(case, status, Reason.QUEUED, words)
    words = building_words(case.image, source, job.attempt)
    if progress is not None and (stuck := _STUCK.get(progress.phase)) is not None:
        reason, why = stuck
        return _at_it(case, status, reason, f"{words}, but {why}: {progress.message}", stuck=True)
    reason = Reason.PUBLISHING if progress and progress.phase == "publish" else Reason.BUILDING
    return _at_it(case, status, reason, words, progress_words(progress))


def _at_it(
    case: Case,
    status: NixImageStatus,
    reason: Reason,
    words: str,
    progress: str = "",
    *,
    stuck: bool = False,
) -> NixImageStatus:
    """The status of an image that is being built, or would be if it were its turn.

    Args:
        case: the image.
        status: its status so far.
        reason: what is being done.
        words: the same for people.
        progress: more words, of what changes all the time.
        stuck: whether somebody should look.
    """
    assert status.source is not None
    resolved = say.source_resolved(pinned_words(status.source))
    if case.standing is not None:
        newer = say.outdated(reason if stuck else Reason.NEW_REVISION, words)
        return case.said(status, kept(case.standing), resolved, newer)
    return case.said(
        status,
        say.ready_unknown(reason if stuck else Reason.PROGRESSING, words),
        say.reconciling(reason, words + progress),
        resolved,
    )


def progress_words(progress: Progress | None) -> str:
    """How far a build is, to be put behind other words; "" where that is not known."""
    if progress is None:
        return ""
    count = f" {progress.done} of {progress.total}" if progress.total else ""
    message = f", {progress.message}" if progress.message else ""
    return f": {progress.phase}{count}{message}"


def ready(
    case: Case, status: NixImageStatus, source: SourceStatus, job: JobView | None = None
) -> Decision:
    """The image of these inputs is published, and `status.artifact` tells of it.

    Args:
        case: the image.
        status: with artifact, digest and image.
        source: the source that it is of.
        job: the build that published it, when that is told for the first time.
    """
    artifact = status.artifact
    assert artifact is not None
    if job is not None:
        told = with_build(case, job, source.revision, digest=status.digest)
        status = status.model_copy(update={"history": told.history})
    elif status.digest is not None and status.digest != case.status.digest:
        told = with_found(case, artifact.input_hash, source.revision, status.digest)
        status = status.model_copy(update={"history": told.history})
    said = artifact_words(artifact) + shared_tags(case)
    says = [say.ready(Reason.SUCCEEDED, said)]
    if job is not None or not case.status.is_true(ConditionType.PUBLISHED):
        built = f"{job.name} succeeded" if job is not None else "the same inputs were built before"
        says.append(say.build_succeeded(built))
        says.append(say.published(f"{case.image.repository}@{status.digest}"))
    status = status.model_copy(update={"source": source, "current_build": None, "failure": None})
    status = case.said(status, *says, say.source_resolved(pinned_words(source)))
    return Decision(status=status, poll_after=case.poll)


def shared_tags(case: Case) -> str:
    """What to say of tags that another NixImage of the repository has, too; "" without."""
    for other in case.observed.sharers:
        both = sorted(set(case.image.spec.output.tags) & set(other.tags))
        if both and other.stays:
            tags = f"tag {both[0]} is" if len(both) == 1 else f"tags {', '.join(both)} are"
            last = "names" if len(both) == 1 else "name"
            return (
                f"; the {tags} that of the NixImage {other.name}, too, and {last} what was "
                "published last"
            )
    return ""


def with_artifact(
    case: Case, published: Published, source: SourceStatus, inputs: str
) -> NixImageStatus:
    """The status with a newly found image; one and the same digest is no update."""
    artifact = Artifact(
        input_hash=inputs,
        revision=source.revision,
        source_digest=source.digest,
        platforms=[str(platform) for platform in in_order(case.image.spec.platforms)],
        layers=published.layers,
        size=published.size,
        reused_layers=published.reused_layers,
        reused_size=published.reused_size,
        last_update_time=case.now,
    )
    before = case.status.artifact
    if before is not None and case.status.digest == published.digest:
        kept_from = {"last_update_time": before.last_update_time, "tags": before.tags}
        artifact = artifact.model_copy(update=kept_from)
    status = case.status.model_copy(update={"artifact": artifact, "digest": published.digest})
    return with_reference(case, status)


def with_reference(case: Case, status: NixImageStatus) -> NixImageStatus:
    """The status with the name that pods pull its digest by: an admin may move the registry."""
    reference = f"{case.settings.registry}/{case.image.repository}@{status.digest}"
    return status.model_copy(update={"image": reference})


def source_status(case: Case, pinned: PinnedSource) -> SourceStatus:
    """The revision for the status; its time is that of the first sight of it."""
    found = SourceStatus(
        url=shown_url(pinned.origin or pinned.url),
        ref=pinned.ref,
        revision=pinned.revision,
        digest=pinned.digest,
        short_revision=pinned.short_revision,
        resolved_time=case.now,
    )
    before = case.status.source
    if before is not None and found == before.model_copy(update={"resolved_time": case.now}):
        return before
    return found


def invalid(problem: str, cached: CachedImage, now: dt.datetime) -> NixImageStatus:
    """A stored object that is no NixImage of ours: from another time, or past validation."""
    try:
        status = NixImageStatus.model_validate(cached.status)
    except pydantic.ValidationError:
        status = NixImageStatus()
    words = plain_text(f"the stored spec is not valid: {problem}", say.MESSAGE_BYTES)
    return say.with_conditions(
        status,
        (say.not_ready(Reason.INVALID_SPEC, words), say.stalled(Reason.INVALID_SPEC, words)),
        generation=int(cached.metadata.get("generation", 0)),
        now=now,
    )
