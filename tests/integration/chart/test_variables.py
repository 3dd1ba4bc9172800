"""The chart's variables are those of the programs: none is unknown, and none is forgotten."""

import pytest
import typer.main

from integration.chart.cases import CASES
from integration.chart.conftest import Render
from niximage.cli.app import app
from niximage.controller.settings import PASSED_ON


def known(command: str) -> set[str]:
    """The variables that a command's options have."""
    commands = typer.main.get_group(app).commands
    variables = {option.envvar for option in commands[command].params}
    return {each for each in variables if isinstance(each, str)}


@pytest.mark.parametrize(
    ("component", "command"), [("operator", "operator"), ("gateway", "serve"), ("gc", "gc")]
)
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
