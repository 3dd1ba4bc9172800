"""The logs of builds that ended: read from the pod, made fit, kept under a key."""

from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Any

import pytest

from niximage.bucket.logs import LOG_LIMIT, log_keys, read_log
from niximage.controller.builds.build_log import READ_LIMIT, STEP_LIMIT, begun, keep_log, whole
from niximage.controller.decision.decide import decide
from niximage.controller.job_view import JobState
from niximage.errors import Reason, Retryable, Terminal
from support.memory_store import MemoryStore
from unit.controller.states import (
    NOW,
    PUBLISHED,
    SETTINGS,
    answered,
    job,
    nix_image,
    observe,
    pinned,
    result,
    seen,
)
from unit.controller.world import World

UID = "0b0dd1b2-59a3-4f0b-8a3e-2f5f0e8a1c11"
KEY = f"niximage/v1/logs/team-a/{UID}.gz"
JOB = replace(job(nix_image()), uid=UID)


def pod(*steps: str, running: str = "") -> dict[str, Any]:
    """A pod of which some steps have ended."""
    ended = {"terminated": {"exitCode": 0}}
    found = [{"name": step, "state": ended} for step in steps]
    if running:
        found.append({"name": running, "state": {"running": {}}})
    return {"metadata": {"name": "web-1"}, "status": {"containerStatuses": found}}


class Speaking(World):
    """A cluster whose pods have logs."""

    def __init__(self, **logs: list[bytes]) -> None:
        super().__init__()
        self.logs = logs
        self.given = 0

    async def follow_log(self, *args: object, **_: object) -> AsyncGenerator[bytes, None]:
        for piece in self.logs[str(args[2])]:
            self.given += len(piece)
            yield piece


async def test_the_log_of_both_steps_is_kept_in_their_order() -> None:
    store = MemoryStore()
    cluster = Speaking(
        publish=[b"packed\n", b"published\n"], build=[b"\x1b[31mbuilding\x1b[0m\r\n"]
    )
    key = await keep_log(cluster, store, JOB, pod("publish", "build"))
    assert key == KEY
    assert read_log(store, key) == "==> build\nbuilding\n==> publish\npacked\npublished\n"


async def test_of_a_flood_the_end_is_kept_and_no_more_is_read_than_the_bound() -> None:
    flood = [b"x" * (1 << 20)] * ((READ_LIMIT >> 20) + 50)
    cluster = Speaking(build=[*flood[:3], b"\nthe end"], publish=flood)
    store = MemoryStore()
    text = read_log(store, await keep_log(cluster, store, JOB, pod("build", "publish")))
    assert text is not None
    assert "\nthe end\n==> publish\n" in text
    assert len(text.encode()) <= LOG_LIMIT
    assert cluster.given <= READ_LIMIT + (5 << 20)


async def test_a_log_that_cannot_be_had_is_no_failure() -> None:
    class Silent(World):
        async def follow_log(self, *_: object, **__: object) -> AsyncGenerator[bytes, None]:
            yield b"half of it"
            raise Retryable(Reason.CLUSTER_UNAVAILABLE, "the kubelet does not answer")

    store = MemoryStore()
    assert await keep_log(Silent(), store, JOB, pod("build")) == ""
    assert await keep_log(Silent(), store, JOB, pod(running="build")) == ""
    assert list(store.list("")) == []


def test_only_steps_that_ended_have_a_whole_log() -> None:
    assert begun(pod("build", running="publish")) == ("build",)
    assert begun({"metadata": {}}) == ()


def test_lines_of_progress_and_control_characters_are_left_out() -> None:
    said = b'{"niximage": "progress", "phase": "pack"}\nreal\x00 \xff text\x1b]0;title\x07\n'
    assert whole({"build": said}) == "==> build\nreal � text\n"
    assert len(whole({"build": "ä".encode() * LOG_LIMIT}).encode()) <= STEP_LIMIT + 100


def test_keys_are_found_in_statuses_and_nothing_else_is_a_key() -> None:
    assert log_keys(f'{{"log": "{KEY}"}} niximage/v1/logs/../x.gz') == {KEY}
    for wrong in ("niximage/v1/builds/team-a/x", f"{KEY}/x", "niximage/v1/logs/team-a/../x.gz"):
        with pytest.raises(Terminal, match="no key of a build's log"):
            read_log(MemoryStore(), wrong)
    assert read_log(MemoryStore(), KEY) is None


@pytest.mark.parametrize("content", [b"no gzip", b""])
def test_what_is_no_log_is_told(content: bytes) -> None:
    store = MemoryStore()
    store.create(KEY, content)
    with pytest.raises(Retryable, match="is no log of a build"):
        read_log(store, KEY)


def test_the_history_names_the_log() -> None:
    image = seen(nix_image())
    done = job(image, JobState.SUCCEEDED)
    ended = observe(
        jobs=(done,), source=pinned(), outcome=result(image), log=KEY, published=PUBLISHED
    )
    (build,) = answered(image, decide(image, ended, NOW, SETTINGS)).status.history
    assert build.log == KEY
    broken = Terminal(Reason.BUILD_FAILED, "no")
    ended = observe(jobs=(job(image, JobState.FAILED),), source=pinned(), outcome=broken, log=KEY)
    (build,) = answered(image, decide(image, ended, NOW, SETTINGS)).status.history
    assert (build.result, build.log) == ("Failed", KEY)


@pytest.mark.parametrize("state", [JobState.SUCCEEDED, JobState.FAILED])
def test_a_build_that_no_history_tells_of_leaves_no_log(state: JobState) -> None:
    for limit in (0, 1):
        image = seen(nix_image(successfulBuildsHistoryLimit=limit, failedBuildsHistoryLimit=limit))
        ended = observe(jobs=(job(image, state),), source=pinned())
        (look,) = decide(image, ended, NOW, SETTINGS).looks
        assert getattr(look, "log", None) is bool(limit)
