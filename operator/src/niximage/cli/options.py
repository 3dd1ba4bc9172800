"""Options that several commands have, with their variables, help and defaults."""

import enum
import os
from collections.abc import Callable
from typing import Annotated, Final

import typer

CACHE: Final = "https://cache.nixos.org"
CACHE_KEY: Final = "cache.nixos.org-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY="


def _unless_set(variable: str, otherwise: str) -> Callable[[], str]:
    """A default that leaves a variable set to "" alone: click would take it for unset."""
    return lambda: os.environ.get(variable, otherwise)


Bucket = Annotated[
    str,
    typer.Option(
        envvar="NIXIMAGE_BUCKET", help="Where images live: gs://bucket/prefix or file:///folder."
    ),
]
Substituters = Annotated[
    str,
    typer.Option(
        envvar="NIXIMAGE_SUBSTITUTERS",
        default_factory=_unless_set("NIXIMAGE_SUBSTITUTERS", CACHE),
        show_default=CACHE,
        help="Binary caches, separated by blanks; empty for none.",
    ),
]
PublicKeys = Annotated[
    str,
    typer.Option(
        envvar="NIXIMAGE_TRUSTED_PUBLIC_KEYS",
        default_factory=_unless_set("NIXIMAGE_TRUSTED_PUBLIC_KEYS", CACHE_KEY),
        show_default=CACHE_KEY,
        help="The keys that sign what binary caches give, separated by blanks.",
    ),
]


class LocalBuilds(enum.StrEnum):
    """Whether what no binary cache has may be built."""

    ALLOWED = "Allowed"
    FORBIDDEN = "Forbidden"


LocalBuildsOption = Annotated[
    LocalBuilds,
    typer.Option(
        envvar="NIXIMAGE_LOCAL_BUILDS", help="Whether what no binary cache has may be built."
    ),
]
NIXPKGS: Final = "https://github.com/NixOS/nixpkgs"

OptionalBucket = Annotated[
    str,
    typer.Option(
        envvar="NIXIMAGE_BUCKET",
        help="Where images live: gs://bucket/prefix or file:///folder; with --output, a folder "
        "in the user's cache by default.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of words.")]


NixpkgsUrl = Annotated[
    str, typer.Option(envvar="NIXIMAGE_NIXPKGS_URL", help="The repository behind source.nixpkgs.")
]
PopularityUrl = Annotated[
    str,
    typer.Option(
        envvar="NIXIMAGE_POPULARITY_URL",
        help="Where the data is that spec.layering.strategy: Popularity wants: JSON of package "
        "names and counts, as Nixery has it.",
    ),
]
