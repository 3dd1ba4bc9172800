"""The reference of the commands, made from the program itself. Pure."""

from collections.abc import Iterator
from typing import Any, Final

import typer

from niximage.cli.app import app

INTRODUCTION: Final = """# Commands

One program under two names: `niximage`, and as kubectl's plugin `kubectl niximage`. Exit codes: 0,
2 for a wrong option, 65 where the input is at fault, 75 where another try may help, 130 after
Ctrl-C. `--install-completion` sets the shell's completion up; kubectl completes by the program
`kubectl_complete-niximage`, which is installed with it.
"""


def commands_page() -> str:
    """The page as Markdown."""
    group: Any = typer.main.get_command(app)
    parts = [INTRODUCTION]
    panel = ""
    for name, command in group.commands.items():
        if command.hidden:
            continue
        if command.rich_help_panel != panel:
            panel = command.rich_help_panel
            parts.append(f"## {panel}\n")
        parts.append("\n".join(_command(name, command)))
    return "\n".join(parts)


def _command(name: str, command: Any) -> Iterator[str]:
    context = typer.Context(command, info_name=f"niximage {name}")
    usage = " ".join(command.collect_usage_pieces(context))
    yield f"### {name}\n\n```\nniximage {name} {usage}\n```\n"
    yield f"{command.help}\n"
    rows = [_row(each) for each in command.params if each.name != "help" and not each.hidden]
    if rows:
        yield "| | |\n|---|---|"
        yield from rows
    yield ""


def _row(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        names = f"`{parameter.metavar or parameter.name.upper()}`"
    else:
        names = ", ".join(f"`{each}`" for each in (*parameter.opts, *parameter.secondary_opts))
    words = [str(parameter.help or "")]
    if getattr(parameter, "envvar", None):
        words.append(f"Variable `{parameter.envvar}`.")
    default = getattr(parameter, "show_default", False)
    if isinstance(default, str):
        words.append(f"Default: `{default}`.")
    elif (
        default
        and parameter.default not in (None, "", False, [], ())
        and not callable(parameter.default)
    ):
        words.append(f"Default: `{getattr(parameter.default, 'value', parameter.default)}`.")
    if getattr(parameter, "required", False):
        words.append("*Required.*")
    return f"| {names} | {' '.join(words).replace('|', chr(92) + '|')} |"
