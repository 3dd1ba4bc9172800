"""What `decide` can ask for: looks find something out, effects change the cluster."""

import enum
from dataclasses import dataclass

from niximage.api.build import BuildRequest
from niximage.controller.job_view import JobView


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
