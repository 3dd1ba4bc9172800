"""Tables on standard output, as wide as they are: as kubectl prints them."""

import datetime as dt
import io
from collections.abc import Iterable
from typing import Final

import typer
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

_WIDTH: Final = 10_000  # columns: nothing is cut, and a copied digest is whole
_UNITS: Final = (("d", 86400), ("h", 3600), ("m", 60))

Cell = str | Text


def table(columns: Iterable[str], rows: Iterable[Iterable[Cell]], *, right: str = "") -> Table:
    """A table as kubectl prints them: no lines, titles in capitals. Pure.

    Args:
        columns: the titles.
        rows: the cells, as many each as there are columns.
        right: the titles of columns of numbers, separated by blanks.
    """
    made = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 3, 0, 0))
    names = tuple(columns)
    for name in names:
        made.add_column(
            name,
            justify="right" if name in right.split() else "left",
            no_wrap=True,
            overflow="ellipsis",
        )
    for row in rows:
        # What others wrote is no markup.
        made.add_row(*(cell if isinstance(cell, Text) else Text(cell) for cell in row))
    return made


def show(*shown: RenderableType, cut: bool = False) -> None:
    """Print tables and texts, one after the other.

    Args:
        shown: what to print.
        cut: whether a terminal gets only as much of a line as it has columns; else it wraps what
            is too wide. Files and pipes get all of it.
    """
    terminal = Console()
    color = terminal.is_terminal and not terminal.no_color
    width = terminal.width if cut and terminal.is_terminal else _WIDTH
    typer.echo(_rendered(shown, color=color, width=width), nl=False)


def plain(*shown: RenderableType) -> str:
    """Tables and texts without colours, and no blanks at the ends of lines. Pure."""
    return _rendered(shown, color=False)


def _rendered(shown: Iterable[RenderableType], *, color: bool, width: int = _WIDTH) -> str:
    written = io.StringIO()
    console = Console(
        file=written,
        width=width,
        color_system="standard" if color else None,
        force_terminal=color,
        highlight=False,
    )
    for each in shown:
        console.print(each)
    return "".join(f"{line.rstrip()}\n" for line in written.getvalue().splitlines())


def age(since: dt.datetime | None, now: dt.datetime) -> str:
    """How long ago something was, as kubectl says it: `45s`, `12m`, `3h`, `5d`. Pure."""
    if since is None:
        return "-"
    return duration((now - since).total_seconds())


def duration(seconds: float) -> str:
    """A length of time in its largest units: `45s`, `2m10s`, `3h`, `5d`. Pure."""
    left = max(int(seconds), 0)
    for unit, length in _UNITS:
        if left >= length:
            count, rest = divmod(left, length)
            if unit == "m" and count < 10 and rest:  # noqa: PLR2004 (as kubectl does)
                return f"{count}m{rest}s"
            return f"{count}{unit}"
    return f"{left}s"
