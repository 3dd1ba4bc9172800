"""When waiting for a NixImage is over."""

from typing import Any

import pytest

from niximage.cli.cluster.facts import Facts
from niximage.cli.cluster.waiting import Outcome, outcome, wait
from niximage.controller.cluster.connection import NotAllowed
from niximage.errors import Reason, Retryable, Terminal

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


class Away:
    """A cluster whose API server is away at first."""

    def __init__(self, *answers: Exception | dict[str, Any]) -> None:
        self.answers = list(answers)

    async def image(self, name: str) -> dict[str, Any]:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return {"metadata": {"name": name, "namespace": "team-a"}, **answer}


READY = {
    "status": {
        "observedGeneration": 0,
        "conditions": [
            {
                "type": "Ready",
                "status": "True",
                "reason": "Succeeded",
                "lastTransitionTime": "2026-05-01T11:00:00Z",
            }
        ],
    }
}


async def test_an_api_server_that_is_away_for_a_moment_ends_no_wait(
    capsys: pytest.CaptureFixture[str],
) -> None:
    silent = Retryable(Reason.CLUSTER_UNAVAILABLE, "the API server does not answer")
    here: Any = Away(silent, READY)
    assert (await wait(here, "web", timeout=60)).ready == "True"
    assert capsys.readouterr().err == "the API server does not answer; asked again\n"
    here = Away(silent)
    with pytest.raises(Retryable, match="does not answer"):
        await wait(here, "web", timeout=-1)
    here = Away(NotAllowed(Reason.CLUSTER_UNAVAILABLE, "403"))
    with pytest.raises(NotAllowed):
        await wait(here, "web", timeout=60)


async def test_a_forced_build_that_failed_is_told_though_the_image_of_before_is_ready() -> None:
    build = {
        "id": "1",
        "jobName": "web-1",
        "result": "Failed",
        "reason": "BuildFailed",
        "message": "hello does not build",
        "revision": "1" * 40,
        "startTime": "2026-05-01T11:00:00Z",
        "completionTime": "2026-05-01T11:01:00Z",
    }
    after = {"status": {**READY["status"], "history": [build]}}
    here: Any = Away({"status": {"observedGeneration": -1}}, after)
    with pytest.raises(Terminal, match="image of before is kept: hello does not build"):
        await wait(here, "web", timeout=60)
    here = Away(after)  # it failed long ago
    assert (await wait(here, "web", timeout=60)).ready == "True"
