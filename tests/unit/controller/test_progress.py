"""How far a build is: what its pod's state and the end of its log tell, and what they may not."""

from typing import Any

import pytest

from niximage.api.status import Progress
from niximage.controller.progress import MARK, last_progress, pending, running_step
from niximage.controller.views import Absent

GOOD = MARK + ', "phase": "realise", "done": 1, "total": 2, "message": "x"}'


def test_the_last_line_of_progress_counts() -> None:
    log = f"hello\n{GOOD}\n{GOOD.replace('1', '2')}\nbuilding y"
    assert last_progress(log) == Progress(phase="realise", done=2, total=2, message="x")


@pytest.mark.parametrize(
    "line",
    [
        "",
        "no json",
        MARK,
        MARK + "}",
        MARK + ', "phase": "x", "done": "many"}',
        MARK + ', "phase": {}, "done": []}',
        "[" * 100_000,
        MARK + ', "phase": ' + "[" * 10_000,
    ],
)
def test_what_is_no_progress_is_passed_over(line: str) -> None:
    assert last_progress(line) is Absent.ABSENT
    assert isinstance(last_progress(f"{GOOD}\n{line}"), Progress)


def test_a_hostile_line_is_bounded_and_stripped() -> None:
    hostile = '", "done": -5, "total": 1e30, "message": "\\u001b[31mred' + "x" * 9000 + '"}'
    found = last_progress(MARK + ', "phase": "' + "p" * 100 + hostile)
    assert isinstance(found, Progress)
    assert (found.done, found.total) == (0, 1_000_000_000)
    assert len(found.phase.encode()) <= 32
    assert len(found.message.encode()) <= 300
    assert found.message.startswith("redx")


def statuses(**state: Any) -> dict[str, Any]:
    return {"status": {"initContainerStatuses": [{"name": "build", "state": state}]}}


def test_the_step_that_runs_is_read() -> None:
    assert running_step(statuses(running={})) == "build"
    assert running_step(statuses(waiting={"reason": "PodInitializing"})) is None
    assert running_step({}) is None


def test_a_pod_that_cannot_start_says_why() -> None:
    found = pending(statuses(waiting={"reason": "ImagePullBackOff", "message": "no such image"}))
    assert found == Progress(phase="Pending", message="ImagePullBackOff: no such image")
    condition = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": "0/1 nodes are available",
    }
    found = pending({"status": {"conditions": [condition]}})
    assert found == Progress(phase="Pending", message="Unschedulable: 0/1 nodes are available")
    assert pending(statuses(waiting={"reason": "ContainerCreating"})) is Absent.ABSENT
