"""Options and arguments of the commands about NixImages in a cluster."""

import enum
from dataclasses import dataclass
from typing import Annotated

import typer


def complete_name(context: typer.Context, incomplete: str) -> list[str]:
    """The NixImages whose names begin so, for the shell; none where the cluster is silent."""
    from niximage.cli.cluster.connect import names_for_shell

    given = context.params
    where = Where(
        given.get("namespace") or "", given.get("context") or "", given.get("kubeconfig") or ""
    )
    return [name for name in names_for_shell(where) if name.startswith(incomplete)]


@dataclass(frozen=True, slots=True)
class Where:
    """Which cluster, and which namespace of it; "" for what the kubeconfig says."""

    namespace: Annotated[
        str, typer.Option("--namespace", "-n", help="The namespace, if not the context's own.")
    ] = ""
    context: Annotated[str, typer.Option(help="The context of the kubeconfig to use.")] = ""
    kubeconfig: Annotated[
        str, typer.Option(help="The kubeconfig, if not $KUBECONFIG or ~/.kube/config.")
    ] = ""


class Form(enum.StrEnum):
    """How a table is printed."""

    TABLE = "table"
    WIDE = "wide"
    JSON = "json"


class Document(enum.StrEnum):
    """How an answer is printed."""

    TEXT = "text"
    JSON = "json"


class Step(enum.StrEnum):
    """A container of a build's pod."""

    FETCH = "fetch"
    BUILD = "build"
    PUBLISH = "publish"


Name = Annotated[
    str,
    typer.Argument(
        metavar="NAME", help="The NixImage.", autocompletion=complete_name, show_default=False
    ),
]
Names = Annotated[
    list[str],
    typer.Argument(
        metavar="NAME",
        help="The NixImages, one or more.",
        autocompletion=complete_name,
        show_default=False,
    ),
]
AsDocument = Annotated[
    Document, typer.Option("--output", "-o", help="json for one document.", show_default=False)
]
Wait = Annotated[
    bool,
    typer.Option(
        "--wait",
        help="Wait until it is Ready; the exit code is 65 where the input is at fault, and 75 "
        "where another try may help, or the time is over.",
    ),
]
Timeout = Annotated[str, typer.Option(help="How long to wait: 90s, 10m, 1h30m.")]
