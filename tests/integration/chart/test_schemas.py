"""Everything the chart makes, against the schemas of all versions of Kubernetes it is for."""

import copy
import json
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from integration.chart.cases import CASES
from integration.chart.conftest import Json, Render
from integration.chart.kubernetes_schemas import KUBERNETES, PATTERN, write_schemas

pytestmark = pytest.mark.timeout(600)  # modules are downloaded at the first run


@pytest.fixture
def kubeconform(tools: Path) -> Path:
    """The program."""
    return tools / "kubeconform"


def check(program: Path, schemas: Path, objects: Sequence[Json]) -> str:
    """What kubeconform finds; "" if it finds nothing."""
    done = subprocess.run(
        [program, "-strict", "-schema-location", str(schemas / PATTERN)],
        input="\n---\n".join(map(json.dumps, objects)),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode == 0) is (not done.stdout), done.stderr
    return done.stdout


@pytest.mark.parametrize("version", KUBERNETES)
def test_all_objects_fit_the_schemas_of_kubernetes(
    kubeconform: Path, render: Render, tmp_path: Path, version: str
) -> None:
    write_schemas(version, tmp_path)
    # kubeconform refuses one object twice, and so the cases come one by one
    for case, values in CASES.items():
        objects = render(values).all
        assert check(kubeconform, tmp_path, objects) == "", case
    wrong = copy.deepcopy(render({}).get("Deployment", "niximage-operator"))
    wrong["spec"]["template"]["spec"]["containers"][0]["imagePolicy"] = "Always"
    found = check(kubeconform, tmp_path, [wrong])
    assert "imagePolicy" in found, "the check can fail"
