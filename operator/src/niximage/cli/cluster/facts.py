"""What is read of a NixImage as the API server stores it; tables and waiting go by this. Pure."""

import datetime as dt
from dataclasses import dataclass
from typing import Any

import pydantic

from niximage.api.image import FORCE_AT, REQUESTED_AT
from niximage.api.status import ConditionStatus, ConditionType, NixImageStatus

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Facts:
    """A NixImage.

    Attributes:
        namespace: where it is.
        name: what it is called.
        created: when it was.
        generation: counts the changes of its spec.
        is_suspended: whether nothing is begun for it.
        requested: the value of the annotation that asks for a look; "" without.
        forced: the value of the annotation that asks for a build; "" without.
        status: what the operator wrote; empty where this program cannot read it.
    """

    namespace: str
    name: str
    created: dt.datetime | None
    generation: int
    is_suspended: bool
    requested: str
    forced: str
    status: NixImageStatus

    @classmethod
    def of(cls, stored: Json) -> "Facts":
        """The facts of an object; of one that is odd, as many as can be read."""
        metadata = stored["metadata"]
        annotations = metadata.get("annotations") or {}
        try:
            status = NixImageStatus.model_validate(stored.get("status") or {})
        except pydantic.ValidationError:
            status = NixImageStatus()  # of an operator of another version
        created = metadata.get("creationTimestamp")
        return cls(
            namespace=metadata["namespace"],
            name=metadata["name"],
            created=dt.datetime.fromisoformat(created) if created else None,
            generation=int(metadata.get("generation") or 0),
            is_suspended=(stored.get("spec") or {}).get("suspend") is True,
            requested=annotations.get(REQUESTED_AT, ""),
            forced=annotations.get(FORCE_AT, ""),
            status=status,
        )

    @property
    def is_seen(self) -> bool:
        """Whether the status is about the spec as it is now."""
        return self.status.observed_generation == self.generation

    @property
    def ready(self) -> str:
        """The Ready condition: True, False or Unknown."""
        found = self.status.condition(ConditionType.READY)
        return ConditionStatus.UNKNOWN if found is None else found.status

    @property
    def word(self) -> tuple[str, str]:
        """The state in one word, and in a sentence: of the condition that tells most."""
        if not self.is_seen:
            return "Pending", "the operator has not seen this spec yet"
        if self.is_suspended:
            return "Suspended", "nothing is begun until it is resumed"
        status = self.status
        for kind in (
            ConditionType.STALLED,
            ConditionType.RECONCILING,
            ConditionType.OUTDATED,
            ConditionType.READY,
        ):
            found = status.condition(kind)
            if found is not None:
                return found.reason, found.message
        return "Unknown", ""
