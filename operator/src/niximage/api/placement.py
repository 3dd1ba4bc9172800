"""How a build's pod runs: which class it is of, what it asks for, and where it may go."""

import json
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    WithJsonSchema,
    model_validator,
)

from niximage.api.base import Duration, Model, cel, seconds, worded

OBJECT_NAME: Final = r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$"
OBJECT_NAME_WORDS: Final = "write an object's name: small letters, digits, '-' and '.'"
LABEL_VALUE: Final = r"^([A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?)?$"
LABEL_KEY: Final = (
    r"^([a-z0-9]([a-z0-9.-]*[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$"
)
QUANTITY: Final = r"^[0-9]{1,12}(\.[0-9]{1,9})?(m|k|Ki|M|Mi|G|Gi|T|Ti|P|Pi)?$"
_QUANTITY_WORDS: Final = "write an amount as 2, 500m, 512Mi or 4Gi"

_UNITS: Final = {
    "": 1.0,
    "m": 0.001,
    **{unit: 1000.0**n for n, unit in enumerate(("k", "M", "G", "T", "P"), 1)},
    **{unit: 1024.0**n for n, unit in enumerate(("Ki", "Mi", "Gi", "Ti", "Pi"), 1)},
}
AFFINITY_LIMIT: Final = 8 << 10  # bytes of each kind of terms, as JSON
_BACKOFF_ORDER: Final = "minBackoff must not be longer than maxBackoff"

ObjectName = Annotated[
    str,
    worded(OBJECT_NAME, OBJECT_NAME_WORDS),
    Field(min_length=1, max_length=253),
]
LabelValue = Annotated[str, Field(pattern=LABEL_VALUE, max_length=63)]


def _text_of_number(value: Any) -> Any:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


Quantity = Annotated[
    str,
    BeforeValidator(_text_of_number),
    worded(QUANTITY, _QUANTITY_WORDS),
    Field(max_length=24),
    WithJsonSchema(
        {
            "x-kubernetes-int-or-string": True,
            "minimum": 0,
            "pattern": QUANTITY,
            "maxLength": 24,
            **cel(
                (f"type(self) != string || self.matches({json.dumps(QUANTITY)})", _QUANTITY_WORDS)
            ),
        }
    ),
]
"""An amount as Kubernetes writes it: `2`, `500m`, `4Gi`."""


def amount(quantity: str) -> float:
    """The number that a `Quantity` stands for."""
    digits = quantity.rstrip("mkKMGTPi")
    return float(digits) * _UNITS[quantity[len(digits) :]]


class ResourceList(Model):
    """Amounts of what a node has."""

    cpu: Quantity | None = None
    memory: Quantity | None = None
    ephemeral_storage: Quantity | None = Field(default=None, alias="ephemeral-storage")


def _within(name: str, spelled: str = "") -> tuple[str, str]:
    """The rule that a request does not exceed its limit; `spelled` is the name in CEL."""
    request, limit = (f"self.{kind}.{spelled or name}" for kind in ("requests", "limits"))
    either = f"!has(self.requests) || !has({request}) || !has(self.limits) || !has({limit})"
    small = f"quantity(string({request})).compareTo(quantity(string({limit}))) <= 0"
    return f"{either} || {small}", f"requests.{name} must not exceed limits.{name}"


class Resources(Model):
    """What each step of a build asks of its node, and may not exceed."""

    model_config = ConfigDict(
        json_schema_extra=cel(
            _within("cpu"),
            _within("memory"),
            _within("ephemeral-storage", "ephemeral__dash__storage"),
        )
    )

    requests: ResourceList = ResourceList()
    limits: ResourceList = ResourceList()

    @model_validator(mode="after")
    def _requests_within_limits(self) -> Self:
        for name in ("cpu", "memory", "ephemeral_storage"):
            request, limit = getattr(self.requests, name), getattr(self.limits, name)
            if request and limit and amount(request) > amount(limit):
                spelled = name.replace("_", "-")
                raise ValueError(f"requests.{spelled} must not exceed limits.{spelled}")
        return self


class Toleration(Model):
    """A taint that build pods put up with, as in a pod."""

    key: Annotated[str, Field(pattern=LABEL_KEY, max_length=317)] | None = None
    operator: Literal["Equal", "Exists"] = "Equal"
    value: LabelValue | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    toleration_seconds: Annotated[int, Field(ge=0, le=86400)] | None = None


def _bounded(terms: dict[str, Any]) -> dict[str, Any]:
    if len(json.dumps(terms)) > AFFINITY_LIMIT:
        raise ValueError(f"it may have {AFFINITY_LIMIT} bytes as JSON")
    return terms


AffinityTerms = Annotated[
    dict[str, JsonValue],
    AfterValidator(_bounded),
    WithJsonSchema(
        {"type": "object", "x-kubernetes-preserve-unknown-fields": True, "maxProperties": 2}
    ),
]
"""Terms as a pod has them; the API server checks them when it takes the pod."""


class Affinity(Model):
    """Which nodes, and which pods on them, build pods are drawn to or kept from, as in a pod."""

    node_affinity: AffinityTerms | None = None
    pod_affinity: AffinityTerms | None = None
    pod_anti_affinity: AffinityTerms | None = None


NodeSelector = Annotated[dict[str, LabelValue], Field(max_length=32)]
Tolerations = Annotated[
    list[Toleration], Field(max_length=32, json_schema_extra={"x-kubernetes-list-type": "atomic"})
]


class Retry(Model):
    """How often, and after which delays, a build is tried again that the world was in the way of.

    What the input is at fault for is never tried again before the input changes.
    """

    model_config = ConfigDict(
        json_schema_extra=cel(
            (
                (
                    "!has(self.minBackoff) || !has(self.maxBackoff)"
                    " || duration(self.minBackoff) <= duration(self.maxBackoff)"
                ),
                _BACKOFF_ORDER,
            )
        )
    )

    limit: Annotated[int, Field(ge=0, le=20)] = Field(
        default=5,
        description="How many retries follow the first attempt; then the image is Stalled until "
        "its spec or source changes, or a reconcile is requested.",
    )
    min_backoff: Duration | None = Field(
        default=None, description="The first delay; each further one is twice as long."
    )
    max_backoff: Duration | None = Field(default=None, description="The longest delay.")

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if (
            self.min_backoff
            and self.max_backoff
            and seconds(self.min_backoff) > seconds(self.max_backoff)
        ):
            raise ValueError(_BACKOFF_ORDER)
        return self


class BuildSettings(Model):
    """How builds run; none of it changes the image."""

    class_name: ObjectName | None = Field(
        default=None,
        description="The NixBuildClass; by default the one that is annotated as default, or the "
        "operator's own settings where there is none.",
    )
    service_account_name: ObjectName | None = Field(
        default=None,
        description="The ServiceAccount of build pods. It gives the publish step its right to "
        "write to the bucket where the cluster does that by identity.",
    )
    resources: Resources = Resources()
    node_selector: NodeSelector = Field(
        default_factory=dict, description="The labels of nodes that build pods may run on."
    )
    tolerations: Tolerations = Field(default_factory=list)
    affinity: Affinity = Field(
        default=Affinity(),
        description="As in a pod, each kind of terms up to 8 KiB. What the class says of a kind "
        "comes in its place.",
    )
    priority_class_name: ObjectName | None = None
    queue_name: (
        Annotated[str, worded(OBJECT_NAME, OBJECT_NAME_WORDS), Field(max_length=63)] | None
    ) = Field(
        default=None,
        description="A LocalQueue of Kueue: it then decides when the build starts.",
    )
    retry: Retry = Retry()
