"""What all API models share."""

import datetime as dt
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

from annotated_types import GroupedMetadata
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, PlainSerializer
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

GROUP: Final = "niximage.dev"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"


class Model(BaseModel):
    """A frozen part of the API, camelCase outside and snake_case inside.

    Unknown fields are ignored: a stored object may come from a newer operator. Files that
    users hand to the command line are read with `extra="forbid"` instead.
    """

    model_config = ConfigDict(
        alias_generator=to_camel,
        extra="ignore",
        frozen=True,
        populate_by_name=True,
        use_enum_values=False,
    )

    def to_json(self) -> dict[str, Any]:
        """The model as a JSON object in the API's spelling, without absent fields."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


def cel(*rules: tuple[str, str]) -> dict[str, JsonValue]:
    """Schema extras with CEL rules, each with the message that users read when it fails."""
    return {"x-kubernetes-validations": [{"rule": r, "message": m} for r, m in rules]}


@dataclass(frozen=True, slots=True)
class worded(GroupedMetadata):  # noqa: N801 (it is written like a function, as `Field` is)
    """A string's pattern, with the sentence that users read when theirs does not match.

    The pattern alone would be told as a regular expression.

    Attributes:
        pattern: with its anchors.
        words: what to write.
    """

    pattern: str
    words: str

    def __iter__(self) -> Iterator[object]:
        """What pydantic reads: the schema for the API server, the check for everybody else."""
        rule = cel((f"self.matches({json.dumps(self.pattern)})", self.words))
        yield Field(json_schema_extra={"pattern": self.pattern, **rule})
        yield AfterValidator(self._check)

    def _check(self, text: str) -> str:
        if re.fullmatch(self.pattern, text) is None:
            raise PydanticCustomError("worded", "{words}", {"words": self.words})
        return text


def sound_url(url: str) -> str:
    """A URL, once it is sure that it can be taken apart: patterns do not look that closely.

    Raises:
        ValueError: its host or its port is none.
    """
    _ = urlsplit(url).port
    return url


def list_set() -> dict[str, JsonValue]:
    """Schema extras of a list that is a set: no item twice, order without meaning."""
    return {"x-kubernetes-list-type": "set"}


def list_map(key: str) -> dict[str, JsonValue]:
    """Schema extras of a list of objects that one field tells apart."""
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [key]}


def _rfc3339(time: dt.datetime) -> str:
    return time.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


Time = Annotated[dt.datetime, PlainSerializer(_rfc3339, return_type=str, when_used="json")]
"""A moment in UTC, written to the second as Kubernetes does."""

_DURATION_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}

DURATION_PATTERN: Final = r"^([0-9]+([.][0-9]+)?(ms|s|m|h))+$"
Duration = Annotated[
    str,
    worded(DURATION_PATTERN, "write a duration as 90s, 10m or 1h30m"),
    Field(min_length=2, max_length=32),
]
"""A duration as Go and Flux write it: `90s`, `10m`, `1h30m`."""


def seconds(duration: str) -> float:
    """The length of a `Duration` in seconds."""
    return sum(float(n) * _SECONDS[unit] for n, unit in _DURATION_PART.findall(duration))
