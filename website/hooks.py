"""What MkDocs calls: adds the pages that are made from the code, the chart and the examples."""

import json
import re
from pathlib import Path
from typing import Any, Final

from mkdocs.structure.files import File, Files

from website.api_page import api_page
from website.commands_page import commands_page
from website.measured_table import measured_table

MEASURED: Final = "<!-- measured -->"
ROOT: Final = Path(__file__).parents[1]
_OUTSIDE: Final = re.compile(
    r"\[([^\]]*)\]\((?:\.\./|\./)?((?!https?:|#|mailto:)[^)#]*)(#[^)]*)?\)"
)
_LEADING: Final = re.compile(r"\A(#[^\n]*\n)+")


def on_files(files: Files, config: Any) -> Files:
    """Add the generated pages."""
    for name, text in pages().items():
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put in what was measured, where a page asks for it."""
    if MEASURED not in markdown:
        return markdown
    return markdown.replace(MEASURED, measured_table(json.loads(_read("bench/results.json"))))


def pages() -> dict[str, str]:
    """The generated pages, by name."""
    return {
        "api.md": api_page(),
        "commands.md": commands_page(),
        "examples.md": examples_page(),
        "measured.md": _unlinked(
            _read("bench/results.md").replace("# Results", "# What was measured")
        ),
        "chart.md": _unlinked(_read("charts/niximage-operator/README.md")),
        "changes.md": _unlinked(_read("CHANGELOG.md")),
    }


def examples_page() -> str:
    """The files of `examples/` with their comments as words."""
    shown = [
        "# Examples\n\nThe files of the folder `examples/`; each of them is applied by a test.\n"
    ]
    for file in sorted((ROOT / "examples").rglob("*.yaml")):
        text = file.read_text()
        leading = _LEADING.match(text)
        words = ""
        if leading is not None:
            words = "\n".join(line.lstrip("# ") for line in leading[0].splitlines()) + "\n\n"
            text = text[leading.end() :]
        name = file.relative_to(ROOT)
        shown.append(f"## {name}\n\n{words}```yaml\n{text.strip()}\n```\n")
    return "\n".join(shown)


def _read(name: str) -> str:
    return (ROOT / name).read_text()


def _unlinked(text: str) -> str:
    """A file of elsewhere, its links to files of the repository as plain names."""
    return _OUTSIDE.sub(lambda found: f"{found[1]} (`{found[2]}`)" if found[2] else found[0], text)
