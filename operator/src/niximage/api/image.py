"""A NixImage as a whole, and as a file that users hand to the command line."""

import difflib
from typing import Annotated, Any, Final, Self, get_args

import pydantic
from pydantic import ConfigDict, Field, model_validator

from niximage.api.base import API_VERSION, Model, cel
from niximage.api.spec import NixImageSpec
from niximage.api.status import NixImageStatus
from niximage.api.yaml_file import load_yaml
from niximage.errors import Reason, Terminal, plain_text

KIND: Final = "NixImage"
PLURAL: Final = "niximages"
NAME_LIMIT: Final = 52  # a Job's name adds a dash and ten digits, and ends at 63
_OWN_BASE: Final = "an image cannot be its own base"
REQUESTED_AT: Final = "reconcile.fluxcd.io/requestedAt"
"""The annotation that asks for a look at the source now, and another try; any new value does."""

FORCE_AT: Final = "reconcile.fluxcd.io/forceAt"
"""With the same value as `REQUESTED_AT`: build again what is published already."""

FINALIZER: Final = "niximage.dev/repository"
"""Keeps a NixImage that is being deleted until its repository was removed from the bucket."""

_SHOWN: Final = 20  # problems, in a message
_LONG: Final = 10**18  # Python shows no number of thousands of digits


class Metadata(Model):
    """The part of an object's metadata that the project reads."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$", max_length=NAME_LIMIT)]
    namespace: Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$", max_length=63)] = (
        "default"
    )
    uid: str = ""
    generation: int = 0
    resource_version: str = ""
    deletion_timestamp: str | None = None
    finalizers: list[str] = Field(default_factory=list)
    annotations: dict[str, str] = Field(default_factory=dict)


class NixImage(Model):
    """Packages and a source in, an image digest out."""

    model_config = ConfigDict(
        json_schema_extra=cel(
            (
                f"self.metadata.name.size() <= {NAME_LIMIT}",
                f"the name may have at most {NAME_LIMIT} characters",
            ),
            (
                (
                    "!has(self.spec.base) || !has(self.spec.base.niximage)"
                    " || self.spec.base.niximage.name != self.metadata.name"
                ),
                _OWN_BASE,
            ),
        )
    )

    api_version: str = API_VERSION
    kind: str = KIND
    metadata: Metadata
    spec: NixImageSpec
    status: NixImageStatus = NixImageStatus()

    @model_validator(mode="after")
    def _base_is_another(self) -> Self:
        base = self.spec.base
        if base is not None and base.niximage and base.niximage.name == self.metadata.name:
            raise ValueError(_OWN_BASE)
        return self

    @property
    def repository(self) -> str:
        """The image's repository in the registry: `<namespace>/<name or output.repository>`."""
        return f"{self.metadata.namespace}/{self.spec.output.repository or self.metadata.name}"

    @property
    def config_map_name(self) -> str:
        """The name of the ConfigMap that names the image, where the spec wants one."""
        return f"{self.metadata.name}-image"


def load_file(text: str | bytes, where: str) -> NixImage:
    """Read a NixImage from YAML, as strictly as the API server with field validation on.

    Args:
        text: the YAML, one document.
        where: the file's name, for messages.

    Raises:
        Terminal: not YAML, not a NixImage, or a field out of its bounds.
    """
    try:
        document = load_yaml(text)
    except ValueError as error:
        raise Terminal(Reason.INVALID_SPEC, f"{where} is {plain_text(str(error), 500)}") from None
    return read_image(document, where)


def read_image(document: Any, where: str) -> NixImage:
    """Read a NixImage from a document of YAML or JSON, as `load_file` does.

    Raises:
        Terminal: it is no NixImage, or a field is out of its bounds.
    """
    if not isinstance(document, dict):
        raise Terminal(
            Reason.INVALID_SPEC,
            f"{where} holds no object",
            hint=f"Start with apiVersion: {API_VERSION} and kind: {KIND}",
        )
    version, kind = document.get("apiVersion"), document.get("kind")
    if (version, kind) != (API_VERSION, KIND):
        # A list may be written in a few bytes, and yet be endless to show.
        shown = "/".join(x[:80] if isinstance(x, str) else "?" for x in (version, kind))
        raise Terminal(
            Reason.INVALID_SPEC,
            f"{where} is {plain_text(shown, 200)}, not {API_VERSION}/{KIND}",
            hint=f"Start with apiVersion: {API_VERSION} and kind: {KIND}",
        )
    document = {key: value for key, value in document.items() if key != "status"}
    metadata = document.get("metadata")
    if isinstance(metadata, dict):
        # Metadata alone may hold more than we know: labels, and what Kubernetes adds.
        known = ("name", "namespace")
        document["metadata"] = {key: metadata[key] for key in known if key in metadata}
    try:
        return NixImage.model_validate(document, extra="forbid")
    except pydantic.ValidationError as error:
        raise Terminal(Reason.INVALID_SPEC, f"{where}: {explain(error)}") from None


def explain(error: pydantic.ValidationError) -> str:
    """A validation error in one line per field: its path, then what is wrong with it."""
    lines = []
    problems = error.errors(include_url=False, include_context=False)
    for problem in problems[:_SHOWN]:
        path = ".".join(str(part) for part in problem["loc"]) or "spec"
        given: Any = problem.get("input")
        plain = isinstance(given, str | float) or (type(given) is int and abs(given) < _LONG)
        shown = f" (got {given!r:.80})" if plain else ""
        words = f"{problem['msg']}{shown}"
        if problem["type"] == "extra_forbidden":
            words = "unknown field" + _near_fields(problem["loc"])
        lines.append(plain_text(f"{path}: {words}", 400))
    if len(problems) > _SHOWN:
        lines.append(f"and {len(problems) - _SHOWN} more")
    return "\n".join(lines)


def _near_fields(place: tuple[int | str, ...]) -> str:
    """Which fields of an image may be meant by one that it has not."""
    model: Any = NixImage
    for part in place[:-1]:
        if isinstance(part, str):
            model = next(
                (field.annotation for field in model.model_fields.values() if field.alias == part),
                None,
            )
        model = _model_in(model)
        if model is None:
            return ""
    names = [field.alias or name for name, field in model.model_fields.items()]
    near = difflib.get_close_matches(str(place[-1]), names, n=3)
    return f"; did you mean {' or '.join(near)}?" if near else f"; there are {', '.join(names)}"


def _model_in(annotation: Any) -> type[Model] | None:
    """The one model that a field's type is of, be it optional or a list."""
    if isinstance(annotation, type) and issubclass(annotation, Model):
        return annotation
    found = (_model_in(each) for each in get_args(annotation))
    return next((each for each in found if each is not None), None)
