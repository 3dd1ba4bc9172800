"""What the documentation says is what the code has."""

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import typer
import yaml
from website.hooks import MEASURED, pages
from website.measured_table import measured_table

from niximage.cli.app import app
from niximage.cli.cluster import explain
from niximage.errors import Reason

PROJECT: Final = Path(__file__).parents[3]
DOCS: Final = PROJECT / "docs"
PAGES: Final = [PROJECT / "README.md", *sorted(DOCS.glob("*.md"))]
GENERATED: Final = {"api.md", "changes.md", "chart.md", "commands.md", "examples.md", "measured.md"}
_CONSOLE: Final = re.compile(r"^ *```console\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
_INDENTED: Final = re.compile(r"^ {4}(?:\$ )?((?:kubectl )?niximage .*)$", re.MULTILINE)
_SPAN: Final = re.compile(r"`((?:kubectl )?niximage [a-z][^`\n]*)`")


def test_every_reason_has_its_entry_and_every_entry_a_reason() -> None:
    text = (DOCS / "troubleshooting.md").read_text()
    found = re.findall(r"^### (\S+)$", text, re.MULTILINE)
    assert sorted(found) == sorted(Reason)
    assert explain.PAGE.read_text() == text, "the program has the page"
    assert list(explain.entries(text)) == found
    assert all(entry.paragraphs and entry.section for entry in explain.entries(text).values())


def test_the_architecture_has_the_rooms_that_the_linter_holds_apart() -> None:
    contract = re.search(
        r"containers = \[\"niximage\"\]\nlayers = \[(.*?)\]",
        (PROJECT / "pyproject.toml").read_text(),
        re.DOTALL,
    )
    assert contract is not None
    layers = [line.strip() for line in re.findall(r'"(.*?)"', contract[1])]
    text = (DOCS / "architecture.md").read_text()
    assert "\n".join(f" {layer}" for layer in layers) in text
    rooms = {room.strip() for layer in layers for room in layer.split("|")}
    assert set(re.findall(r"^\| `([a-z]+)` \|", text, re.MULTILINE)) == rooms


def test_the_operating_guide_shows_the_figures_of_the_last_benchmark() -> None:
    results = json.loads((PROJECT / "bench" / "results.json").read_text())
    table = measured_table(results)
    assert f"{results['gateway']['gateway']['manifests']:,.0f} a second" in table
    assert len(table.splitlines()) > 10
    assert MEASURED in (DOCS / "operating.md").read_text()


def test_generated_pages_tell_of_every_kind_command_and_example() -> None:
    made = pages()
    assert made.keys() == GENERATED
    for heading in ("### NixImage.spec.source.nixpkgs\n", "### NixBuildClass.spec\n"):
        assert heading in made["api.md"]
    commands_shown = re.findall(r"^### ([a-z]+)$", made["commands.md"], re.MULTILINE)
    known = getattr(typer.main.get_command(app), "commands", {})
    assert commands_shown == [name for name, each in known.items() if not each.hidden]
    assert "## examples/hello.yaml" in made["examples.md"]


def test_the_navigation_has_every_page() -> None:
    config = yaml.safe_load((PROJECT / "website" / "mkdocs.yml").read_text())
    listed = [page for entry in config["nav"] for page in _pages(entry)]
    assert sorted(listed) == sorted({path.name for path in DOCS.glob("*.md")} | GENERATED)


def _pages(entry: Any) -> Iterator[str]:
    for value in entry.values():
        if isinstance(value, str):
            yield value
        else:
            for inner in value:
                yield from _pages(inner)


def commands() -> list[tuple[str, list[str]]]:
    """Every command of ours in a document, in words, with the document's name."""
    found = []
    for page in PAGES:
        text = page.read_text()
        lines = [line for block in _CONSOLE.findall(text) for line in block.splitlines()]
        lines = [line.strip().removeprefix("$ ") for line in lines if line.strip().startswith("$")]
        for line in [*lines, *_INDENTED.findall(text), *_SPAN.findall(text)]:
            for part in re.split(r"\s(?:\|\||[|;])\s", line):
                try:
                    words = shlex.split(part, comments=True)
                except ValueError:
                    continue  # half a line, wrapped in a span
                if words[:2] == ["kubectl", "niximage"]:
                    words = words[1:]
                if words[:1] == ["niximage"]:
                    found.append((page.name, words[1:]))
    return found


COMMANDS: Final = commands()


def test_documents_show_commands() -> None:
    assert len(COMMANDS) > 60
    shown = {words[0] for _, words in COMMANDS if words}
    known = set(getattr(typer.main.get_command(app), "commands", {}))
    assert known - shown <= {"builder", "crds", "operator"}


@pytest.mark.parametrize(("page", "words"), COMMANDS, ids=lambda each: " ".join(each)[:60])
def test_a_shown_command_exists_with_its_options(page: str, words: list[str]) -> None:
    group: Any = typer.main.get_command(app)
    name, *rest = words
    options = {"--help", "--install-completion", "--show-completion"}
    if not name.startswith("-"):
        assert name in group.commands, page
        for parameter in group.commands[name].params:
            options.update(parameter.opts, parameter.secondary_opts)
    given = [word.partition("=")[0] for word in [name, *rest] if re.match(r"--?[a-zA-Z]", word)]
    for option in given:
        assert option in options, f"{page}: niximage {' '.join(words)}"
