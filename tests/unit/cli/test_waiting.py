"""When waiting for a NixImage is over."""

from typing import Any

import pytest

from niximage.cli.cluster.facts import Facts
from niximage.cli.cluster.waiting import Outcome, outcome

BUILD = {
    "jobName": "web-1",
    "inputHash": "1" * 64,
    "attempt": 1,
    "startTime": "2026-05-01T11:57:30Z",
}


def image(
    *conditions: str, generation: int = 2, suspend: bool = False, asked: str = "", **status: Any
) -> Facts:
    """A NixImage with conditions, each `Type=Status`."""
    told = [
        {
            "type": each.partition("=")[0],
            "status": each.partition("=")[2],
            "reason": "Succeeded",
            "lastTransitionTime": "2026-05-01T11:00:00Z",
        }
        for each in conditions
    ]
    key = "reconcile.fluxcd.io/"
    annotations = {f"{key}requestedAt": asked, f"{key}forceAt": asked} if asked else {}
    return Facts.of(
        {
            "metadata": {
                "name": "web",
                "namespace": "team-a",
                "generation": generation,
                "annotations": annotations,
            },
            "spec": {"suspend": suspend},
            "status": {"observedGeneration": 2, "conditions": told, **status},
        }
    )


def answered(force: str = "now") -> dict[str, Any]:
    return {"lastHandledReconcileAt": "now", "lastHandledForceAt": force}


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (image("Ready=True"), Outcome.READY),
        (image(), Outcome.WAITING),
        (image("Ready=False"), Outcome.WAITING),
        (image("Ready=True", generation=3), Outcome.WAITING),
        (image("Ready=True", "Outdated=True"), Outcome.WAITING),
        (image("Ready=True", currentBuild=BUILD), Outcome.WAITING),
        (image("Ready=Unknown", "Reconciling=True"), Outcome.WAITING),
        (image("Ready=False", "Stalled=True"), Outcome.STALLED),
        (image("Ready=False", "Stalled=True", generation=3), Outcome.WAITING),
        (image("Ready=True", asked="now"), Outcome.WAITING),
        (image("Ready=True", asked="now", **answered()), Outcome.READY),
        (image("Ready=True", asked="now", **answered("before")), Outcome.WAITING),
        (image("Ready=True", asked="now", suspend=True), Outcome.STALLED),
    ],
)
def test_waiting_ends_when_spec_and_requests_are_answered(seen: Facts, expected: Outcome) -> None:
    assert outcome(seen) is expected
