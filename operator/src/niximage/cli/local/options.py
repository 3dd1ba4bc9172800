"""Options of the commands about images without a cluster: what is built, and from where."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from niximage.cli.options import (
    NIXPKGS,
    LocalBuilds,
    LocalBuildsOption,
    NixpkgsUrl,
    PopularityUrl,
    PublicKeys,
    Substituters,
)

if TYPE_CHECKING:  # help is to come at once
    from niximage.nix.programs import NixStore

File = Annotated[
    Path | None,
    typer.Option("--file", "-f", exists=True, dir_okay=False, help="A NixImage, as YAML."),
]
Packages = Annotated[
    list[str] | None,
    typer.Option(
        "--package", "-p", help="A package instead of a file, as in spec.packages. May be repeated."
    ),
]
SourceFolder = Annotated[
    Path | None,
    typer.Option(
        exists=True,
        file_okay=False,
        help="A folder to take packages from, instead of the file's source. A copy is built; its "
        "revision is a hash of all that lies in it, .git left out.",
    ),
]
BaseOption = Annotated[
    str | None,
    typer.Option(
        help="What to build upon: HOST/REPOSITORY@sha256:…, or NAMESPACE/NAME@sha256:… for an "
        "image in the bucket, or the digest alone of the file's base.niximage."
    ),
]
SourcePath = Annotated[str, typer.Option(help="With --source: the file or folder in it to import.")]
SourceAttribute = Annotated[
    str | None, typer.Option(help="With --source: the attribute that holds the packages.")
]
Channel = Annotated[
    str | None,
    typer.Option(help="With -p: the channel of nixpkgs to take packages from: nixos-26.05."),
]
Name = Annotated[
    str | None, typer.Option(help="With -p: what the image is called.  [default: image]")
]
CredentialsFolder = Annotated[
    Path | None,
    typer.Option(
        "--credentials",
        exists=True,
        file_okay=False,
        help="A folder with the keys of the file's source.git.secretRef, one file each: username "
        "and password, bearerToken, ca.crt, identity, known_hosts.",
    ),
]
PlatformOption = Annotated[
    list[str] | None,
    typer.Option(
        "--platform",
        help="What to build for: linux/amd64 or linux/arm64. May be repeated; replaces the "
        "file's platforms.  [default: linux/amd64]",
    ),
]
AllowFile = Annotated[
    bool, typer.Option("--allow-file", help="Allow file:// as the URL of a source.")
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What an image is made of."""

    file: File = None
    package: Packages = None
    source: SourceFolder = None
    path: SourcePath = "."
    attr: SourceAttribute = None
    channel: Channel = None
    name: Name = None
    base: BaseOption = None
    platform: PlatformOption = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """Where sources and store paths come from, and what may be done with them."""

    nixpkgs_url: NixpkgsUrl = NIXPKGS
    substituters: Substituters
    trusted_public_keys: PublicKeys
    local_builds: LocalBuildsOption = LocalBuilds.ALLOWED
    credentials: CredentialsFolder = None
    allow_file: AllowFile = False
    popularity_url: PopularityUrl = ""

    @property
    def nix(self) -> "NixStore":
        """How the Nix programs are set up."""
        from niximage.nix.programs import NixStore

        return NixStore(
            substituters=tuple(self.substituters.split()),
            trusted_public_keys=tuple(self.trusted_public_keys.split()),
            local_builds=self.local_builds is LocalBuilds.ALLOWED,
        )
