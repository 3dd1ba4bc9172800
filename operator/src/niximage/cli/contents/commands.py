"""The commands about what is in an image: their names, options and help."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Final

import typer

from niximage.cli.cluster.options import AsDocument, Document, Where, complete_name
from niximage.cli.failure import told
from niximage.cli.groups import grouped

if TYPE_CHECKING:  # help is to come at once
    from niximage.cli.contents.locate import Places

PANEL: Final = "What is in an image"


@dataclass(frozen=True, slots=True)
class From:
    """Where images are read from."""

    registry: Annotated[
        str,
        typer.Option(help="The registry to read from, if not the image's own: http://HOST:PORT."),
    ] = ""
    bucket: Annotated[
        str,
        typer.Option(help="The bucket to read from instead: gs://bucket/prefix or file:///folder."),
    ] = ""
    through_cluster: Annotated[
        bool,
        typer.Option(
            "--through-cluster",
            help="Reach a gateway by way of the API server: where the registry is a node's own "
            "loopback. Needs the right to get pods/proxy.",
        ),
    ] = False
    platform: Annotated[
        str, typer.Option(help="Which image of several platforms: linux/arm64.")
    ] = ""


def places_of(source: From) -> "Places":
    """The options as the commands take them."""
    from niximage.cli.contents.locate import Places

    return Places(source.registry, source.bucket, source.platform, source.through_cluster)


Image = Annotated[
    str,
    typer.Argument(
        metavar="IMAGE",
        help="A NixImage; with @sha256:… or :TAG another build of it; or "
        "[HOST/]NAMESPACE/NAME@sha256:…",
        autocompletion=complete_name,
        show_default=False,
    ),
]


def add_to(app: typer.Typer) -> None:
    """Add the commands to a program."""
    for command in (tree, why, diff, sbom, export):
        app.command(rich_help_panel=PANEL)(command)


@grouped
def tree(
    *,
    image: Image,
    where: Where,
    source: From,
    depth: Annotated[int, typer.Option(min=0, max=100, help="Steps below the packages.")] = 2,
    flat: Annotated[
        bool, typer.Option("--flat", help="One line per store path, the largest first.")
    ] = False,
    output: AsDocument = Document.TEXT,
) -> None:
    """Show an image's packages and what they need, with sizes."""
    from niximage.cli.contents import tree as command

    places = places_of(source)
    with told():
        as_json = output is Document.JSON
        command.run(where, places, image, depth=depth, flat=flat, as_json=as_json)


@grouped
def why(
    *,
    image: Image,
    path: Annotated[
        str, typer.Argument(metavar="PATH", help="A store path, or a name: glibc, glibc-2.40.")
    ],
    where: Where,
    source: From,
    everyone: Annotated[
        bool, typer.Option("--all", help="The way from every package, not only the shortest.")
    ] = False,
    output: AsDocument = Document.TEXT,
) -> None:
    """Show which package brings something into an image."""
    from niximage.cli.contents import why as command

    places = places_of(source)
    with told():
        as_json = output is Document.JSON
        command.run(where, places, image, path, everyone=everyone, as_json=as_json)


@grouped
def diff(
    *,
    image: Image,
    other: Annotated[
        str,
        typer.Argument(
            metavar="OTHER",
            help="The image after; without it, the last two of the NixImage.",
            autocompletion=complete_name,
            show_default=False,
        ),
    ] = "",
    where: Where,
    source: From,
    output: AsDocument = Document.TEXT,
) -> None:
    """Show what changes between two images, and what a pull costs."""
    from niximage.cli.contents import diff as command

    places = places_of(source)
    with told():
        command.run(where, places, image, other, as_json=output is Document.JSON)


@grouped
def sbom(*, image: Image, where: Where, source: From) -> None:
    """Print an image's bill of materials, as CycloneDX JSON.

    Grype and other scanners read it.
    """
    from niximage.cli.contents import sbom as command

    places = places_of(source)
    with told():
        command.run(where, places, image)


@grouped
def export(
    *,
    image: Image,
    outputs: Annotated[
        list[str],
        typer.Option(
            "--output",
            "-o",
            help="Where to: oci:FOLDER, oci-archive:FILE or docker-archive:FILE, which "
            "`docker load` takes. May be repeated.",
        ),
    ],
    where: Where,
    source: From,
) -> None:
    """Write an image to a file that docker and podman load."""
    from niximage.cli.contents import export as command

    places = places_of(source)
    with told():
        command.run(where, places, image, outputs)
