"""`niximage build`, `niximage plan` and `niximage tag`: an image without a cluster."""

from pathlib import Path
from typing import Annotated

import typer

from niximage.cli.failure import told
from niximage.cli.options import (
    NIXPKGS,
    AsJson,
    LocalBuilds,
    LocalBuildsOption,
    NixpkgsUrl,
    OptionalBucket,
    PlatformOption,
    PublicKeys,
    Substituters,
)

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


def build(
    *,
    file: File = None,
    package: Packages = None,
    source: SourceFolder = None,
    path: SourcePath = ".",
    attr: SourceAttribute = None,
    channel: Channel = None,
    name: Name = None,
    base: BaseOption = None,
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
    nixpkgs_url: NixpkgsUrl = NIXPKGS,
    substituters: Substituters,
    trusted_public_keys: PublicKeys,
    local_builds: LocalBuildsOption = LocalBuilds.ALLOWED,
    platform: PlatformOption = None,
    credentials: CredentialsFolder = None,
    allow_file: AllowFile = False,
) -> None:
    """Build an image on this machine: what the operator does, without a cluster.

    Progress goes to standard error. The exit code is 65 where the input is at fault, and 75
    where another try may help.
    """
    from niximage.cli import build as command
    from niximage.cli.wanted import Options

    options = Options(
        file=file,
        packages=tuple(package or ()),
        source=source,
        path=path,
        attr=attr,
        channel=channel,
        name=name,
        base=base,
        nixpkgs_url=nixpkgs_url,
        substituters=tuple(substituters.split()),
        trusted_public_keys=tuple(trusted_public_keys.split()),
        local_builds=local_builds is LocalBuilds.ALLOWED,
        platforms=tuple(platform or ()),
        allow_file=allow_file,
        credentials=credentials,
    )
    with told():
        command.run(options, bucket=bucket, outputs=output or [], as_json=as_json)


def plan(
    *,
    file: File = None,
    package: Packages = None,
    source: SourceFolder = None,
    path: SourcePath = ".",
    attr: SourceAttribute = None,
    channel: Channel = None,
    name: Name = None,
    base: BaseOption = None,
    bucket: OptionalBucket = "",
    as_json: AsJson = False,
    nixpkgs_url: NixpkgsUrl = NIXPKGS,
    substituters: Substituters,
    trusted_public_keys: PublicKeys,
    local_builds: LocalBuildsOption = LocalBuilds.ALLOWED,
    platform: PlatformOption = None,
    credentials: CredentialsFolder = None,
    allow_file: AllowFile = False,
) -> None:
    """Print the layers that an image would have; nothing is packed.

    What a binary cache has is not even downloaded: the plan takes its description alone. Other
    packages are built.
    """
    from niximage.cli import plan as command
    from niximage.cli.wanted import Options

    options = Options(
        file=file,
        packages=tuple(package or ()),
        source=source,
        path=path,
        attr=attr,
        channel=channel,
        name=name,
        base=base,
        nixpkgs_url=nixpkgs_url,
        substituters=tuple(substituters.split()),
        trusted_public_keys=tuple(trusted_public_keys.split()),
        local_builds=local_builds is LocalBuilds.ALLOWED,
        platforms=tuple(platform or ()),
        allow_file=allow_file,
        credentials=credentials,
    )
    with told():
        command.run(options, bucket=bucket, as_json=as_json)


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
    """Print the name that an image gets from its inputs alone, before it is built.

    Each image has its input hash as a tag. With a source that is pinned, a manifest can name
    the image beside the NixImage that makes it.
    """
    from niximage.cli import tag as command
    from niximage.cli.wanted import Options

    options = Options(
        file=file,
        packages=(),
        source=None,
        path=".",
        attr=None,
        channel=None,
        name=None,
        base=base,
        nixpkgs_url=nixpkgs_url,
        substituters=(),
        trusted_public_keys=(),
        local_builds=True,
        platforms=tuple(platform or ()),
        allow_file=allow_file,
        credentials=credentials,
    )
    with told():
        command.run(options, registry=registry, as_json=as_json)
