"""What a finished Job says: its publish step's result, or the failure, made fit to show.

What `build` wrote is text from a tenant's own code: it may name a reason and words for its
own image, bounded and stripped, and nothing more.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from niximage.api.build import (
    MESSAGE_LIMIT,
    RESULT_LIMIT,
    BuildFailure,
    PublishResult,
    read_message,
)
from niximage.controller.builds.pod import BUILD, FETCH, PUBLISH
from niximage.controller.job_view import JobState, JobView
from niximage.controller.views import Absent
from niximage.errors import NO_FAILURES, NixImageError, Reason, Retryable, Terminal, plain_text

_NODE_IS_FULL: Final = "The node was low on resource"  # the kubelet's words, then whose fault it is
_OF_LIMIT: Final = "limit of containers"  # the kubelet's words, too
KILLED: Final = 137  # 128 + SIGKILL, what the kernel's out-of-memory killer leaves


def outcome(job: JobView, pods: list[dict[str, Any]]) -> PublishResult | NixImageError | Absent:
    """What a finished Job's newest pod said.

    Args:
        job: the Job, succeeded or failed.
        pods: its pods, as the API server gives them.

    Returns:
        The result, or why there is none. ABSENT for a Job that succeeded and whose pod is
        gone: then the bucket alone can tell.
    """
    if job.failed_for == "DeadlineExceeded":
        return Terminal(
            Reason.BUILD_TIMEOUT,
            "the build took longer than spec.timeout allows",
            hint="Raise spec.timeout, or ask for fewer packages",
        )
    pod = newest(pods)
    if pod is None:
        if job.state is JobState.SUCCEEDED:
            return Absent.ABSENT
        return _interrupted(job, "its pod is gone")
    if (evicted := _evicted(pod)) is not None:
        return evicted
    steps = _terminated(pod)
    publish = steps.get(PUBLISH)
    if job.state is JobState.SUCCEEDED:
        message = (publish or {}).get("message", "")
        return _result(job, message)
    for step in (FETCH, BUILD, PUBLISH):
        ended = steps.get(step)
        if ended is not None and ended.get("exitCode") != 0:
            return _failure(job, pod, step, ended)
    reason = (pod.get("status") or {}).get("reason") or job.failed_for or "no step failed"
    return _interrupted(job, plain_text(str(reason), 200))


def newest(objects: Iterable[dict[str, Any]]) -> dict[str, Any] | None:
    """The Job or pod that was made last: a drained node has a Job make another pod. Pure."""
    return max(objects, key=lambda each: str(each["metadata"]["creationTimestamp"]), default=None)


def container_statuses(pod: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What the cluster says of each container, init containers first. Pure."""
    status = pod.get("status") or {}
    return [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]


def _evicted(pod: dict[str, Any]) -> Terminal | None:
    """Why a pod had to go that filled more disk than it may: its steps only say that they died.

    One that had to make room for others is not meant: the Job makes it anew by itself.
    """
    status = pod.get("status") or {}
    words = str(status.get("message") or "")
    if status.get("reason") != "Evicted" or "exceed" not in words or _NODE_IS_FULL in words:
        return None
    return Terminal(
        Reason.OUT_OF_DISK,
        f"the build filled more disk than it may: {plain_text(words, 300)}",
        hint="Raise spec.build.resources.limits.ephemeral-storage, or ask for a NixBuildClass with "
        "more"
        if _OF_LIMIT in words
        else "Ask for fewer packages, or for a NixBuildClass with a larger store",
    )


def _terminated(pod: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        c["name"]: c["state"]["terminated"]
        for c in container_statuses(pod)
        if (c.get("state") or {}).get("terminated")
    }


def _result(job: JobView, message: str) -> PublishResult | NixImageError:
    try:
        result = read_message(PublishResult, message, RESULT_LIMIT)
    except Retryable as error:
        return error
    if result.input_hash != job.input_hash:
        return Retryable(
            Reason.RESULT_INVALID,
            f"the Job {job.name} reports the result of other inputs ({result.input_hash[:10]})",
        )
    return result


def _failure(job: JobView, pod: dict[str, Any], step: str, ended: dict[str, Any]) -> NixImageError:
    if ended.get("reason") == "OOMKilled" or ended.get("exitCode") == KILLED:
        limit = _memory_limit(pod, step)
        return Terminal(
            Reason.OUT_OF_MEMORY,
            f"the {step} step ran out of memory" + (f": it may have {limit}" if limit else ""),
            hint="Raise spec.build.resources.limits.memory, or ask for a NixBuildClass with more",
        )
    try:
        failure = read_message(BuildFailure, ended.get("message", ""), MESSAGE_LIMIT)
    except Retryable:
        failure = None
    if failure is None or failure.reason in NO_FAILURES:
        return _interrupted(
            job,
            f"the {step} step ended with exit code {ended.get('exitCode')}; "
            f"see: kubectl logs -n {job.namespace} {pod['metadata']['name']} -c {step}",
        )
    kind = Retryable if failure.retryable else Terminal
    return kind(
        failure.reason,
        plain_text(failure.message, 1000),
        derivation=plain_text(failure.derivation, 300),
        log_tail=plain_text(failure.log_tail, 2048, keep="end"),
    )


def _memory_limit(pod: dict[str, Any], step: str) -> str:
    spec = pod.get("spec") or {}
    for container in (*(spec.get("initContainers") or ()), *(spec.get("containers") or ())):
        if container.get("name") == step:
            limits = (container.get("resources") or {}).get("limits") or {}
            return str(limits.get("memory") or "")
    return ""


def _interrupted(job: JobView, why: str) -> Retryable:
    return Retryable(Reason.BUILD_INTERRUPTED, f"the build {job.name} was interrupted: {why}")
