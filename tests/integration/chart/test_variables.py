"""The chart's variables are those of the programs: none is unknown, values decide them all."""

from typing import Final

import pytest
import typer.main

from integration.chart.cases import CASES
from integration.chart.conftest import Render
from niximage.cli.app import app
from niximage.controller.settings import PASSED_ON

PROGRAMS: Final = [("operator", "operator"), ("gateway", "serve"), ("gc", "gc")]
FIXED: Final = {"NIXIMAGE_HOST", "NIXIMAGE_PORT", "NIXIMAGE_LISTEN"}
"""Of the pod's inside: what is seen of it has values."""
ARGUMENTS: Final = {
    "grace": "gc.grace",
    "dry_run": "gc.dryRun",
    "as_json": "for programs that call it",
    "roots": "for who asks no cluster",
    "clusters": "gc.clusters.secretName",
    "help": "",
}
"""Options without a variable, and the values that decide them."""


def known(command: str) -> set[str]:
    """The variables that a command's options have."""
    commands = typer.main.get_group(app).commands
    variables = {option.envvar for option in commands[command].params}
    return {each for each in variables if isinstance(each, str)}


@pytest.mark.parametrize(("component", "command"), PROGRAMS)
def test_pods_set_every_variable_of_their_program_and_no_other(
    render: Render, component: str, command: str
) -> None:
    given: set[str] = set()
    for values in CASES.values():
        manifests = render(values)
        if component in manifests.pods():
            given |= set(manifests.environment(component))
    ours = {name for name in given if name.startswith("NIXIMAGE_")}
    assert ours - PASSED_ON == known(command)


@pytest.mark.parametrize("command", [command for _, command in PROGRAMS])
def test_an_option_has_a_variable_or_a_value_of_its_own(command: str) -> None:
    options = typer.main.get_group(app).commands[command].params
    assert {each.name for each in options if not each.envvar} <= set(ARGUMENTS)


@pytest.mark.parametrize(("component", "command"), PROGRAMS)
def test_values_decide_every_variable(render: Render, component: str, command: str) -> None:
    """Each differs from case to case, or is left out in some; and so the schema knows its value."""
    found: dict[str, set[str | None]] = {name: set() for name in known(command) - FIXED}
    for values in CASES.values():
        manifests = render(values)
        if component in manifests.pods():
            given = manifests.environment(component)
            for name, seen in found.items():
                seen.add(given.get(name))
    assert {name for name, seen in found.items() if len(seen) == 1} == set()
