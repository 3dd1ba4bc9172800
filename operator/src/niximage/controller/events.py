"""Events: what changed from one status to the next, for `kubectl describe`. Pure.

An Event tells of a transition, never of a state that lasts: two equal statuses give none, so a
restart, a retried write or a full list says nothing twice.
"""

import datetime as dt
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from niximage.api.base import API_VERSION
from niximage.api.image import KIND, NixImage
from niximage.api.status import ConditionStatus, ConditionType, CurrentBuild, NixImageStatus
from niximage.bucket.remove import Removed
from niximage.controller.decision.words import pinned_words
from niximage.controller.job_view import LOST, MANAGER, PENDING
from niximage.errors import Reason, plain_text

NOTE_BYTES: Final = 1024  # the API server takes no longer note
REVISION: Final = "niximage.dev/revision"
_MADE: Final = frozenset({"BuildStarted", "ImagePublished"})
DIGEST: Final = "niximage.dev/digest"


@dataclass(frozen=True, slots=True)
class Happened:
    """One transition.

    Attributes:
        type: whether somebody should look.
        reason: the word for machines.
        action: what the operator was doing.
        note: the sentence for people.
    """

    type: Literal["Normal", "Warning"]
    reason: str
    action: str
    note: str


def happened(before: NixImageStatus, after: NixImageStatus) -> list[Happened]:
    """What changed between two statuses, in the order in which it came about."""
    found = [*_suspension(before, after), *_source(before, after), *_build(before, after)]
    if after.digest is not None and after.digest != before.digest:
        found.append(Happened("Normal", "ImagePublished", "Publish", f"published {after.image}"))
    stalled = after.condition(ConditionType.STALLED)
    earlier = before.condition(ConditionType.STALLED)
    if stalled is not None and (earlier is None or earlier.reason != stalled.reason):
        words = f"{stalled.reason}: {stalled.message}"
        found.append(Happened("Warning", "Stalled", "Reconcile", words))
    removal = after.condition(ConditionType.READY)
    failed = (ConditionType.READY, Reason.REMOVAL_FAILED)
    if removal is not None and after.has_reason(*failed) and not before.has_reason(*failed):
        found.append(Happened("Warning", "RemovalFailed", "Remove", removal.message))
    return found if before.source is not None else _at_first(found)


def _at_first(found: list[Happened]) -> list[Happened]:
    """A source that was not known before is told of together with what is made of it."""
    source = next((each for each in found if each.reason == "SourceUpdated"), None)
    made = next((each for each in found if each.reason in _MADE), None)
    if source is None or made is None:
        return found
    both = replace(made, note=f"{made.note}; {source.note}")
    return [both if each is made else each for each in found if each is not source]


def removed(repository: str, what: Removed) -> Happened:
    """That a repository was removed from the bucket, with what was in it."""
    words = f"removed {repository} from the bucket: manifests: {what.manifests}, tags: {what.tags}"
    return Happened("Normal", "RepositoryRemoved", "Remove", words)


def _suspension(before: NixImageStatus, after: NixImageStatus) -> list[Happened]:
    if before.suspended == after.suspended:
        return []
    if after.suspended:
        words = "neither the source is looked up nor a build begun"
        return [Happened("Normal", "Suspended", "Suspend", words)]
    return [Happened("Normal", "Resumed", "Resume", "the source is looked up again")]


def _source(before: NixImageStatus, after: NixImageStatus) -> list[Happened]:
    found = []
    source = after.source
    if source is not None and (before.source is None or before.source.revision != source.revision):
        found.append(Happened("Normal", "SourceUpdated", "Resolve", pinned_words(source)))
    resolved = after.condition(ConditionType.SOURCE_RESOLVED)
    earlier = before.condition(ConditionType.SOURCE_RESOLVED)
    if (
        resolved is not None
        and resolved.status is ConditionStatus.FALSE
        and (earlier is None or (earlier.status, earlier.reason) != ("False", resolved.reason))
    ):
        words = f"{resolved.reason}: {resolved.message}"
        found.append(Happened("Warning", "SourceFailed", "Resolve", words))
    return found


def _build(before: NixImageStatus, after: NixImageStatus) -> list[Happened]:
    found = []
    known = {build.id for build in before.history}
    for build in reversed(after.history):
        if build.id not in known and build.result == "Failed":
            words = f"{build.job_name}: {build.reason}: {build.message}"
            failure = after.failure
            if failure is not None and failure.next_retry_time is not None:
                words += f"; tried again at {failure.next_retry_time:%H:%M:%SZ}"
            if failure is not None and failure.log_tail:
                words += f"\n{failure.log_tail}"
            found.append(Happened("Warning", "BuildFailed", "Build", words))
    old, new = before.current_build, after.current_build
    started = new is not None and (
        old is None or (old.job_name, old.attempt) != (new.job_name, new.attempt)
    )
    if started and new is not None:
        ended = {build.job_name for build in after.history}
        if old is not None and old.input_hash != new.input_hash and old.job_name not in ended:
            words = f"{old.job_name} makes way for {new.job_name}"
            found.append(Happened("Normal", "BuildSuperseded", "Build", words))
        again = f", attempt {new.attempt}" if new.attempt > 1 else ""
        found.append(Happened("Normal", "BuildStarted", "Build", f"{new.job_name}{again}"))
    if (stuck := _stuck(new)) and stuck != _stuck(old):
        assert new is not None
        assert new.progress is not None
        words = f"{new.job_name}: {new.progress.message}"
        found.append(Happened("Warning", f"Pod{stuck}", "Build", words))
    return found


def _stuck(build: CurrentBuild | None) -> str | None:
    """What is wrong with a build's pod, if it is told: Pending or Lost."""
    progress = build.progress if build is not None else None
    return progress.phase if progress is not None and progress.phase in {PENDING, LOST} else None


def event_manifest(
    image: NixImage, after: NixImageStatus, event: Happened, now: dt.datetime, instance: str
) -> dict[str, Any]:
    """An Event about an image.

    Args:
        image: what it is about.
        after: its status by now.
        event: what happened.
        now: the time.
        instance: the name of this operator's pod.
    """
    metadata = image.metadata
    told = {REVISION: after.source and after.source.revision, DIGEST: after.digest}
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {
            "generateName": f"{metadata.name}-",
            "namespace": metadata.namespace,
            "annotations": {name: value for name, value in told.items() if value},
        },
        "regarding": {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "name": metadata.name,
            "namespace": metadata.namespace,
            "uid": metadata.uid,
            "resourceVersion": metadata.resource_version,
        },
        "type": event.type,
        "reason": event.reason,
        "action": event.action,
        "note": plain_text(event.note, NOTE_BYTES),
        "reportingController": f"niximage.dev/{MANAGER}",
        "reportingInstance": instance[:128] or MANAGER,
        "eventTime": now.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
    }
