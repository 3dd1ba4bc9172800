"""How far a running build is: its pod's state, and the last structured line of its log.

A build's steps print one JSON object per line where they have something to count:
`{"niximage": "progress", "phase": "realise", "done": 12, "total": 40, "message": "…"}`. The
first step runs what tenants wrote, so a line is text to show, bounded and stripped.
"""

import datetime as dt
import json
import re
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from cachetools import TTLCache

from niximage.api.status import Progress
from niximage.controller.builds.advice import advice, without_pod
from niximage.controller.builds.outcome import container_statuses, newest
from niximage.controller.builds.pod import BUILD, FETCH, PUBLISH
from niximage.controller.cluster.client import Cluster
from niximage.controller.job_view import LOST, PENDING, JobView
from niximage.controller.views import Absent
from niximage.errors import NixImageError, plain_text

EVERY: Final = 14.0  # seconds between two looks at one Job
FIRST: Final = 3.0  # seconds until the first, which is for what keeps a pod from starting
REMEMBERED: Final = 50_000  # Jobs, many times as many as may run
WORDS: Final = 600  # bytes of what the cluster says
LINES: Final = 40  # the last of a log, among which a line of progress is looked for
REFUSED: Final = "FailedCreate"  # of the Event of a Job that may make no pod
_POD_NAMED: Final = re.compile(r'^Error creating: (?:pods "[^"]*" is )?')
BYTES: Final = 16 << 10  # of a log
MARK: Final = '{"niximage": "progress"'
_COUNT_LIMIT: Final = 1_000_000_000


class ProgressReader:
    """Looks at pods, each Job's no more often than every few seconds."""

    def __init__(self, cluster: Cluster, clock: Callable[[], float] = time.monotonic) -> None:
        self._cluster = cluster
        self._clock = clock
        # By uid: when a Job is looked at next, and whether that is for the first time.
        self._looks: TTLCache[str, tuple[float, bool]] = TTLCache(REMEMBERED, 10 * EVERY, clock)

    async def read(self, job: JobView, *, fresh: bool = False) -> Progress | Absent:
        """How far a Job is; ABSENT where it is too early to look, or nothing was said.

        Args:
            job: which.
            fresh: whether to look even if it is too early.
        """
        now = self._clock()
        due, is_first = self._looks.setdefault(job.uid, (now + FIRST, True))
        if now < due and not fresh:
            return Absent.ABSENT
        self._looks[job.uid] = (now + EVERY, False)
        try:
            pod = newest(await self._cluster.list_pods(job.namespace, job.name))
            if pod is None:
                if job.suspended:
                    return Absent.ABSENT
                events = await self._cluster.list_events_of(job.namespace, job.uid)
                refused = [event for event in events if event.get("reason") == REFUSED]
                return none_yet(job, refused) if refused or not is_first else Absent.ABSENT
            if (trouble := lost(pod, dt.datetime.now(dt.UTC)) or pending(pod)) is not None:
                return trouble
            step = running_step(pod)
            if step is None:
                return starting(pod)
            if is_first:
                return Absent.ABSENT
            name = pod["metadata"]["name"]
            text = await self._cluster.read_log(job.namespace, name, step, lines=LINES, limit=BYTES)
        except NixImageError:
            return Absent.ABSENT  # a look that failed is no news
        return last_progress(text) or Progress(phase=step)


def none_yet(job: JobView, refused: Sequence[dict[str, Any]]) -> Progress:
    """What a Job without a pod waits for: a quota, a policy. Pure.

    Args:
        job: which.
        refused: the Events that tell why it may make none, as the API server gives them.
    """
    if not refused:
        see = f"kubectl describe job {job.name} -n {job.namespace}"
        words = "the Job has made no pod: a ServiceAccount, a quota or a policy may be in the way"
        return Progress(phase=PENDING, message=f"{words}; see: {see}")
    note = str(max(refused, key=_told_at).get("note") or "")
    said = plain_text(_POD_NAMED.sub("", note), WORDS // 2).rstrip(".")
    words = f"the Job may make no pod: {said}. {without_pod(note, job.namespace)}"
    return Progress(phase=PENDING, message=plain_text(words.rstrip(". "), WORDS))


def _told_at(event: dict[str, Any]) -> str:
    """When an Event was told last."""
    series = event.get("series") or {}
    times = (series.get("lastObservedTime"), event.get("deprecatedLastTimestamp"))
    return max(str(time or "") for time in (*times, event.get("eventTime")))


def lost(pod: dict[str, Any], now: dt.datetime) -> Progress | None:
    """Whether a pod should have ended by now, and its node does not say that it has. Pure."""
    metadata = pod["metadata"]
    if not metadata.get("deletionTimestamp"):
        return None
    if now <= dt.datetime.fromisoformat(metadata["deletionTimestamp"]):
        return None
    node = (pod.get("spec") or {}).get("nodeName")
    words = f"{metadata['name']} is deleted, but its node {node} does not answer"
    reasons = (
        c.get("message")
        for c in (pod.get("status") or {}).get("conditions") or []
        if c.get("type") == "DisruptionTarget" and c.get("status") == "True"
    )
    if why := next(reasons, None):
        words += f" ({why})"
    words += "; the build begins anew when the node is back, or is removed from the cluster"
    return Progress(phase=LOST, message=plain_text(words, WORDS))


def running_step(pod: dict[str, Any]) -> str | None:
    """The step whose container runs, if one does. Pure."""
    found = container_statuses(pod)
    running = {c["name"] for c in found if "running" in (c.get("state") or {})}
    return next((step for step in (PUBLISH, BUILD, FETCH) if step in running), None)


def pending(pod: dict[str, Any]) -> Progress | None:
    """Why a pod does not start: no node for it, no image, no volume. Pure."""
    status = pod.get("status") or {}
    for container in container_statuses(pod):
        waiting = (container.get("state") or {}).get("waiting") or {}
        if waiting.get("reason") not in {None, "PodInitializing", "ContainerCreating"}:
            return _pending(pod, waiting["reason"], waiting.get("message"))
    for condition in status.get("conditions") or []:
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return _pending(pod, condition.get("reason"), condition.get("message"))
    return None


def starting(pod: dict[str, Any]) -> Progress | Absent:
    """Whether a pod has its node, and nothing of it runs yet. Pure."""
    status = pod.get("status") or {}
    scheduled = {"type": "PodScheduled", "status": "True"}.items()
    has_node = any(scheduled <= c.items() for c in status.get("conditions") or [])
    return Progress(phase="start") if has_node and status.get("phase") == PENDING else Absent.ABSENT


def _pending(pod: dict[str, Any], reason: object, message: object) -> Progress:
    words = f"{reason}: {message}" if message else str(reason)
    if todo := advice(pod, str(reason), str(message or "")):
        # What to do is not cut off, however much the cluster says.
        said = plain_text(words, WORDS - 2 - len(todo.encode())).rstrip(".")
        words = f"{said}. {todo}"
    return Progress(phase=PENDING, message=plain_text(words, WORDS))


def last_progress(log: str) -> Progress | None:
    """The last line of progress in the end of a log; what the cluster tells, no line can. Pure."""
    for line in reversed(log.splitlines()):
        if not line.startswith(MARK):
            continue
        try:
            said = json.loads(line)
            phase = plain_text(str(said["phase"]), 32)
            if phase in {PENDING, LOST}:
                continue
            return Progress(
                phase=phase,
                done=min(max(int(said.get("done", 0)), 0), _COUNT_LIMIT),
                total=min(max(int(said.get("total", 0)), 0), _COUNT_LIMIT),
                message=plain_text(str(said.get("message", "")), 300),
            )
        except (ArithmeticError, LookupError, RecursionError, TypeError, ValueError):
            continue
    return None
