"""The builds that ended, for `status.history`: newest first, no more than the spec wants."""

from niximage.api.image import NixImage
from niximage.api.status import BuildResult, NixImageStatus
from niximage.controller.decision.case import Case
from niximage.controller.job_view import JobState, JobView
from niximage.errors import Reason, plain_text

SHOWN = 300  # bytes of a build's words


def with_build(
    case: Case,
    job: JobView,
    revision: str,
    *,
    digest: str | None = None,
    reason: Reason = Reason.SUCCEEDED,
    message: str = "",
) -> NixImageStatus:
    """The status with one more build told, once: the same build replaces itself."""
    result = BuildResult(
        id=job.uid,
        job_name=job.name,
        result="Failed" if digest is None else "Succeeded",
        reason=reason,
        message=plain_text(message, SHOWN),
        revision=revision,
        digest=digest,
        start_time=job.created,
        completion_time=job.ended,
        log=case.observed.log or None,
    )
    return _with(case, result)


def with_found(case: Case, inputs: str, revision: str, digest: str) -> NixImageStatus:
    """The status with an image more that needed no build: the bucket had it already."""
    result = BuildResult(
        id=inputs,
        job_name="",
        result="Succeeded",
        reason=Reason.SUCCEEDED,
        revision=revision,
        digest=digest,
        start_time=case.now,
        completion_time=case.now,
    )
    return _with(case, result)


def _with(case: Case, result: BuildResult) -> NixImageStatus:
    others = [build for build in case.status.history if build.id != result.id]
    status = case.status.model_copy(update={"history": [result, *others]})
    return trimmed(case.image, status)


def has_room(image: NixImage, job: JobView) -> bool:
    """Whether a build that ended will be told of at all."""
    if job.state is JobState.SUCCEEDED:
        return image.spec.successful_builds_history_limit > 0
    return image.spec.failed_builds_history_limit > 0


def trimmed(image: NixImage, status: NixImageStatus) -> NixImageStatus:
    """The status with no more builds of each result than the spec wants."""
    left = {
        "Succeeded": image.spec.successful_builds_history_limit,
        "Failed": image.spec.failed_builds_history_limit,
    }
    kept = []
    for build in sorted(status.history, key=lambda b: b.completion_time, reverse=True):
        if left[build.result] > 0:
            left[build.result] -= 1
            kept.append(build)
    return status if kept == status.history else status.model_copy(update={"history": kept})
