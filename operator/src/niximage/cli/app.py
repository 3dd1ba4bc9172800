"""The program: its commands, and its two names."""

from typing import Annotated, Final

import typer

from niximage.cli import program
from niximage.cli.cluster import commands as cluster
from niximage.cli.contents import commands as contents
from niximage.cli.local import commands as local
from niximage.cli.operation import commands as operation

app: Final = program.Program(
    name="niximage",
    cls=program.Panels,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for panel in (cluster, contents, local, operation):
    panel.add_to(app)


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
