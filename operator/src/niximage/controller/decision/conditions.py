"""States to conditions: the one place where what the operator knows becomes what users read."""

import datetime as dt
from dataclasses import dataclass

from niximage.api.status import Condition, ConditionStatus, ConditionType, NixImageStatus
from niximage.errors import Reason, plain_text

MESSAGE_BYTES = 1024
ORDER = tuple(ConditionType)


@dataclass(frozen=True, slots=True)
class Say:
    """One condition to be: its value, the word for machines, the sentence for people."""

    type: ConditionType
    status: ConditionStatus
    reason: str
    message: str


def ready(reason: Reason, message: str) -> Say:
    """Ready is True."""
    return Say(ConditionType.READY, ConditionStatus.TRUE, reason, message)


def not_ready(reason: Reason, message: str) -> Say:
    """Ready is False: something failed."""
    return Say(ConditionType.READY, ConditionStatus.FALSE, reason, message)


def ready_unknown(reason: Reason, message: str) -> Say:
    """Ready is Unknown: the operator is at it."""
    return Say(ConditionType.READY, ConditionStatus.UNKNOWN, reason, message)


def reconciling(reason: Reason, message: str) -> Say:
    """The operator is at it; there only while True."""
    return Say(ConditionType.RECONCILING, ConditionStatus.TRUE, reason, message)


def stalled(reason: Reason, message: str) -> Say:
    """Only a change of the input can help; there only while True."""
    return Say(ConditionType.STALLED, ConditionStatus.TRUE, reason, message)


def outdated(reason: Reason, message: str) -> Say:
    """The image is good but older than its source; there only while True."""
    return Say(ConditionType.OUTDATED, ConditionStatus.TRUE, reason, message)


def source_resolved(message: str) -> Say:
    """The source is pinned."""
    return Say(ConditionType.SOURCE_RESOLVED, ConditionStatus.TRUE, Reason.SUCCEEDED, message)


def source_unresolved(reason: Reason, message: str) -> Say:
    """The source could not be pinned."""
    return Say(ConditionType.SOURCE_RESOLVED, ConditionStatus.FALSE, reason, message)


def build_succeeded(message: str) -> Say:
    """The build of the inputs succeeded."""
    return Say(ConditionType.BUILD_SUCCEEDED, ConditionStatus.TRUE, Reason.SUCCEEDED, message)


def build_failed(reason: Reason, message: str) -> Say:
    """The build of the inputs failed."""
    return Say(ConditionType.BUILD_SUCCEEDED, ConditionStatus.FALSE, reason, message)


def published(message: str) -> Say:
    """The image of the inputs is in the bucket."""
    return Say(ConditionType.PUBLISHED, ConditionStatus.TRUE, Reason.SUCCEEDED, message)


def unpublished(reason: Reason, message: str) -> Say:
    """The image of the inputs could not be brought into the bucket, or is not to be taken."""
    return Say(ConditionType.PUBLISHED, ConditionStatus.FALSE, reason, message)


def kept(condition: Condition) -> Say:
    """A condition as it stands, said again."""
    return Say(ConditionType(condition.type), condition.status, condition.reason, condition.message)


_OF_IMAGE = (ConditionType.BUILD_SUCCEEDED, ConditionType.PUBLISHED)


def with_conditions(
    status: NixImageStatus, says: tuple[Say, ...], *, generation: int, now: dt.datetime
) -> NixImageStatus:
    """The status with exactly these conditions, seen at this generation.

    A condition keeps its transition time while its value stays. `SourceResolved` stays as it
    was when nothing is said of it; what tells of the good image stays with it. Every condition
    gets the generation, since `kubectl wait` compares each one's own.
    """
    said = {say.type: say for say in says}
    ready_said = said.get(ConditionType.READY)
    good = ready_said is not None and ready_said.status is ConditionStatus.TRUE
    conditions = []
    for kind in ORDER:
        before = status.condition(kind)
        say = said.get(kind)
        if say is None:
            stays = kind is ConditionType.SOURCE_RESOLVED or (kind in _OF_IMAGE and good)
            if stays and before is not None:
                conditions.append(before.model_copy(update={"observed_generation": generation}))
            continue
        same = before is not None and before.status is say.status
        conditions.append(
            Condition(
                type=kind,
                status=say.status,
                reason=say.reason,
                message=plain_text(say.message, MESSAGE_BYTES),
                last_transition_time=before.last_transition_time if before and same else now,
                observed_generation=generation,
            )
        )
    return status.model_copy(update={"conditions": conditions, "observed_generation": generation})
