"""Each command that a page shows is run, literally or by a named test, or it is said why not."""

import re
import subprocess
from pathlib import Path

import pytest

from support.documented import MOVED, NOT_RUN, PAGES, PROJECT, RUN_BY, SECTIONS, Place, loose, shown

COMMANDS = [each for page in PAGES for each in shown(page)]


def test_pages_show_commands_of_both_places() -> None:
    places = [each.place for each in COMMANDS]
    assert places.count(Place.NODE) > 50
    assert places.count(Place.FOLDER) > 25


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT)))
def test_no_command_hides_in_an_indented_block(page: Path) -> None:
    assert list(loose(page)) == [], "write it as ```console, after `$ `"


def test_the_tables_name_only_what_pages_show() -> None:
    texts = {each.text for each in COMMANDS}
    for table in (MOVED, RUN_BY, NOT_RUN):
        assert set(table) <= texts, set(table) - texts


@pytest.mark.parametrize(("command", "test"), RUN_BY.items(), ids=RUN_BY)
def test_what_is_left_to_a_test_is_left_to_one_that_exists(command: str, test: str) -> None:
    file, _, name = test.partition("::")
    text = (PROJECT / file).read_text()
    assert f"def {name}(" in text if name else command in text


@pytest.mark.parametrize(("section", "test"), SECTIONS.items())
def test_a_section_that_a_test_runs_has_commands(section: tuple[str, str, str], test: str) -> None:
    assert any(each.is_of(*section) for each in COMMANDS)
    file, _, name = test.partition("::")
    text = (PROJECT / file).read_text()
    assert f"def {name}(" in text
    assert f'"{section[1]}"' in text


def test_every_target_that_pages_name_is_one_that_make_lists() -> None:
    help_ = subprocess.run(
        ["make", "help"], cwd=PROJECT, capture_output=True, text=True, timeout=30, check=True
    )
    targets = {line.split()[0] for line in help_.stdout.splitlines()}
    for page in PAGES:
        for words in re.findall(r"(?:`|^\$ )make ([a-z -]+)", page.read_text(), re.MULTILINE):
            named = {word for word in words.split(" #")[0].split() if not word.startswith("-")}
            assert named <= targets, f"{page.name}: make {words}"
