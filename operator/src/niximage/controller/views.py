"""What `decide` sees of the world: small and frozen."""

import enum
from dataclasses import dataclass

from niximage.api.build import PinnedBase, PinnedSource, PublishResult
from niximage.api.image import FINALIZER, NixImage
from niximage.api.status import Progress
from niximage.bucket.remove import Removed
from niximage.controller.job_view import JobView
from niximage.controller.steps import HideImage, MoveTags, ShowImage
from niximage.errors import NixImageError


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
    """A build may not start yet, and why, in words for people.

    Attributes:
        words: they.
        behind: the Jobs of its namespace that it waits for.
        twin: whether that is one which builds the same.
    """

    words: str
    behind: tuple[JobView, ...] = ()
    twin: bool = False


class Turn(enum.Enum):
    """A build may start now."""

    GRANTED = "granted"


class Absent(enum.Enum):
    """Looked for, and not there; None would say: not looked for yet."""

    ABSENT = "absent"


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
