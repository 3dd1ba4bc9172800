"""The last steps, once the bucket holds an image: is it the one, its tags, its ConfigMap. Pure.

the spec expects another digest  → Stalled
its tags are not written         → MoveTags
its ConfigMap is not written     → ShowImage, HideImage
otherwise                        → Ready
"""

from niximage.api.status import NixImageStatus, SourceStatus
from niximage.controller.decision import answers
from niximage.controller.decision.case import Case, Decision, Target
from niximage.controller.decision.failures import failed
from niximage.controller.job_view import JobView
from niximage.controller.steps import HideImage, MoveTags, ShowImage
from niximage.errors import NixImageError, Reason, Terminal


def accepted(
    case: Case, status: NixImageStatus, target: Target, job: JobView | None = None
) -> Decision:
    """The bucket holds the image: it is taken, unless the spec expects another one."""
    expected = case.image.spec.output.expected_digest
    if expected is None or expected == status.digest:
        return _tagged(case, status, target, job)
    mismatch = Terminal(
        Reason.DIGEST_MISMATCH,
        f"the image is {status.digest}, but spec.output.expectedDigest is {expected}",
        hint="Pin the source to the revision that gave the expected digest, or change it",
    )
    return failed(case, mismatch, target.source, target.inputs, job=job)


def _tagged(case: Case, status: NixImageStatus, target: Target, job: JobView | None) -> Decision:
    """The tags come last, for they are what others follow."""
    assert status.artifact is not None
    assert status.digest is not None
    tags = sorted(case.image.spec.output.tags)
    if status.artifact.tags != tags:
        move = MoveTags(status.digest, tuple(tags))
        match case.observed.tagged:
            case NixImageError() as error:
                return failed(case, error, target.source, target.inputs)
            case moved if tags and moved != move:
                return Decision(looks=(move,))
        artifact = status.artifact.model_copy(update={"tags": tags})
        status = status.model_copy(update={"artifact": artifact})
    return _shown(case, status, target.source, job)


def _shown(
    case: Case, status: NixImageStatus, source: SourceStatus, job: JobView | None
) -> Decision:
    """The ConfigMap follows the image, and the status follows the ConfigMap."""
    assert status.artifact is not None
    assert status.digest is not None
    name = case.image.config_map_name
    wants = case.image.spec.output.config_map
    look = (
        ShowImage(name, status.image or "", status.digest, status.artifact.revision)
        if wants
        else HideImage(name)
    )
    if wants or status.config_map is not None:
        match case.observed.shown:
            case NixImageError() as error:
                return failed(case, error, source, "")
            case shown if shown != look:
                return Decision(looks=(look,))
        status = status.model_copy(update={"config_map": name if wants else None})
    return answers.ready(case, status, source, job)
