"""What a reason asks of you, offline."""

import pytest
from typer.testing import CliRunner

from niximage.cli.app import app
from niximage.cli.cluster.commands import complete_reason
from niximage.cli.cluster.explain import Entry, entries, find
from niximage.errors import Reason, Terminal

PAGE = """# Troubleshooting

Words before.

## Stalled: a change helps

### BuildFailed
A package's build
fails. See [logs](kubectl.md#see) and [below](#more).

Choose another.

### OutOfDisk
Full.

## Pods

No entry.
"""


def test_the_page_is_read_by_reason() -> None:
    assert entries(PAGE) == {
        "BuildFailed": Entry(
            "Stalled: a change helps",
            (
                "A package's build fails. See logs (docs/kubectl.md) and below.",
                "Choose another.",
            ),
        ),
        "OutOfDisk": Entry("Stalled: a change helps", ("Full.",)),
    }
    assert entries(PAGE)["BuildFailed"].first == "A package's build fails."


@pytest.mark.parametrize("asked", ["BuildFailed", "buildfailed", "BUILDFAILED"])
def test_a_reason_is_found_in_any_case(asked: str) -> None:
    assert find(asked, entries(PAGE)) == "BuildFailed"


@pytest.mark.parametrize(
    ("asked", "hint"), [("BuildFialed", "Did you mean BuildFailed?"), ("web", "See `")]
)
def test_what_is_no_reason_is_told_so(asked: str, hint: str) -> None:
    with pytest.raises(Terminal, match="there is no reason") as caught:
        find(asked, entries(PAGE))
    assert caught.value.hint.startswith(hint)


def test_each_reason_is_explained_and_all_are_listed() -> None:
    run = CliRunner().invoke
    listed = run(app, ["explain"])
    assert sorted(line.split()[0] for line in listed.stdout.splitlines()[1:]) == sorted(Reason)
    for reason in Reason:
        shown = run(app, ["explain", reason])
        assert shown.exit_code == 0
        assert shown.stdout.startswith(f"{reason} (")
        assert max(map(len, shown.stdout.splitlines())) <= 100
        assert "](" not in shown.stdout


def test_the_shell_completes_reasons() -> None:
    assert complete_reason("build") == [
        "Building",
        "BuildFailed",
        "BuildTimeout",
        "BuildInterrupted",
    ]
