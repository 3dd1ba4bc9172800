"""A build Job as the operator sees it: read from its labels, annotations and conditions."""

import datetime as dt
import enum
from dataclasses import dataclass, field
from typing import Any, Final

INPUT_HASH: Final = "niximage.dev/input-hash"
ATTEMPT: Final = "niximage.dev/attempt"
FORCE: Final = "niximage.dev/force"
TEMPLATE: Final = "niximage.dev/template"
CLASS_LABEL: Final = "niximage.dev/build-class"
QUEUE_LABEL: Final = "kueue.x-k8s.io/queue-name"
IMAGE_LABEL: Final = "niximage.dev/image"
MANAGED_BY: Final = "app.kubernetes.io/managed-by"
MANAGER: Final = "niximage-operator"

PENDING: Final = "Pending"  # the phase of a build whose pod does not start
LOST: Final = "Lost"  # of one whose pod should have ended, and whose node does not say so

_ENDS: Final = ("Complete", "Failed")
_DIGITS: Final = 6  # of an attempt's number


class JobState(enum.Enum):
    """How far a Job is."""

    LIVE = "live"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    DELETING = "deleting"


@dataclass(frozen=True, slots=True)
class JobView:
    """A build Job.

    Attributes:
        namespace: where it is.
        name: `<image>-<ten digits of the input hash>`.
        uid: which one of that name; deletions name it.
        owner: the uid of the NixImage that owns it, or "".
        image: the name of that NixImage, from the label.
        input_hash: what it builds, from the annotation.
        attempt: which attempt at these inputs, from 1.
        state: how far it is.
        failed_for: the Job controller's reason, for example DeadlineExceeded.
        created: when it was created.
        ended: when it succeeded or failed; the creation's time while it did neither.
        force: the request to build again that it answers, or "".
        build_class: the name of the class that it is of, or "".
        queue: Kueue's queue that it waits in or came from, or "".
        suspended: whether it waits for Kueue to start it.
        template: what it was made from, to be compared with what it would be made from now, or "".
        version: the resourceVersion as a number; another one alone makes no other Job.
    """

    namespace: str
    name: str
    uid: str
    owner: str
    image: str
    input_hash: str
    attempt: int
    state: JobState
    failed_for: str
    created: dt.datetime
    ended: dt.datetime
    force: str = ""
    build_class: str = ""
    queue: str = ""
    suspended: bool = False
    template: str = ""
    version: int = field(default=0, compare=False)

    @classmethod
    def from_json(cls, job: dict[str, Any]) -> "JobView":
        """Read the parts that matter from a Job as the API server gives it."""
        metadata = job["metadata"]
        annotations = metadata.get("annotations") or {}
        conditions = {
            c["type"]: c
            for c in (job.get("status") or {}).get("conditions") or []
            if c.get("status") == "True"
        }
        if metadata.get("deletionTimestamp"):
            state = JobState.DELETING
        elif "Complete" in conditions:
            state = JobState.SUCCEEDED
        elif "Failed" in conditions:
            state = JobState.FAILED
        else:
            state = JobState.LIVE
        owners = metadata.get("ownerReferences") or []
        labels = metadata.get("labels") or {}
        attempt = annotations.get(ATTEMPT, "1")
        version = str(metadata.get("resourceVersion", ""))
        created = dt.datetime.fromisoformat(metadata["creationTimestamp"])
        ends = (c.get("lastTransitionTime") for k, c in conditions.items() if k in _ENDS)
        ended = next((dt.datetime.fromisoformat(e) for e in ends if e), created)
        return cls(
            namespace=metadata["namespace"],
            name=metadata["name"],
            uid=metadata["uid"],
            owner=next((o["uid"] for o in owners if o.get("controller")), ""),
            image=labels.get(IMAGE_LABEL, ""),
            input_hash=annotations.get(INPUT_HASH, ""),
            attempt=_number(attempt),
            state=state,
            failed_for=conditions.get("Failed", {}).get("reason", ""),
            created=created,
            ended=ended,
            force=annotations.get(FORCE, ""),
            build_class=labels.get(CLASS_LABEL, ""),
            queue=labels.get(QUEUE_LABEL, ""),
            suspended=bool((job.get("spec") or {}).get("suspend")),
            template=annotations.get(TEMPLATE, ""),
            version=int(version) if version.isdecimal() else 0,
        )


def _number(text: str) -> int:
    """A count from an annotation, which everybody may write who may write Jobs."""
    return int(text) if text.isdecimal() and len(text) <= _DIGITS else 1
