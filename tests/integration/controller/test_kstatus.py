"""Flux tells the states of an image apart: by its own library, as its controllers use it."""

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path

from unit.controller.gitops_states import STATES, TABLE, Json, without_status


def kstatus(tools: Path, objects: Sequence[Json]) -> list[str]:
    """What `wait: true` and health checks of Flux see of each object."""
    done = subprocess.run(
        [tools / "kstatus"],
        input="\n".join(map(json.dumps, objects)),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_flux_sees_each_state_as_it_is(tools: Path) -> None:
    found = kstatus(tools, [state() for state in STATES.values()])
    assert dict(zip(STATES, found, strict=True)) == {name: TABLE[name][0] for name in STATES}


def test_flux_knows_an_image_that_is_being_deleted(tools: Path) -> None:
    image = STATES["ready"]()
    image["metadata"]["deletionTimestamp"] = "2026-05-04T12:00:00Z"
    assert kstatus(tools, [image]) == ["Terminating"]


def test_without_the_default_status_a_new_image_would_count_as_current(tools: Path) -> None:
    assert kstatus(tools, [without_status()]) == ["Current"], "why the CRD has a default"
