"""The log of a build that ended, kept in the bucket: pods go, and their logs with them.

The operator reads it, not the build: the step that fails is the one that has no credentials of
the bucket. It is a tenant's text, so it is stripped of control characters, and of each step no
more than the end is kept.
"""

import asyncio
import logging
from collections.abc import Mapping
from contextlib import aclosing
from typing import Any, Final

from niximage.bucket.logs import LOG_LIMIT, save_log
from niximage.bucket.store import ObjectStore
from niximage.controller.builds.outcome import container_statuses
from niximage.controller.builds.pod import BUILD, FETCH, PUBLISH
from niximage.controller.builds.progress import MARK
from niximage.controller.cluster.client import Cluster
from niximage.controller.job_view import JobView
from niximage.errors import NixImageError, plain_text

STEPS: Final = (FETCH, BUILD, PUBLISH)
STEP_LIMIT: Final = LOG_LIMIT // len(STEPS) - 1024  # bytes that are kept of a step's log
READ_LIMIT: Final = 64 << 20  # bytes that are read of it; kubelets keep 10 MiB by default
TIMEOUT: Final = 60.0  # seconds for all of it

log = logging.getLogger(__name__)


async def keep_log(
    cluster: Cluster, store: ObjectStore, job: JobView, pod: Mapping[str, Any]
) -> str:
    """Bring a build's log into the bucket.

    Args:
        cluster: where its pod is.
        store: the bucket.
        job: the build.
        pod: its pod, which has ended.

    Returns:
        The log's key, or "" where it could not be had: that is no reason to fail a build.
    """
    try:
        async with asyncio.timeout(TIMEOUT):
            ends = {step: await _end(cluster, job, pod, step) for step in begun(pod)}
            if not ends:
                return ""
            text = await asyncio.to_thread(whole, ends)
            return await asyncio.to_thread(save_log, store, job.namespace, job.uid, text)
    except (NixImageError, TimeoutError) as error:
        about = {"namespace": job.namespace, "image": job.image, "job": job.name}
        words = str(error) or f"no answer within {TIMEOUT:.0f} s"
        log.warning("no log of %s/%s: %s", job.namespace, job.name, words, extra=about)
        return ""


def begun(pod: Mapping[str, Any]) -> tuple[str, ...]:
    """The steps that ran, in their order. Pure."""
    found = container_statuses(pod)
    ended = {c["name"] for c in found if (c.get("state") or {}).get("terminated")}
    return tuple(step for step in STEPS if step in ended)


def whole(ends: Mapping[str, bytes]) -> str:
    """The logs of all steps as one text, without control characters and lines of progress. Pure.

    Args:
        ends: what was kept of each step's log.
    """
    parts = []
    for step, data in ends.items():
        lines = data.decode("utf-8", "replace").split("\n")
        text = "\n".join(line for line in lines if not line.startswith(MARK))
        parts.append(f"==> {step}\n{plain_text(text, STEP_LIMIT, keep='end')}\n")
    return "".join(parts)


async def _end(cluster: Cluster, job: JobView, pod: Mapping[str, Any], step: str) -> bytes:
    """The end of a step's log, read in pieces."""
    kept = bytearray()
    read = 0
    pieces = cluster.follow_log(job.namespace, pod["metadata"]["name"], step, follow=False)
    async with aclosing(pieces) as log_:
        async for piece in log_:
            read += len(piece)
            kept += piece
            if len(kept) > 2 * STEP_LIMIT:
                del kept[:-STEP_LIMIT]
            if read > READ_LIMIT:
                break
    return bytes(kept[-STEP_LIMIT:])
