"""The answers that `decide` can give: for each state the status, and when to look again."""

import datetime as dt
from dataclasses import dataclass
from typing import Final

import pydantic

from niximage.api.base import seconds
from niximage.api.build import PinnedBase, PinnedSource
from niximage.api.image import NixImage
from niximage.api.status import (
    Artifact,
    Condition,
    ConditionType,
    CurrentBuild,
    Failure,
    NixImageStatus,
    SourceStatus,
)
from niximage.controller import conditions as say
from niximage.controller.cache import CachedImage
from niximage.controller.settings import Settings
from niximage.controller.views import Effect, JobView, Look, Observed, Published
from niximage.errors import NixImageError, Reason, Terminal, plain_text
from niximage.source.failures import shown_url

SHORT: Final = 12  # digits of a revision that people read


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do, what to say, and when to ask again.

    Attributes:
        looks: what to find out before asking again at once.
        effects: what to change in the cluster.
        status: what the object's status is to be; None leaves it.
        requeue_after: seconds until the image is looked at again without an event.
    """

    looks: tuple[Look, ...] = ()
    effects: tuple[Effect, ...] = ()
    status: NixImageStatus | None = None
    requeue_after: float | None = None


@dataclass(frozen=True, slots=True)
class Case:
    """One image at one moment: what every step below needs."""

    image: NixImage
    observed: Observed
    now: dt.datetime
    settings: Settings

    @property
    def status(self) -> NixImageStatus:
        """The status as it stands."""
        return self.image.status

    @property
    def is_current(self) -> bool:
        """Whether the status speaks of the spec as it is now."""
        return self.status.observed_generation == self.image.metadata.generation

    @property
    def standing(self) -> Condition | None:
        """The Ready condition where a good image of this very spec stands."""
        ready = self.status.condition(ConditionType.READY)
        return ready if self.is_current and self.status.is_true(ConditionType.READY) else None

    @property
    def base(self) -> PinnedBase | None:
        """The image below this one, as far as it is known; None where there is none."""
        base = self.image.spec.base
        if base is not None and base.image is not None:
            return PinnedBase.of_registry(base.image)
        return self.observed.base if isinstance(self.observed.base, PinnedBase) else None

    @property
    def poll(self) -> float | None:
        """Seconds until a moving source is looked up again; None for a fixed one."""
        git, nixpkgs = self.image.spec.source.git, self.image.spec.source.nixpkgs
        fixed = (git and git.ref.commit) or (nixpkgs and nixpkgs.revision)
        return None if fixed else seconds(self.image.spec.interval)

    def said(self, status: NixImageStatus, *says: say.Say) -> NixImageStatus:
        """The status with these conditions, seen at this generation."""
        return say.with_conditions(
            status, says, generation=self.image.metadata.generation, now=self.now
        )


def suspended(case: Case) -> Decision:
    """Nothing is done; a good image of this spec stays Ready."""
    if case.standing is not None:
        told = kept(case.standing)
    elif case.status.digest:
        told = say.not_ready(
            Reason.SUSPENDED, "suspended: the image is of an earlier spec; resume to build this one"
        )
    else:
        told = say.not_ready(Reason.SUSPENDED, "suspended before a first build; resume to build")
    status = case.status.model_copy(update={"current_build": None})
    return Decision(status=case.said(status, told))


def seen(case: Case) -> NixImageStatus:
    """Answer a new or changed spec at once; what failed before gets another chance."""
    failure = case.status.failure
    if failure is not None:
        failure = (
            failure.model_copy(update={"next_retry_time": case.now}) if failure.input_hash else None
        )
    words = "looking up the source"
    return case.said(
        case.status.model_copy(update={"failure": failure}),
        say.ready_unknown(Reason.PROGRESSING, words),
        say.reconciling(Reason.RESOLVING_SOURCE, words),
    )


def waiting(
    case: Case, source: SourceStatus | None, words: str, reason: Reason = Reason.PROGRESSING
) -> Decision:
    """Nothing can be built before something else is there; a good image stays Ready."""
    status = case.status.model_copy(
        update={"source": source, "current_build": None, "failure": None}
    )
    resolved = () if source is None else (say.source_resolved(_pinned_words(source)),)
    if case.standing is not None:
        return Decision(
            status=case.said(status, kept(case.standing), *resolved), requeue_after=case.poll
        )
    told = (say.ready_unknown(Reason.PROGRESSING, words), say.reconciling(reason, words))
    return Decision(status=case.said(status, *told, *resolved), requeue_after=case.poll)


def building(case: Case, source: SourceStatus, job: JobView | None) -> NixImageStatus:
    """A Job is at it, or about to be; a good image of an older source stays Ready."""
    count = len(case.image.spec.packages)
    words = f"building {count} package{'' if count == 1 else 's'} at {source.short_revision}"
    if job is not None and job.attempt > 1:
        words += f", attempt {job.attempt}"
    build = job and CurrentBuild(
        job_name=job.name,
        input_hash=job.input_hash,
        attempt=job.attempt,
        start_time=job.created,
    )
    status = case.status.model_copy(update={"source": source, "current_build": build})
    resolved = say.source_resolved(_pinned_words(source))
    if case.standing is not None:
        newer = say.outdated(Reason.NEW_REVISION, words)
        return case.said(status, kept(case.standing), resolved, newer)
    return case.said(
        status,
        say.ready_unknown(Reason.PROGRESSING, words),
        say.reconciling(Reason.BUILDING, words),
        resolved,
    )


def ready(case: Case, status: NixImageStatus, source: SourceStatus) -> Decision:
    """The image of these inputs is published, and `status.artifact` tells of it."""
    artifact = status.artifact
    assert artifact is not None
    words = f"{_layers(artifact.layers)}, {_bytes(artifact.size)}"
    if artifact.reused_layers:
        words += f"; {_layers(artifact.reused_layers)}, {_bytes(artifact.reused_size)} reused"
    status = status.model_copy(update={"source": source, "current_build": None, "failure": None})
    status = case.said(
        status, say.ready(Reason.SUCCEEDED, words), say.source_resolved(_pinned_words(source))
    )
    return Decision(status=status, requeue_after=case.poll)


def with_artifact(
    case: Case, published: Published, source: SourceStatus, inputs: str
) -> NixImageStatus:
    """The status with a newly found image; one and the same digest is no update."""
    artifact = Artifact(
        input_hash=inputs,
        revision=source.revision,
        layers=published.layers,
        size=published.size,
        reused_layers=published.reused_layers,
        reused_size=published.reused_size,
        last_update_time=case.now,
    )
    before = case.status.artifact
    if before is not None and case.status.digest == published.digest:
        artifact = artifact.model_copy(update={"last_update_time": before.last_update_time})
    return case.status.model_copy(
        update={
            "artifact": artifact,
            "digest": published.digest,
            "image": f"{case.settings.registry}/{case.image.repository}@{published.digest}",
        }
    )


def failed(
    case: Case,
    error: NixImageError,
    source: SourceStatus | None,
    inputs: str,
    *says: say.Say,
    attempts: int = 1,
) -> Decision:
    """Note a failure: Terminal stalls, anything else is tried again with a doubling delay."""
    before = case.status.failure
    if before is not None and before.input_hash == inputs:
        attempts = max(attempts, before.attempts + 1)
    retry = None
    if not isinstance(error, Terminal):
        doubled = case.settings.retry_delay * 2.0 ** min(attempts - 1, 32)
        retry = case.now + dt.timedelta(seconds=min(doubled, case.settings.retry_delay_limit))
    failure = Failure(
        reason=error.reason,
        message=plain_text(str(error), 1024),
        input_hash=inputs,
        derivation=plain_text(error.derivation, 300),
        log_tail=plain_text(error.log_tail, 2048, keep="end"),
        attempts=attempts,
        last_failure_time=case.now,
        next_retry_time=retry,
    )
    if before is not None and retry is None and _same(before, failure):
        failure = before  # asked again, and told the same: nothing to write
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
        says = (*says, say.source_resolved(_pinned_words(source)))
    retry = failure.next_retry_time
    if case.standing is not None:
        says = (kept(case.standing), say.outdated(reason, failure.message), *says)
    elif retry is None:
        says = (
            say.not_ready(reason, failure.message),
            say.stalled(reason, failure.message),
            *says,
        )
    else:
        words = f"attempt {failure.attempts} failed, next at {retry:%H:%M:%SZ}: {failure.message}"
        says = (
            say.not_ready(reason, failure.message),
            say.reconciling(Reason.PROGRESSING_WITH_RETRY, words),
            *says,
        )
    due = case.poll if retry is None else wait
    return Decision(status=case.said(status, *says), requeue_after=due)


def _same(before: Failure, after: Failure) -> bool:
    return before.next_retry_time is None and (
        (before.input_hash, before.reason, before.message)
        == (after.input_hash, after.reason, after.message)
    )


def wait_of(failure: Failure, now: dt.datetime) -> float:
    """Seconds until a failure is tried again: endless for one that only new input can mend."""
    if failure.next_retry_time is None:
        return float("inf")
    return (failure.next_retry_time - now).total_seconds()


def kept(condition: Condition) -> say.Say:
    """The condition as it stands, said again."""
    return say.Say(
        ConditionType(condition.type), condition.status, condition.reason, condition.message
    )


def source_status(case: Case, pinned: PinnedSource) -> SourceStatus:
    """The revision for the status; its time is that of the first sight of it."""
    before = case.status.source
    url = shown_url(pinned.url)
    if before is not None and (before.url, before.ref, before.revision) == (
        url,
        pinned.ref,
        pinned.revision,
    ):
        return before
    return SourceStatus(
        url=url,
        ref=pinned.ref,
        revision=pinned.revision,
        short_revision=pinned.revision[:SHORT],
        resolved_time=case.now,
    )


def _pinned_words(source: SourceStatus) -> str:
    name = source.ref.removeprefix("refs/heads/").removeprefix("refs/tags/")
    return f"{name or source.url} is at {source.short_revision}"


def _layers(count: int) -> str:
    return f"{count} layer{'' if count == 1 else 's'}"


def _bytes(count: int) -> str:
    """A count of bytes for people."""
    size = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:  # noqa: PLR2004 (the step between decimal units)
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def invalid(problem: str, cached: CachedImage, now: dt.datetime) -> NixImageStatus:
    """A stored object that is no NixImage of ours: from another time, or past validation."""
    try:
        status = NixImageStatus.model_validate(cached.status)
    except pydantic.ValidationError:
        status = NixImageStatus()
    words = f"the stored spec is not valid: {problem}"
    return say.with_conditions(
        status,
        (say.not_ready(Reason.INVALID_SPEC, words), say.stalled(Reason.INVALID_SPEC, words)),
        generation=int(cached.metadata.get("generation", 0)),
        now=now,
    )
