"""The platforms that images are for: as OCI calls them, and as Nix does."""

from collections.abc import Iterable, Mapping
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field

from niximage.api.base import list_set

Platform = Literal["linux/amd64", "linux/arm64"]

SYSTEMS: Final[Mapping[Platform, str]] = {
    "linux/amd64": "x86_64-linux",
    "linux/arm64": "aarch64-linux",
}
"""What Nix calls each platform."""

DEFAULT_PLATFORM: Final[Platform] = "linux/amd64"


def _each_once(platforms: list[Platform]) -> list[Platform]:
    if len(set(platforms)) < len(platforms):
        raise ValueError("name each platform once")
    return platforms


Platforms = Annotated[
    list[Platform],
    Field(min_length=1, max_length=len(SYSTEMS), json_schema_extra=list_set()),
    AfterValidator(_each_once),
]


def in_order(platforms: Iterable[Platform]) -> list[Platform]:
    """Platforms in the one order that they are worked on and listed in."""
    return sorted(platforms)


def named(platforms: Iterable[str]) -> str:
    """Platforms for people: `linux/amd64 and linux/arm64`."""
    *others, last = sorted(platforms)
    return f"{', '.join(others)} and {last}" if others else last
