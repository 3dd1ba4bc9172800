"""How far a running build is: its pod's state, and the last structured line of its log.

A build's steps print one JSON object per line where they have something to count:
`{"niximage": "progress", "phase": "realise", "done": 12, "total": 40, "message": "…"}`. The
first step runs what tenants wrote, so a line is text to show, bounded and stripped.
"""

import json
import time
from collections.abc import Callable
from typing import Any, Final

from niximage.api.status import Progress
from niximage.controller.client import Cluster
from niximage.controller.outcome import newest
from niximage.controller.pod import BUILD, FETCH, PUBLISH
from niximage.controller.views import Absent, JobView
from niximage.errors import NixImageError, plain_text

EVERY: Final = 14.0  # seconds between two looks at one Job
LINES: Final = 40  # the last of a log, among which a line of progress is looked for
BYTES: Final = 16 << 10  # of a log
MARK: Final = '{"niximage": "progress"'
PENDING: Final = "Pending"
_COUNT_LIMIT: Final = 1_000_000_000


class ProgressReader:
    """Looks at pods, each Job's no more often than every few seconds."""

    def __init__(self, cluster: Cluster, clock: Callable[[], float] = time.monotonic) -> None:
        self._cluster = cluster
        self._clock = clock
        self._looked: dict[str, float] = {}

    async def read(self, job: JobView) -> Progress | Absent:
        """How far a Job is; ABSENT where it is too early to look, or nothing was said."""
        now = self._clock()
        self._looked = {uid: at for uid, at in self._looked.items() if now - at < 10 * EVERY}
        if now - self._looked.setdefault(job.uid, now) < EVERY:
            return Absent.ABSENT
        self._looked[job.uid] = now
        try:
            pods = await self._cluster.list_pods(job.namespace, job.name)
            pod = newest(pods)
            if pod is None:
                return Absent.ABSENT
            step = running_step(pod)
            if step is None:
                return pending(pod)
            name = pod["metadata"]["name"]
            text = await self._cluster.read_log(job.namespace, name, step, lines=LINES, limit=BYTES)
        except NixImageError:
            return Absent.ABSENT  # a look that failed is no news
        return last_progress(text)


def running_step(pod: dict[str, Any]) -> str | None:
    """The step whose container runs, if one does. Pure."""
    status = pod.get("status") or {}
    found = (*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or []))
    running = {c["name"] for c in found if "running" in (c.get("state") or {})}
    return next((step for step in (PUBLISH, BUILD, FETCH) if step in running), None)


def pending(pod: dict[str, Any]) -> Progress | Absent:
    """Why a pod does not run: no node for it, no image, no volume. Pure."""
    status = pod.get("status") or {}
    found = (*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or []))
    for container in found:
        waiting = (container.get("state") or {}).get("waiting") or {}
        if waiting.get("reason") not in {None, "PodInitializing", "ContainerCreating"}:
            return _pending(waiting["reason"], waiting.get("message"))
    for condition in status.get("conditions") or []:
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return _pending(condition.get("reason"), condition.get("message"))
    return Absent.ABSENT


def _pending(reason: object, message: object) -> Progress:
    words = f"{reason}: {message}" if message else str(reason)
    return Progress(phase=PENDING, message=plain_text(words, 300))


def last_progress(log: str) -> Progress | Absent:
    """The last line of progress in the end of a log. Pure."""
    for line in reversed(log.splitlines()):
        if not line.startswith(MARK):
            continue
        try:
            said = json.loads(line)
            return Progress(
                phase=plain_text(str(said["phase"]), 32),
                done=min(max(int(said.get("done", 0)), 0), _COUNT_LIMIT),
                total=min(max(int(said.get("total", 0)), 0), _COUNT_LIMIT),
                message=plain_text(str(said.get("message", "")), 300),
            )
        except (ArithmeticError, LookupError, RecursionError, TypeError, ValueError):
            continue
    return Absent.ABSENT
