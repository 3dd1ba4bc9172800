"""The program before it does anything: quick, and by the name that it was called by."""

import re
import subprocess
import sys
from importlib.metadata import version
from typing import Final

import pytest
import typer
from typer.testing import CliRunner

from niximage.cli.app import app
from niximage.cli.failure import told
from niximage.cli.program import program_name
from niximage.errors import Reason, Terminal

HEAVY: Final = {"aiohttp", "google", "kubernetes", "pydantic", "rich", "yaml", "zstandard"}
WIDTH: Final = 78  # of text, on a terminal of 80
_LIST_MODULES: Final = """
import sys
from niximage.cli import main
sys.argv = ["niximage", "--help"]
try:
    main()
finally:
    print(*sys.modules, file=sys.stderr)
"""


def test_help_comes_at_once_since_nothing_large_is_imported_for_it() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _LIST_MODULES],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    imported = {name.partition(".")[0] for name in done.stderr.split()}
    assert "typer" in imported
    assert not imported & HEAVY


def test_help_lists_commands_by_what_they_are_about() -> None:
    text = CliRunner().invoke(app, ["--help"]).stdout
    places = [text.index(title) for title in ("NixImages in a cluster:", "Operation:")]
    assert places[0] < text.index("  reconcile ") < places[1] < text.index("  serve ")
    assert "builder" not in text


def test_help_says_all_of_what_a_command_is_for_on_one_line() -> None:
    lines = CliRunner().invoke(app, ["--help"], terminal_width=WIDTH).stdout.splitlines()[1:]
    assert [line for line in lines if line.endswith("...")] == []
    assert max(map(len, lines)) < 80


@pytest.mark.parametrize(
    ("command", "line"),
    [
        ("status", "  NAME  The NixImage.  [required]"),
        ("status", "  -o, --output <text|json>   json for one document."),
        ("build", "  -f, --file FILE                 A NixImage, as YAML."),
        ("build", "  --source FOLDER                 A folder to take packages from, instead of"),
        ("build", "  --platform PLATFORM             What to build for: linux/amd64 or"),
        ("diff", "Usage: niximage diff [OPTIONS] {IMAGE} [OTHER]"),
    ],
)
def test_help_names_what_an_option_takes_and_no_type_of_python(command: str, line: str) -> None:
    text = CliRunner().invoke(app, [command, "--help"], terminal_width=WIDTH).stdout
    assert line in text.splitlines()
    assert "str" not in re.findall(r"\w+", text)


def test_the_version_is_told() -> None:
    said = CliRunner().invoke(app, ["--version"])
    assert said.exit_code == 0
    assert said.stdout.split()[1:] == [version("niximage-operator")]


@pytest.mark.parametrize(
    ("hint", "shown"), [("Did you mean x?", "x?"), ("Try x", "x."), ("x.", "x.")]
)
def test_a_hint_ends_as_a_sentence_does(
    capsys: pytest.CaptureFixture[str], hint: str, shown: str
) -> None:
    with pytest.raises(SystemExit), told():
        raise Terminal(Reason.INVALID_SPEC, "no", hint=hint)
    assert capsys.readouterr().err.endswith(f"{shown}\n")


@pytest.mark.parametrize(
    ("called", "name"),
    [
        ("/usr/bin/kubectl-niximage", "kubectl niximage"),
        ("/usr/bin/niximage", "niximage"),
        ("/x/niximage/__main__.py", "niximage"),
    ],
)
def test_the_program_knows_how_it_was_called(
    monkeypatch: pytest.MonkeyPatch, called: str, name: str
) -> None:
    monkeypatch.setattr(sys, "argv", [called])
    assert program_name() == name


def test_every_command_has_help_and_every_option_its_words() -> None:
    group = typer.main.get_command(app)
    commands = getattr(group, "commands", {})
    assert {"list", "status", "build"} <= commands.keys()
    for name, command in commands.items():
        assert command.help, name
        if not command.hidden:
            assert all(getattr(each, "help", None) for each in command.params), name
