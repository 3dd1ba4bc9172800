"""The commands about images without a cluster: their names, options and help."""

import enum
from pathlib import Path
from typing import Annotated, Final

import typer

from niximage.cli.cluster.options import Where
from niximage.cli.failure import told
from niximage.cli.groups import grouped
from niximage.cli.local.options import (
    AllowFile,
    BaseOption,
    Contents,
    CredentialsFolder,
    PlatformOption,
    Surroundings,
)
from niximage.cli.options import NIXPKGS, AsJson, NixpkgsUrl, OptionalBucket

PANEL: Final = "Images without a cluster"


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
        command.run(contents, around, bucket=bucket, outputs=output or [], as_json=as_json)


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
        command.run(contents, around, bucket=bucket, as_json=as_json)


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
        contents = Contents(file=file, base=base, platform=platform)
        command.run(contents, around, registry=registry, as_json=as_json)


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
            around,
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
