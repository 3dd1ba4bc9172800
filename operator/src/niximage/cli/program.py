"""What the program is called, and how it begins: by itself, or as kubectl's plugin."""

import io
import os
import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import typer
from typer.core import TyperCommand, TyperGroup
from typer.models import CommandFunctionType

PLUGIN: Final = "kubectl-niximage"
COMPLETE: Final = "_NIXIMAGE_COMPLETE"
_TYPE: Final = re.compile(r" <([^|>]+)>$")  # of Python, as typer shows it; choices have a |
_PATHS: Final = {"file": "FILE", "dir": "FOLDER"}
_NO_FILES: Final = ":4"  # cobra's ShellCompDirectiveNoFileComp, which ends what kubectl reads


def program_name() -> str:
    """How the user called this program: `niximage`, or `kubectl niximage`."""
    return "kubectl niximage" if Path(sys.argv[0]).stem == PLUGIN else "niximage"


class Program(typer.Typer):
    """A program whose commands explain themselves in words of the command line."""

    def command(
        self, *arguments: Any, **settings: Any
    ) -> Callable[[CommandFunctionType], CommandFunctionType]:
        """A command, as typer's."""
        return super().command(*arguments, **{"cls": Command, **settings})


class Command(TyperCommand):
    """Shows what an option takes by a name for it, `--file FILE`, not by its type in Python."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the lists of arguments and options."""
        for title, kind in (("Arguments", "argument"), ("Options", "option")):
            shown = [each for each in self.get_params(ctx) if each.param_type_name == kind]
            if rows := [_row(each, ctx) for each in shown if not getattr(each, "hidden", False)]:
                with formatter.section(title):
                    formatter.write_dl(rows)


def _row(parameter: Any, ctx: Any) -> tuple[str, str]:
    """An argument's or option's line of help: its names and what it takes, and what it is for."""
    names, text = parameter.get_help_record(ctx)
    if found := _TYPE.search(names):
        taken = _PATHS.get(found[1]) or parameter.name.rpartition("_")[2].upper()
        names = names[: found.start()]
        if parameter.param_type_name == "option":
            names += f" {taken}"
    return names.replace(" <|", " <"), re.sub(r"default: \((.+)\)", r"default: \1", text)


class Panels(TyperGroup):
    """Lists commands by what they are about, in plain text: panels would cost half a second."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002 (click's own)
        """Write one list of commands per panel, in the order of the panels' first commands."""
        panels: dict[str, list[Any]] = {}
        for command in self.commands.values():
            if not command.hidden:
                panel = getattr(command, "rich_help_panel", None)
                panels.setdefault(panel if isinstance(panel, str) else "Commands", []).append(
                    command
                )
        for title, commands in panels.items():
            with formatter.section(title):
                limit = formatter.width - 6 - max(len(each.name) for each in commands)
                formatter.write_dl(
                    [(each.name, each.get_short_help_str(limit)) for each in commands]
                )


def show_version(is_asked: bool) -> None:
    """Print the version, and end, where --version is given."""
    if is_asked:
        from importlib.metadata import version

        typer.echo(f"{program_name()} {version('niximage-operator')}")
        raise typer.Exit


def run(app: typer.Typer) -> None:
    """Run the program as it was called."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # not every terminal has an arrow or an ellipsis
    app(prog_name=program_name(), complete_var=COMPLETE)


def complete(app: typer.Typer) -> None:
    """Answer kubectl, which asks `kubectl_complete-niximage` what may come next.

    Prints one candidate per line, then what else the shell may do.
    """
    words = sys.argv[1:] or [""]
    os.environ["COMP_WORDS"] = shlex.join(["niximage", *words])
    os.environ["COMP_CWORD"] = str(len(words))
    os.environ[COMPLETE] = "complete_bash"
    try:
        app(args=[], prog_name="niximage", complete_var=COMPLETE)
    finally:
        typer.echo(_NO_FILES)
