"""docs/security.md names a test for each promise: each of them is there."""

import re
from pathlib import Path

PROJECT = Path(__file__).parents[2]
PAGE = PROJECT / "docs" / "security.md"
_NAMED = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")


def test_each_test_that_the_page_names_exists() -> None:
    named = _NAMED.findall(PAGE.read_text())
    assert len(named) > 30
    for file, test in named:
        assert f"def {test}(" in (PROJECT / file).read_text(), f"{file}::{test}"


def test_each_row_of_the_tables_of_threats_names_a_test() -> None:
    lines = PAGE.read_text().splitlines()
    starts = [n for n, line in enumerate(lines) if line.startswith("| Threat ")]
    assert len(starts) > 4
    for start in starts:
        for line in lines[start + 2 :]:
            if not line.startswith("|"):
                break
            assert _NAMED.search(line), line


def test_every_file_of_attacks_is_named() -> None:
    page = PAGE.read_text()
    for file in PROJECT.glob("tests/**/test_attackers.py"):
        for test in re.findall(r"^def (test_\w+)", file.read_text(), re.MULTILINE):
            assert f"{file.relative_to(PROJECT)}::{test}" in page, test
