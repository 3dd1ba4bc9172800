"""The commands about images without a cluster: their names, options and help."""

import enum
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from niximage.cli.cluster.options import Where
from niximage.cli.failure import told
from niximage.cli.groups import grouped
from niximage.cli.options import (
    NIXPKGS,
    AsJson,
    LocalBuilds,
    LocalBuildsOption,
    NixpkgsUrl,
    OptionalBucket,
    PlatformOption,
    PopularityUrl,
    PublicKeys,
    Substituters,
)

if TYPE_CHECKING:  # help is to come at once
    from niximage.cli.local.wanted import Options

PANEL: Final = "Images without a cluster"

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


def options(contents: Contents, around: Surroundings) -> "Options":
    """The two groups of options as the commands take them."""
    from niximage.cli.local.wanted import Options

    return Options(
        file=contents.file,
        packages=tuple(contents.package or ()),
        source=contents.source,
        path=contents.path,
        attr=contents.attr,
        channel=contents.channel,
        name=contents.name,
        base=contents.base,
        platforms=tuple(contents.platform or ()),
        nixpkgs_url=around.nixpkgs_url,
        substituters=tuple(around.substituters.split()),
        trusted_public_keys=tuple(around.trusted_public_keys.split()),
        local_builds=around.local_builds is LocalBuilds.ALLOWED,
        allow_file=around.allow_file,
        credentials=around.credentials,
        popularity_url=around.popularity_url,
    )


def add_to(app: typer.Typer) -> None:
    """Add the commands to a program."""
    for command in (build, plan, tag, lock, attach):
        app.command(rich_help_panel=PANEL)(command)


@grouped
def build(
    *,
    contents: Contents,
    bucket: OptionalBucket = "",
    output: Annotated[
        list[str] | None,
        typer.Option(
            "--output",
            "-o",
            help="Write the image there, too: oci:FOLDER, oci-archive:FILE or "
            "docker-archive:FILE, which `docker load` takes. May be repeated.",
        ),
    ] = None,
    as_json: AsJson = False,
    around: Surroundings,
) -> None:
    """Build an image on this machine, as the operator does.

    Progress goes to standard error. The exit code is 65 where the input is at fault, and 75
    where another try may help.
    """
    from niximage.cli.local import build as command

    with told():
        given = options(contents, around)
        command.run(given, bucket=bucket, outputs=output or [], as_json=as_json)


@grouped
def plan(
    *,
    contents: Contents,
    bucket: OptionalBucket = "",
    as_json: AsJson = False,
    around: Surroundings,
) -> None:
    """Print the layers that an image would have; nothing is packed.

    What a binary cache has is not even downloaded: the plan takes its description alone. Other
    packages are built.
    """
    from niximage.cli.local import plan as command

    with told():
        command.run(options(contents, around), bucket=bucket, as_json=as_json)


def tag(
    *,
    file: Annotated[
        Path,
        typer.Option("--file", "-f", exists=True, dir_okay=False, help="A NixImage, as YAML."),
    ],
    base: BaseOption = None,
    registry: Annotated[
        str,
        typer.Option(
            envvar="NIXIMAGE_REGISTRY", help="Host and port that nodes pull from, to go in front."
        ),
    ] = "",
    as_json: AsJson = False,
    nixpkgs_url: NixpkgsUrl = NIXPKGS,
    platform: PlatformOption = None,
    credentials: CredentialsFolder = None,
    allow_file: AllowFile = False,
) -> None:
    """Print the name that an image will have, before it is built.

    Each image has its input hash as a tag. With a source that is pinned, a manifest can name
    the image beside the NixImage that makes it.
    """
    from niximage.cli.local import tag as command

    around = Surroundings(
        nixpkgs_url=nixpkgs_url,
        substituters="",
        trusted_public_keys="",
        credentials=credentials,
        allow_file=allow_file,
    )
    with told():
        given = options(Contents(file=file, base=base, platform=platform), around)
        command.run(given, registry=registry, as_json=as_json)


class Digest(enum.StrEnum):
    """Where `lock` takes an image's digest from."""

    BUILD = "build"
    CLUSTER = "cluster"


@grouped
def lock(
    *,
    files: Annotated[
        list[Path],
        typer.Option(
            "--file",
            "-f",
            metavar="FILE",
            exists=True,
            dir_okay=False,
            help="YAML with NixImages, perhaps among other objects. May be repeated.",
        ),
    ],
    update: Annotated[
        bool,
        typer.Option(
            "--update",
            help="Look up anew what was locked before, too, by the comment that the lock left.",
        ),
    ] = False,
    check: Annotated[
        bool,
        typer.Option(
            "--check", help="Change nothing, and fail where something would have to change."
        ),
    ] = False,
    nar_hash: Annotated[
        bool,
        typer.Option(
            "--nar-hash/--no-nar-hash",
            help="Fetch nixpkgs and write down what its files hash to, or only its revision.",
        ),
    ] = True,
    digest: Annotated[
        Digest | None,
        typer.Option(
            help="Set output.expectedDigest, too: by building the image on this machine, or from "
            "the status of the NixImage in the cluster.",
            show_default=False,
        ),
    ] = None,
    bucket: OptionalBucket = "",
    around: Surroundings,
    where: Where,
) -> None:
    """Pin sources in files: channels and branches become commits.

    Comments and order stay as they are; what the source was before stands in a comment beside
    the commit, so that --update finds a newer one.
    """
    from niximage.cli.local import lock as command

    with told():
        command.run(
            files,
            options(Contents(), around),
            where,
            how=command.How(update, check, nar_hash, digest.value if digest else ""),
            bucket=bucket,
        )


def attach(
    image: Annotated[
        str, typer.Argument(metavar="IMAGE", help="NAMESPACE/NAME@sha256:… or NAMESPACE/NAME:TAG.")
    ],
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE", exists=True, dir_okay=False, help="What to attach."),
    ],
    *,
    artifact_type: Annotated[
        str, typer.Option("--type", help="What it is, as a media type: application/spdx+json.")
    ],
    file_type: Annotated[
        str | None, typer.Option(help="What each file is, where that is another media type.")
    ] = None,
    annotation: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="What else to say. May be repeated."),
    ] = None,
    bucket: OptionalBucket = "",
    as_json: AsJson = False,
) -> None:
    """Attach an SBOM, a signature or any file to an image.

    Clients find it by the referrers API, or by the tag sha256-….
    """
    from niximage.cli.local import attach as command

    with told():
        command.run(
            image,
            files,
            bucket=bucket,
            artifact_type=artifact_type,
            file_type=file_type,
            annotations=annotation or [],
            as_json=as_json,
        )
