"""The image that an image builds upon: another NixImage, or any image by digest."""

from typing import Annotated, Final, Self

from pydantic import ConfigDict, Field, model_validator

from niximage.api.base import Model, cel, worded
from niximage.api.placement import OBJECT_NAME, OBJECT_NAME_WORDS

_NAME: Final = r"[a-z0-9]([a-z0-9-]*[a-z0-9])?"
# A first part without dot, colon or `localhost` would be read as a repository of Docker Hub.
_HOST: Final = (
    rf"(localhost(:[0-9]{{1,5}})?|{_NAME}(\.{_NAME})+(:[0-9]{{1,5}})?|{_NAME}:[0-9]{{1,5}}"
    r"|\[[0-9a-f:]{2,39}\](:[0-9]{1,5})?)"
)
_PART: Final = r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*"
_TAG: Final = r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}"

REGISTRY_REPOSITORY_PATTERN: Final = rf"^{_HOST}(/{_PART})+$"
IMAGE_PATTERN: Final = rf"^{_HOST}(/{_PART})+(:{_TAG})?@sha256:[0-9a-f]{{64}}$"

_IMAGE_WORDS: Final = (
    "write the registry's host, the repository and the digest: "
    "docker.io/library/debian@sha256:… with 64 small hex digits; a tag alone may move"
)
_ONE: Final = "set exactly one of niximage and image"


class NixImageReference(Model):
    """A NixImage of the same namespace."""

    name: Annotated[str, worded(OBJECT_NAME, OBJECT_NAME_WORDS), Field(max_length=52)]


class Base(Model):
    """What lies below the image's own layers; they are taken as they are."""

    model_config = ConfigDict(
        json_schema_extra=cel(("has(self.niximage) != has(self.image)", _ONE))
    )

    niximage: NixImageReference | None = Field(
        default=None,
        description="A NixImage of the same namespace. The image is built anew whenever that one "
        "changes; store paths that it has are not packed again.",
    )
    image: Annotated[str, worded(IMAGE_PATTERN, _IMAGE_WORDS), Field(max_length=512)] | None = (
        Field(
            default=None,
            description="Any image by its digest: `docker.io/library/debian@sha256:…`. A tag "
            "before the digest says nothing.",
        )
    )

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if (self.niximage is None) == (self.image is None):
            raise ValueError(_ONE)
        return self


def split_image(image: str) -> tuple[str, str]:
    """An image's repository with its host, and its digest; a tag between the two is dropped."""
    name, _, digest = image.partition("@")
    folders, _, last = name.rpartition("/")
    return f"{folders}/{last.partition(':')[0]}", digest
