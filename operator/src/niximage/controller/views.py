"""What `decide` sees of the world: small, frozen, and read from plain JSON."""

import datetime as dt
import enum
from dataclasses import dataclass
from typing import Any, Final

from niximage.api.build import BuildRequest, PinnedBase, PinnedSource, PublishResult
from niximage.api.image import FINALIZER, NixImage
from niximage.api.status import Progress
from niximage.bucket.remove import Removed
from niximage.errors import NixImageError

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
        )


def _number(text: str) -> int:
    """A count from an annotation, which everybody may write who may write Jobs."""
    return int(text) if text.isdecimal() and len(text) <= _DIGITS else 1


@dataclass(frozen=True, slots=True)
class Published:
    """An image that the bucket was seen to hold, whole.

    Attributes:
        digest: of the manifest.
        layers: how many.
        size: bytes of all blobs.
        reused_layers: how many of them were there before the build that published it.
        reused_size: bytes of those.
    """

    digest: str
    layers: int
    size: int
    reused_layers: int
    reused_size: int


@dataclass(frozen=True, slots=True)
class Sharer:
    """Another NixImage that publishes to the same repository.

    Attributes:
        name: its own.
        tags: those that its spec lists.
        leaving: whether it is being deleted, and may be removing the repository.
        stays: whether it goes on publishing.
    """

    name: str
    tags: tuple[str, ...]
    leaving: bool
    stays: bool

    @classmethod
    def of(cls, image: NixImage) -> "Sharer":
        """What matters of a NixImage."""
        deleted = image.metadata.deletion_timestamp is not None
        return cls(
            name=image.metadata.name,
            tags=tuple(image.spec.output.tags),
            leaving=deleted and FINALIZER in image.metadata.finalizers,
            stays=not deleted,
        )


@dataclass(frozen=True, slots=True)
class ClassWanting:
    """The class of an image cannot be told, and why, in words for people."""

    words: str


@dataclass(frozen=True, slots=True)
class BaseWanting:
    """The NixImage below this one has no image yet, and why, in words for people."""

    words: str


@dataclass(frozen=True, slots=True)
class Queued:
    """A build may not start yet, and why, in words for people."""

    words: str


class Turn(enum.Enum):
    """A build may start now."""

    GRANTED = "granted"


class Absent(enum.Enum):
    """Looked for, and not there; None would say: not looked for yet."""

    ABSENT = "absent"


@dataclass(frozen=True, slots=True)
class MoveTags:
    """See that tags name a published image."""

    digest: str
    tags: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RemoveRepository:
    """Remove a repository from the bucket.

    Attributes:
        repository: which.
        tags: remove these tags only, because others publish to it, too; None for all of it.
    """

    repository: str
    tags: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class ShowImage:
    """See that a ConfigMap names the image.

    Attributes:
        name: the ConfigMap's.
        image: with registry and digest, as pods name it.
        digest: the image's.
        revision: of its source.
    """

    name: str
    image: str
    digest: str
    revision: str


@dataclass(frozen=True, slots=True)
class HideImage:
    """See that the image's ConfigMap is gone."""

    name: str


@dataclass(frozen=True, slots=True)
class Observed:
    """What is known of one image's surroundings; None is: not looked at in this pass.

    Attributes:
        jobs: all Jobs of the image.
        in_the_way: the Job of another object that the cluster was asked for.
        policy: why its class cannot be told, or what it asks for that its class does not allow.
        source: the pinned source, or why there is none.
        base: the pinned NixImage below this one, or why there is none.
        outcome: what the finished Job's pod said.
        log: the key of that Job's log in the bucket, or "" where there is none.
        published: what the bucket holds for the input hash.
        turn: whether a build may start now.
        progress: how far the live Job is.
        tagged: which tags were moved.
        shown: what was seen to of the image's ConfigMap.
        sharers: the other NixImages of its repository.
        removed: what of its repository was removed from the bucket.
        refused: why the last action on the cluster failed.
    """

    jobs: tuple[JobView, ...] = ()
    sharers: tuple[Sharer, ...] = ()
    in_the_way: JobView | None = None
    policy: ClassWanting | NixImageError | None = None
    source: PinnedSource | NixImageError | None = None
    base: PinnedBase | BaseWanting | NixImageError | None = None
    outcome: PublishResult | Absent | NixImageError | None = None
    log: str = ""
    published: Published | Absent | NixImageError | None = None
    turn: Turn | Queued | None = None
    progress: Progress | Absent | None = None
    tagged: MoveTags | NixImageError | None = None
    shown: ShowImage | HideImage | NixImageError | None = None
    removed: Removed | NixImageError | None = None
    refused: NixImageError | None = None


@dataclass(frozen=True, slots=True)
class Resolve:
    """Find the revision of the image's source; `fresh`: not from memory."""

    fresh: bool = False


@dataclass(frozen=True, slots=True)
class FindBase:
    """Find the image of the NixImage that this one is based on."""

    name: str


@dataclass(frozen=True, slots=True)
class FindJob:
    """Ask the cluster itself for a Job that is in the way: a watch may have missed its end."""

    job: JobView


@dataclass(frozen=True, slots=True)
class FindPublished:
    """Look for the image of these inputs in the bucket."""

    input_hash: str


@dataclass(frozen=True, slots=True)
class ReadOutcome:
    """Read what a finished Job's pod said; `log`: keep all of it, for the history."""

    job: JobView
    log: bool = True


@dataclass(frozen=True, slots=True)
class ReadProgress:
    """Look how far a Job's pod is, unless that was done just now; `fresh`: even then."""

    job: JobView
    fresh: bool = False


class Urgency(enum.IntEnum):
    """Whose build comes first where not all may run."""

    WANTED = 0  # a new image or a new spec: somebody waits for it
    RETRY = 1
    MOVED = 2  # the source moved under a good image


@dataclass(frozen=True, slots=True)
class TakeTurn:
    """Ask whether a build of these inputs may start."""

    input_hash: str
    urgency: Urgency


@dataclass(frozen=True, slots=True)
class CreateJob:
    """Start a build, or adopt the one of that name."""

    name: str
    request: BuildRequest
    attempt: int
    force: str = ""


@dataclass(frozen=True, slots=True)
class DeleteJob:
    """Delete a Job and its pods."""

    job: JobView


@dataclass(frozen=True, slots=True)
class SetFinalizers:
    """Have the image keep exactly these finalizers."""

    finalizers: tuple[str, ...]


Look = (
    Resolve
    | FindBase
    | FindJob
    | FindPublished
    | ReadOutcome
    | ReadProgress
    | TakeTurn
    | MoveTags
    | ShowImage
    | HideImage
    | RemoveRepository
)
Effect = CreateJob | DeleteJob | SetFinalizers
