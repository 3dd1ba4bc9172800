"""The commands' names, options and help. What they do is elsewhere, and imported late."""

from pathlib import Path
from typing import Annotated, Final

import typer

from niximage.cli import images, program, services
from niximage.cli.cluster import commands as cluster
from niximage.cli.contents import commands as contents
from niximage.cli.failure import told
from niximage.cli.options import (
    AsJson,
    Bucket,
    OptionalBucket,
)

app: Final = program.Program(
    name="niximage",
    cls=program.Panels,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
LOCALLY: Final = "Images without a cluster"
OPERATION: Final = "Operation"
builder: Final = typer.Typer(
    help="The steps of a build Job; the operator starts them.", hidden=True
)
app.add_typer(builder, name="builder")

cluster.add_to(app)
contents.add_to(app)
app.command(rich_help_panel=LOCALLY)(images.build)
app.command(rich_help_panel=LOCALLY)(images.plan)
app.command(rich_help_panel=LOCALLY)(images.tag)
app.command(rich_help_panel=LOCALLY)(images.lock)
app.command(rich_help_panel=OPERATION)(services.operator)
app.command(rich_help_panel=OPERATION)(services.serve)


@app.callback()
def about(
    *,
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            help="Show the version of this program and exit.",
            callback=program.show_version,
            is_eager=True,
        ),
    ] = False,
) -> None:
    """Run Nix packages on Kubernetes: a NixImage in, an image digest out."""


def main() -> None:
    """The program `niximage`, and kubectl's plugin `kubectl niximage`."""
    program.run(app)


def complete() -> None:
    """The program `kubectl_complete-niximage`: what kubectl asks where its user presses Tab."""
    program.complete(app)


@app.command(rich_help_panel=OPERATION)
def crds(
    *,
    write: Annotated[
        Path | None, typer.Option(help="Write the files into this folder instead.")
    ] = None,
    check: Annotated[
        Path | None, typer.Option(help="Fail unless the files in this folder are up to date.")
    ] = None,
) -> None:
    """Print the CustomResourceDefinitions, for `kubectl apply -f -`."""
    from niximage.cli import crds as command

    with told():
        command.run(write=write, check=check)


@app.command(rich_help_panel=OPERATION)
def gc(
    *,
    bucket: Bucket,
    grace: Annotated[
        str,
        typer.Option(
            help="How long what is not needed stays, at least 1h; give it to this command as "
            "often as that."
        ),
    ] = "24h",
    roots: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            help="A file with the digests of images that must stay, instead of asking the "
            "cluster: any text with sha256:… in it, such as NixImages as JSON. An empty file "
            "leaves only what tags name.",
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    as_json: AsJson = False,
) -> None:
    """Delete from a bucket what no NixImage, tag or build needs.

    Safe at any time, beside builds and pulls, and safe to interrupt.
    """
    from niximage.cli import gc as command

    with told():
        command.run(bucket, roots=roots, grace=grace, dry_run=dry_run, as_json=as_json)


@app.command(rich_help_panel=LOCALLY)
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
    from niximage.cli import attach as command

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


@builder.command("fetch")
def builder_fetch() -> None:
    """Fetch what takes credentials or a volume; evaluates nothing."""
    from niximage.builder.steps import fetch_step

    raise typer.Exit(fetch_step())


@builder.command("build")
def builder_build() -> None:
    """Fetch, evaluate, realise; runs what tenants wrote, without credentials."""
    from niximage.builder.steps import build_step

    raise typer.Exit(build_step())


@builder.command("publish")
def builder_publish() -> None:
    """Plan, pack what is missing, upload, report."""
    from niximage.builder.steps import publish_step

    raise typer.Exit(publish_step())
