"""How far a build is: what its pod's state and the end of its log tell, and what they may not."""

import asyncio
import datetime as dt
from dataclasses import replace
from typing import Any, cast

import pytest

from niximage.api.status import Progress
from niximage.controller.builds.progress import (
    MARK,
    ProgressReader,
    last_progress,
    lost,
    pending,
    running_step,
    starting,
)
from niximage.controller.cluster.client import Cluster
from niximage.controller.job_view import JobView
from niximage.controller.views import Absent
from unit.controller.states import NOW, job, nix_image

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
        MARK + ', "phase": "Pending", "message": "I do not start"}',
        MARK + ', "phase": {}, "done": []}',
        "[" * 100_000,
        MARK + ', "phase": ' + "[" * 10_000,
    ],
)
def test_what_is_no_progress_is_passed_over(line: str) -> None:
    assert last_progress(line) is None
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
    assert found is not None
    assert found.phase == "Pending"
    assert found.message.startswith("ImagePullBackOff: no such image. Nodes must")
    condition = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": "0/1 nodes are available",
    }
    found = pending({"status": {"conditions": [condition]}})
    assert found == Progress(phase="Pending", message="Unschedulable: 0/1 nodes are available")
    assert pending(statuses(waiting={"reason": "ContainerCreating"})) is None


def test_a_pod_that_has_its_node_is_starting() -> None:
    scheduled = {"type": "PodScheduled", "status": "True"}
    pod = {"status": {"phase": "Pending", "conditions": [scheduled]}}
    assert starting(pod) == Progress(phase="start")
    assert starting({"status": {"phase": "Pending"}}) is Absent.ABSENT
    assert starting({"status": {"phase": "Succeeded", "conditions": [scheduled]}}) is Absent.ABSENT


def test_a_pod_that_should_have_ended_is_lost() -> None:
    metadata = {"name": "web-1-x", "deletionTimestamp": "2026-05-04T12:00:05Z"}
    why = {"type": "DisruptionTarget", "status": "True", "message": "Taint manager: deleting"}
    pod = {"metadata": metadata, "spec": {"nodeName": "n1"}, "status": {"conditions": [why]}}
    assert lost(pod, NOW) is None, "it has five seconds to end"
    found = lost(pod, NOW + dt.timedelta(seconds=6))
    assert found is not None
    assert found.phase == "Lost"
    assert "its node n1 does not answer (Taint manager: deleting)" in found.message
    assert lost({"metadata": {"name": "web-1-x"}}, NOW) is None


class Pods:
    """A cluster with one pod, and a count of the looks at it."""

    def __init__(self) -> None:
        self.looks = 0
        self.found: list[dict[str, Any]] = []
        self.events: list[dict[str, Any]] = []

    async def list_pods(self, _namespace: str, _job: str) -> list[dict[str, Any]]:
        self.looks += 1
        return self.found

    async def list_events_of(self, *_: object) -> list[dict[str, Any]]:
        return self.events

    async def read_log(self, *_: object, **__: object) -> str:
        return "no line of progress\n"


def pod(**state: Any) -> dict[str, Any]:
    metadata = {"name": "web-1-x", "creationTimestamp": "2026-05-04T12:00:00Z"}
    return {"metadata": metadata, **statuses(**state)}


def test_what_keeps_a_pod_from_starting_is_seen_early_and_forgotten_when_it_runs() -> None:
    pods, now = Pods(), 0.0
    reader = ProgressReader(cast("Cluster", pods), lambda: now)
    of = job(nix_image())

    def read(*, fresh: bool = False) -> Progress | Absent:
        return asyncio.run(reader.read(of, fresh=fresh))

    assert read() is Absent.ABSENT
    assert pods.looks == 0
    pods.found = [pod(waiting={"reason": "ErrImagePull"})]
    now = 4.0
    early = read()
    assert isinstance(early, Progress)
    assert early.phase == "Pending"
    assert early.message.startswith("ErrImagePull. Nodes must be able to pull")
    now = 6.0
    pods.found = [pod(running={})]
    assert read() is Absent.ABSENT, "it was looked at just now"
    assert read(fresh=True) == Progress(phase="build")
    now = 30.0
    pods.found = []
    told = read()
    assert isinstance(told, Progress)
    assert "kubectl describe job" in told.message
    assert pods.looks == 3


def test_a_job_that_may_make_no_pod_is_told_of_early_and_one_that_has_none_yet_later() -> None:
    pods, now = Pods(), 0.0
    reader = ProgressReader(cast("Cluster", pods), lambda: now)
    first, second = (replace(job(nix_image()), uid=uid) for uid in ("1", "2"))

    def read(of: JobView) -> Progress | Absent:
        return asyncio.run(reader.read(of))

    assert read(first) is read(second) is Absent.ABSENT
    now = 4.0
    pods.events = [{"reason": "SuccessfulCreate", "note": "Created pod"}]
    assert read(first) is Absent.ABSENT
    pods.events.append({"reason": "FailedCreate", "note": "exceeded quota: pods"})
    told = read(second)
    assert isinstance(told, Progress)
    assert told.message.startswith("the Job may make no pod: exceeded quota: pods. Lower spec")
