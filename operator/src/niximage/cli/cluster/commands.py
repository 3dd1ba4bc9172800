"""The commands about NixImages in a cluster: their names, options and help."""

from typing import Annotated, Final

import typer

from niximage.cli.cluster.options import (
    AsDocument,
    Document,
    Form,
    Name,
    Names,
    Step,
    Timeout,
    Wait,
    Where,
)
from niximage.cli.failure import told
from niximage.cli.groups import grouped
from niximage.errors import Reason

PANEL: Final = "NixImages in a cluster"
TEN_MINUTES: Final = "10m"


def complete_reason(incomplete: str) -> list[str]:
    """The reasons that begin so, for the shell."""
    return [each for each in Reason if each.casefold().startswith(incomplete.casefold())]


def add_to(app: typer.Typer) -> None:
    """Add the commands to a program."""
    app.command("list", rich_help_panel=PANEL)(list_images)
    for command in (status, explain, logs, history, reconcile, retry, suspend, resume, cancel):
        app.command(rich_help_panel=PANEL)(command)


@grouped
def list_images(
    *,
    where: Where,
    everywhere: Annotated[
        bool, typer.Option("--all-namespaces", "-A", help="Those of all namespaces.")
    ] = False,
    output: Annotated[
        Form, typer.Option("--output", "-o", help="wide or json.", show_default=False)
    ] = Form.TABLE,
) -> None:
    """List NixImages with their state, revision and digest."""
    from niximage.cli.cluster import reading

    with told():
        reading.list_images(where, everywhere=everywhere, form=output)


@grouped
def status(*, name: Name, where: Where, output: AsDocument = Document.TEXT) -> None:
    """Show one NixImage: conditions, image, build, and why it failed."""
    from niximage.cli.cluster import reading

    with told():
        reading.status(where, name, form=output)


def explain(
    reason: Annotated[
        str,
        typer.Argument(
            metavar="[REASON]",
            help="Of a condition, such as BuildFailed; without it all are listed.",
            autocompletion=complete_reason,
            show_default=False,
        ),
    ] = "",
) -> None:
    """Say what a condition's reason means, and what to do."""
    from niximage.cli.cluster import explain as page

    with told():
        page.run(reason)


@grouped
def logs(
    *,
    name: Name,
    where: Where,
    follow: Annotated[
        bool,
        typer.Option("--follow", "-f", help="Wait for a build, and stay with it to its end."),
    ] = False,
    step: Annotated[
        Step | None, typer.Option(help="Only this step's log.", show_default=False)
    ] = None,
    bucket: Annotated[
        str,
        typer.Option(
            envvar="NIXIMAGE_BUCKET",
            help="Where the logs of builds are whose pods are gone: gs://bucket/prefix.",
        ),
    ] = "",
) -> None:
    """Print the log of a NixImage's running or latest build."""
    from niximage.cli.cluster import logs as command

    with told():
        command.run(where, name, follow=follow, step=step, bucket=bucket)


@grouped
def history(*, name: Name, where: Where, output: AsDocument = Document.TEXT) -> None:
    """List the builds of a NixImage that ended, newest first."""
    from niximage.cli.cluster import reading

    with told():
        reading.history(where, name, form=output)


@grouped
def reconcile(
    *,
    names: Names,
    where: Where,
    force: Annotated[
        bool, typer.Option("--force", help="Build even if these inputs were built before.")
    ] = False,
    wait: Wait = False,
    timeout: Timeout = TEN_MINUTES,
) -> None:
    """Look at the source now, and build if it moved."""
    from niximage.cli.cluster import actions

    with told():
        actions.reconcile(where, names, force=force, waits=wait, timeout=timeout)


@grouped
def retry(
    *, names: Names, where: Where, wait: Wait = False, timeout: Timeout = TEN_MINUTES
) -> None:
    """Try again what failed, without waiting for the next retry."""
    from niximage.cli.cluster import actions

    with told():
        actions.retry(where, names, waits=wait, timeout=timeout)


@grouped
def suspend(*, names: Names, where: Where) -> None:
    """Begin nothing more for NixImages; a build that runs may finish."""
    from niximage.cli.cluster import actions

    with told():
        actions.suspend(where, names, suspended=True)


@grouped
def resume(
    *, names: Names, where: Where, wait: Wait = False, timeout: Timeout = TEN_MINUTES
) -> None:
    """Go on with NixImages that were suspended or cancelled."""
    from niximage.cli.cluster import actions

    with told():
        actions.resume(where, names, waits=wait, timeout=timeout)


@grouped
def cancel(*, names: Names, where: Where) -> None:
    """Stop running builds, and suspend their NixImages.

    Without the latter the operator would start them again.
    """
    from niximage.cli.cluster import actions

    with told():
        actions.cancel(where, names)
