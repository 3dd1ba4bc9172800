"""What a condition's reason asks of you: the troubleshooting page's entries, in the terminal.

The page is part of the program, so that it is there without a network, of the program's version.
"""

import difflib
import re
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import typer

from niximage.cli.program import program_name
from niximage.cli.tables import show, table
from niximage.errors import Reason, Terminal

PAGE: Final = Path(__file__).with_name("troubleshooting.md")
WIDTH: Final = 100  # columns of text that is read

_LINK: Final = re.compile(r"\[([^\]]*)\]\(([^)#]*)(?:#[^)]*)?\)")


@dataclass(frozen=True, slots=True)
class Entry:
    """What the page says of one reason.

    Attributes:
        section: the chapter that it stands in, which tells whether it passes by itself.
        paragraphs: the text, without links.
    """

    section: str
    paragraphs: tuple[str, ...]

    @property
    def first(self) -> str:
        """The first sentence."""
        return re.split(r"(?<=\.) ", self.paragraphs[0], maxsplit=1)[0]


def run(reason: str) -> None:
    """Print what a reason means and what to do, or all reasons with a line each.

    Args:
        reason: as a condition has it, in any case; "" for all.

    Raises:
        Terminal: there is no such reason.
    """
    page = entries(PAGE.read_text(encoding="utf-8"))
    if not reason:
        rows = [[name, entry.first] for name, entry in page.items()]
        show(table(("REASON", "MEANS"), rows))
        return
    name = find(reason, page)
    entry = page[name]
    typer.echo(f"{name} ({entry.section})")
    for paragraph in entry.paragraphs:
        typer.echo()
        typer.echo(textwrap.fill(paragraph, WIDTH, break_on_hyphens=False))


def entries(page: str) -> dict[str, Entry]:
    """The entries of the page, by reason, in its order. Pure.

    Args:
        page: Markdown with a chapter `## …` per kind and an entry `### Reason` per reason.
    """
    found: dict[str, Entry] = {}
    for chapter in re.split(r"^## ", page, flags=re.MULTILINE)[1:]:
        section, _, rest = chapter.partition("\n")
        for entry in re.split(r"^### ", rest, flags=re.MULTILINE)[1:]:
            name, _, body = entry.partition("\n")
            told = (" ".join(each.split()) for each in body.split("\n\n"))
            paragraphs = tuple(_LINK.sub(_without_link, each) for each in told if each)
            found[name.strip()] = Entry(section.strip(), paragraphs)
    return found


def find(reason: str, page: Mapping[str, Entry]) -> str:
    """The reason as it is spelt. Pure.

    Raises:
        Terminal: there is no such reason.
    """
    spelt = {name.casefold(): name for name in page}
    if (name := spelt.get(reason.casefold())) is not None:
        return name
    near = difflib.get_close_matches(reason.casefold(), spelt, n=1)
    raise Terminal(
        Reason.REFERENCE_NOT_FOUND,
        f"there is no reason {reason[:300]!r}",
        hint=f"Did you mean {spelt[near[0]]}?"
        if near
        else f"See `{program_name()} explain` for those that there are, and `{program_name()} "
        "status NAME` for that of an image",
    )


def more(reason: str) -> str:
    """Where to read on about a reason, for the end of what is said of it."""
    return f"more: {program_name()} explain {reason}"


def _without_link(link: re.Match[str]) -> str:
    return f"{link[1]} (docs/{link[2]})" if link[2] else link[1]
