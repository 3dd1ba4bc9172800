"""The end of a NixImage: what becomes of its repository, and the finalizer that waits for it. Pure.

Only a NixImage whose `output.deletionPolicy` is `Delete` has the finalizer. When it is deleted its
builds are ended and its repository is removed from the bucket; then the finalizer goes, and the
object with it. While the bucket is away the removal is tried again, after growing delays.

    another NixImage publishes to the same repository  → only tags that it does not list go
    another one begins to, while one is being removed  → it waits until that one is gone
"""

from niximage.api.image import FINALIZER, NixImage
from niximage.api.status import ConditionType, Failure
from niximage.controller.decision import conditions as say
from niximage.controller.decision.case import Case, Decision
from niximage.controller.decision.failures import delay_of, wait_of
from niximage.controller.job_view import JobState
from niximage.controller.steps import DeleteJob, RemoveRepository, SetFinalizers
from niximage.errors import NixImageError, Reason, plain_text

_WAY_OUT = "The NixImage goes when that works, or with output.deletionPolicy: Retain"


def finalizers_due(image: NixImage) -> SetFinalizers | None:
    """The finalizers that a NixImage in use should have; None if it has them."""
    wants = image.spec.output.deletion_policy == "Delete"
    has = image.metadata.finalizers
    if wants == (FINALIZER in has):
        return None
    return SetFinalizers((*has, FINALIZER)) if wants else let_go(has)


def let_go(finalizers: list[str]) -> SetFinalizers:
    """All finalizers but ours."""
    return SetFinalizers(tuple(each for each in finalizers if each != FINALIZER))


def leaving(case: Case) -> Decision:
    """What to do for a NixImage that is being deleted."""
    image, observed = case.image, case.observed
    if FINALIZER not in image.metadata.finalizers:
        return Decision()  # its Jobs go with it: they are owned
    if observed.refused is not None:
        return _failed(case, observed.refused)
    if image.spec.output.deletion_policy == "Retain":
        return Decision(effects=(let_go(image.metadata.finalizers),))
    # A build that goes on would publish what was just removed.
    live = [job for job in observed.jobs if job.state is JobState.LIVE]
    if ours := [job for job in live if job.owner == image.metadata.uid]:
        return Decision(effects=tuple(DeleteJob(job) for job in ours))
    match observed.removed:
        case None:
            failure = _earlier(case)
            if failure is not None and (wait := wait_of(failure, case.now)) > 0:
                return Decision(requeue_after=wait)
            return Decision(looks=(_what_to_remove(case),))
        case NixImageError() as error:
            return _failed(case, error)
        case _:
            return Decision(effects=(let_go(image.metadata.finalizers),))


def must_wait_for(case: Case) -> str:
    """Whose end a new NixImage has to wait for before it may publish; "" for nobody's."""
    if case.status.digest or case.status.current_build is not None:
        return ""  # whoever is leaving knows of it
    return next((sharer.name for sharer in case.observed.sharers if sharer.leaving), "")


def _what_to_remove(case: Case) -> RemoveRepository:
    staying = [sharer for sharer in case.observed.sharers if sharer.stays]
    if not staying:
        return RemoveRepository(case.image.repository)
    artifact = case.status.artifact
    listed = {tag for sharer in staying for tag in sharer.tags}
    own = artifact.tags if artifact is not None else []
    return RemoveRepository(case.image.repository, tuple(tag for tag in own if tag not in listed))


def _earlier(case: Case) -> Failure | None:
    """The failure of an earlier attempt at the removal."""
    told = case.status.has_reason(ConditionType.READY, Reason.REMOVAL_FAILED)
    return case.status.failure if told else None


def _failed(case: Case, error: NixImageError) -> Decision:
    before = _earlier(case)
    tries = before.tries + 1 if before is not None else 1
    delay = delay_of(case, error, tries)
    next_try = case.now + delay
    words = f"the repository {case.image.repository} could not be removed: {error}"
    failure = Failure(
        reason=error.reason,
        message=plain_text(words, 1024),
        attempts=tries,
        tries=tries,
        last_failure_time=case.now,
        next_retry_time=next_try,
    )
    status = case.status.model_copy(update={"failure": failure, "current_build": None})
    told = f"attempt {tries} failed, next at {next_try:%H:%M:%SZ}: {words.rstrip('.')}. {_WAY_OUT}"
    status = case.said(
        status,
        say.not_ready(Reason.REMOVAL_FAILED, words),
        say.reconciling(Reason.PROGRESSING_WITH_RETRY, told),
    )
    return Decision(status=status, requeue_after=delay.total_seconds())
