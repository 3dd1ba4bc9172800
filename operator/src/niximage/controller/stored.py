"""A NixImage as the cache keeps it, and as a pass over it sees it.

Ten thousand parsed objects take a quarter of a gigabyte, and most of them are not looked at for
minutes. So the cache keeps the JSON of an object and the few words that it is asked for itself;
a pass parses what it needs, and forgets it again.
"""

import json
import sys
from dataclasses import dataclass
from typing import Any, Final

import pydantic

from niximage.api.image import FORCE_AT, REQUESTED_AT, NixImage, explain

Key = tuple[str, str]
"""Namespace and name."""

Told = tuple[str, str, str]
"""A condition's type, status and reason."""

_METADATA: Final = (
    *("name", "namespace", "uid", "generation", "resourceVersion"),
    *("deletionTimestamp", "finalizers"),
)


@dataclass(frozen=True, slots=True)
class StoredImage:
    """A NixImage as it is kept: not validated, for it may be from another time.

    Attributes:
        key: its namespace and name.
        uid: which one of that name.
        version: the resourceVersion as a number; the API server compares them so since 1.35.
        base: the name of the NixImage that it is based on, or "".
        follows: the object of Flux that is its source, `KIND/NAME`, or "".
        repository: where it publishes to.
        class_name: of its NixBuildClass, or "" where it names none.
        told: its conditions.
        answered: whether its status speaks of its spec as it is now.
        text: the rest, as JSON.
    """

    key: Key
    uid: str
    version: int
    base: str
    follows: str
    repository: str
    class_name: str
    told: tuple[Told, ...]
    answered: bool
    text: bytes

    @classmethod
    def from_json(cls, body: dict[str, Any]) -> "StoredImage":
        """Take what matters from an object as the API server gives it."""
        metadata = {k: body["metadata"][k] for k in _METADATA if k in body["metadata"]}
        annotations = body["metadata"].get("annotations") or {}
        if told := {k: annotations[k] for k in (REQUESTED_AT, FORCE_AT) if k in annotations}:
            metadata["annotations"] = told
        spec, status = body.get("spec"), dict(body.get("status") or {})
        document = {"metadata": metadata, "spec": spec, "status": status}
        version = metadata.get("resourceVersion", "")
        namespace, name = sys.intern(metadata["namespace"]), metadata["name"]
        repository = _text(spec, "output", "repository") or name
        return cls(
            key=(namespace, name),
            uid=metadata["uid"],
            version=int(version) if version.isdecimal() else 0,
            base=_text(spec, "base", "niximage", "name"),
            follows=_follows(spec),
            repository=f"{namespace}/{repository}",
            class_name=_text(spec, "build", "className"),
            told=_told(status.get("conditions")),
            answered=status.get("observedGeneration") == metadata.get("generation"),
            text=json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode(),
        )

    def open(self) -> "CachedImage":
        """Parse it; never raises."""
        document = json.loads(self.text)
        try:
            image, problem = NixImage.model_validate(document), ""
        except pydantic.ValidationError as error:
            image, problem = None, explain(error)
        return CachedImage(image, problem, document["metadata"], document["status"], self)


@dataclass(frozen=True, slots=True)
class CachedImage:
    """A NixImage as last seen.

    Attributes:
        image: the parsed object, or None where a stored spec is not one that we understand.
        problem: what is wrong with it then.
        metadata: the object's metadata: name, namespace, uid, generation, resourceVersion.
        status: the stored status, as JSON; what a patch is computed against.
        stored: what it was parsed from.
    """

    image: NixImage | None
    problem: str
    metadata: dict[str, Any]
    status: dict[str, Any]
    stored: StoredImage

    @classmethod
    def from_json(cls, body: dict[str, Any]) -> "CachedImage":
        """Read a NixImage; never raises, since a stored object may be from another time."""
        return StoredImage.from_json(body).open()


def _follows(spec: object) -> str:
    kind, name = (_text(spec, "source", "sourceRef", each) for each in ("kind", "name"))
    return sys.intern(f"{kind}/{name}") if kind and name else ""


def _text(value: object, *path: str) -> str:
    """The string at the end of a path into JSON, or ""."""
    for step in path:
        value = value.get(step) if isinstance(value, dict) else None
    return sys.intern(value) if isinstance(value, str) else ""


def _told(conditions: object) -> tuple[Told, ...]:
    if not isinstance(conditions, list):
        return ()
    return tuple(
        (_text(each, "type"), _text(each, "status"), _text(each, "reason")) for each in conditions
    )
