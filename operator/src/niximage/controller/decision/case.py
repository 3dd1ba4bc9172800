"""One image at one moment, and what is decided about it: what `decide` takes and gives."""

import datetime as dt
from dataclasses import dataclass, replace

from niximage.api.base import seconds
from niximage.api.build import PinnedBase, PinnedSource
from niximage.api.image import FORCE_AT, REQUESTED_AT, NixImage
from niximage.api.status import Condition, ConditionType, NixImageStatus, SourceStatus
from niximage.controller.decision import conditions as say
from niximage.controller.settings import Settings
from niximage.controller.sources.due import Question, next_slot
from niximage.controller.steps import Effect, Look, SetFinalizers
from niximage.controller.views import Observed
from niximage.source.resolve import wanted


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do, what to say, and when to ask again.

    Attributes:
        looks: what to find out before asking again at once.
        effects: what to change in the cluster.
        status: what the object's status is to be once there are no effects; None leaves it.
        requeue_after: seconds until the image is looked at again without an event; a little
            later does no harm.
        poll_after: seconds until its source is due, to the second: an operator that stops in
            between has not asked.
    """

    looks: tuple[Look, ...] = ()
    effects: tuple[Effect, ...] = ()
    status: NixImageStatus | None = None
    requeue_after: float | None = None
    poll_after: float | None = None

    @property
    def ends_pass(self) -> bool:
        """Whether the image is another one after the effects: a new version of it, or gone."""
        return any(isinstance(effect, SetFinalizers) for effect in self.effects)


@dataclass(frozen=True, slots=True)
class Target:
    """What an image is to be made of.

    Attributes:
        pinned: its source at a revision.
        source: the same for the status.
        inputs: the input hash.
    """

    pinned: PinnedSource
    source: SourceStatus
    inputs: str


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
    def requested(self) -> str | None:
        """A request to reconcile that was not answered yet."""
        token = _token(self.image, REQUESTED_AT)
        return token if token != self.status.last_handled_reconcile_at else None

    @property
    def forced(self) -> str | None:
        """A request to build again that was not answered yet."""
        token = _token(self.image, FORCE_AT)
        if token != _token(self.image, REQUESTED_AT):
            return None
        return token if token != self.status.last_handled_force_at else None

    @property
    def poll(self) -> float | None:
        """Seconds until a moving source is looked up again; None for a fixed one."""
        spec, nixpkgs_url = self.image.spec, self.settings.nixpkgs_url
        if wanted(spec.source, nixpkgs_url).commit:
            return None
        key = Question(spec.source, self.image.metadata.namespace, nixpkgs_url).key
        now = self.now.timestamp()
        return next_slot(key, seconds(spec.interval), now) - now

    def with_status(self, status: NixImageStatus) -> "Case":
        """The same with another status, as though it stood already."""
        return replace(self, image=self.image.model_copy(update={"status": status}))

    def answering(self) -> "Case":
        """The same, with a request to reconcile answered."""
        token = self.requested
        if token is None:
            return self
        return self.with_status(self.status.model_copy(update={"last_handled_reconcile_at": token}))

    def said(self, status: NixImageStatus, *says: say.Say) -> NixImageStatus:
        """The status with these conditions, seen at this generation."""
        return say.with_conditions(
            status, says, generation=self.image.metadata.generation, now=self.now
        )


def _token(image: NixImage, annotation: str) -> str | None:
    """An annotation's value, cut to what a status holds; None where it is empty."""
    return image.metadata.annotations.get(annotation, "")[:256] or None
