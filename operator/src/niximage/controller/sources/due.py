"""When a moving source is asked for its revision again: a timetable that nobody has to remember.

A status holds no time of the last look, for that would be a write per look. So the times follow
from what is asked alone: the line of time since 1970 is cut into slots as long as the interval,
moved by a phase that the repository and the ref hash to, and a ref is asked once in each slot.
Every life of the operator comes to the same slots; what was asked in the present one by a life
before this, the status holds the answer to.

- Phases spread the refs over the interval: not all servers are asked in one second.
- Slots of intervals that are multiples of one another begin together: two images that follow one
  ref, one each 10 minutes and one each hour, ask no more often than the first alone.
- A slot that began while no operator acted was missed, and is asked for at the start: until when
  the one before acted, the Lease tells. Without a Lease nothing tells, and the source is asked
  for in the next slot: a revision may then be late by one interval, never by more. The other way
  round each restart would ask each ref, and a fleet of operators that crash would be an attack.
"""

from dataclasses import dataclass

import pydantic

from niximage.api.build import PinnedSource
from niximage.api.canonical import canonical_hash
from niximage.api.image import NixImage
from niximage.api.source import Source
from niximage.api.status import ConditionType
from niximage.errors import Reason
from niximage.source.failures import shown_url
from niximage.source.resolve import wanted


@dataclass(frozen=True, slots=True)
class Question:
    """What to find the revision of.

    Attributes:
        source: what the spec says.
        namespace: where its image is, and the Secrets that it may name.
        nixpkgs_url: the repository that `source.nixpkgs` means.
    """

    source: Source
    namespace: str
    nixpkgs_url: str

    @property
    def key(self) -> str:
        """What a server is asked about, as 64 hex digits: equal for all images that ask it."""
        return canonical_hash(_moving_part(self))


def slot_start(key: str, interval: float, now: float) -> float:
    """When the present slot of a question began.

    Args:
        key: the question's.
        interval: the length of a slot in seconds.
        now: seconds since 1970.
    """
    phase = int(key[:8], 16)  # seconds: more than the longest interval, and exact in a float
    return now - (now - phase) % interval


def next_slot(key: str, interval: float, now: float) -> float:
    """When the next slot of a question begins, in seconds since 1970: always after now."""
    return slot_start(key, interval, now) + interval


def told_before(image: NixImage, nixpkgs_url: str) -> PinnedSource | None:
    """The revision that the status tells of, if that answers what the spec asks now.

    None for what is not asked of a server: a commit, a volume, an object of Flux; and for a
    source that was not found last time.

    Args:
        image: the image, with its status.
        nixpkgs_url: the repository that `source.nixpkgs` means.
    """
    asked, status = wanted(image.spec.source, nixpkgs_url), image.status
    source = status.source
    if asked.commit or asked.kind != "git" or source is None:
        return None
    if status.observed_generation != image.metadata.generation:
        return None
    if not status.is_true(ConditionType.SOURCE_RESOLVED):
        return None
    if status.has_reason(ConditionType.RECONCILING, Reason.RESOLVING_SOURCE):
        return None  # what the status has is of an earlier spec
    if (source.url, source.ref) != (shown_url(asked.url), asked.ref):
        return None
    try:
        return asked.pinned(source.revision)
    except pydantic.ValidationError:
        return None


def _moving_part(question: Question) -> dict[str, object]:
    """What a server is asked about: two images of one branch ask the same, whatever the path.

    What one namespace's Secret opens is no answer for another namespace.
    """
    source = question.source
    if source.git is not None:
        part: dict[str, object] = {"url": source.git.url, "ref": source.git.ref.to_json()}
        if source.secret is not None:
            part["secret"] = [question.namespace, source.secret]
        return part
    if source.source_ref is not None:
        flux = source.source_ref
        return {"flux": [question.namespace, flux.kind, flux.name]}
    if source.volume is not None:
        volume = source.volume
        return {"volume": [question.namespace, volume.claim_name, volume.revision]}
    assert source.nixpkgs is not None
    return {"url": question.nixpkgs_url, "nixpkgs": source.nixpkgs.to_json()}
