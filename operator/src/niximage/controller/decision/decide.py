"""What to do next for one image: a pure function, and the whole of the operator's judgement.

`decide` sees the image, what was observed around it, and the time. It answers with either
looks (go and see, then ask again), or effects on the cluster, and with the status to write.
It never waits and never acts. Whatever happens in between, the same facts give the same
answer, so a crash, a lost event or a second call do no harm.

    0. deleted                             → RemoveRepository, if the spec asks for it
    1. suspended                           → say so, leave everything
    2. a new spec, or a request            → say that it was seen; Resolve
    3. its class is not known              → wait for it; not allowed by it: Stalled
    4. the source is not known             → Resolve; failed: a good image stays Ready
    5. its base is not known               → FindBase; not ready: wait for it
    6. these inputs are what is published  → Ready
    7. these inputs failed                 → Stalled, or wait until the retry is due
    8. a Job is at it                      → ReadProgress, Building; one whose pod cannot start,
                                            and would be made otherwise today, is made anew
    9. a Job ended                         → ReadOutcome
   10. the bucket holds the image          → FindPublished, Ready
   11. it is not its turn                  → TakeTurn, Queued
   12. otherwise                           → CreateJob
"""

import datetime as dt
from dataclasses import replace
from math import inf
from typing import Final

from niximage.api.build import PinnedSource, input_hash
from niximage.api.image import NixImage
from niximage.controller.decision import answers
from niximage.controller.decision import conditions as say
from niximage.controller.decision.build import GONE_SOON, other_builds, with_inputs
from niximage.controller.decision.case import Case, Decision, Target
from niximage.controller.decision.failures import failed, still_failed, wait_of
from niximage.controller.decision.removal import finalizers_due, leaving, must_wait_for
from niximage.controller.settings import Settings
from niximage.controller.steps import DeleteJob, FindBase, Resolve
from niximage.controller.views import BaseWanting, ClassWanting, Observed
from niximage.errors import NixImageError, Reason
from niximage.source.failures import shown_url
from niximage.source.resolve import wanted

# Of an object of Flux, whose next change is told by the watch: no delays to be waited out.
_NOT_YET: Final = frozenset(
    {Reason.REFERENCE_NOT_FOUND, Reason.SOURCE_UNAVAILABLE, Reason.CREDENTIALS_NOT_GRANTED}
)


def decide(image: NixImage, observed: Observed, now: dt.datetime, settings: Settings) -> Decision:
    """What to do next for an image.

    Args:
        image: the object as last seen, with its status.
        observed: its surroundings; what is None was not looked at yet.
        now: the time, in UTC.
        settings: the operator's, with what the image's class says.

    Returns:
        A decision. With looks or effects in it, `decide` is to be called again with what
        they found.
    """
    case = Case(image, observed, now, settings)
    if image.metadata.deletion_timestamp:
        return leaving(case)
    if observed.refused is None and (due := finalizers_due(image)) is not None:
        return Decision(effects=(due,))
    if image.spec.suspend:
        return _suspended(case)
    if observed.policy is not None:
        return _not_allowed(case.answering(), observed.policy)
    if not case.is_current or case.requested is not None:
        answer = answers.requested if case.is_current else answers.seen
        if observed.source is None:
            # A request is answered together with what it finds: a crash must not lose it.
            looks = (Resolve(fresh=case.requested is not None),)
            return Decision(looks=looks, status=answer(case))
        case = case.with_status(answer(case.answering()))
    if observed.refused is not None:
        return failed(case, observed.refused, case.status.source, "")
    failure = case.status.failure
    if failure is not None and not failure.input_hash and 0 < (wait := wait_of(failure, now)) < inf:
        return still_failed(case, failure, case.status.source, wait)
    if former := must_wait_for(case):
        words = f"waiting for the NixImage {former} to leave the repository {image.repository}"
        waits = answers.waiting(case, case.status.source, words)
        return replace(waits, requeue_after=GONE_SOON)
    match observed.source:
        case None:
            return Decision(looks=(Resolve(),))
        case NixImageError() as error:
            return _source_failed(case, error)
        case PinnedSource() as pinned:
            return _with_source(case, _held(case, pinned))


def _suspended(case: Case) -> Decision:
    """To suspend is an edit, too, and one that leaves the published image what it is."""
    if case.is_current:
        return answers.suspended(case, good=True)
    base = case.image.spec.base
    if base is not None and base.niximage is not None and case.observed.base is None:
        return Decision(looks=(FindBase(base.niximage.name),))
    return answers.suspended(case, good=_is_of_this_spec(case))


def _is_of_this_spec(case: Case) -> bool:
    """Whether the published image is what this spec asks for, at the source's known revision."""
    source, artifact = case.status.source, case.status.artifact
    if source is None or artifact is None:
        return False
    if (case.base is None) != (case.image.spec.base is None):
        return False
    asked = wanted(case.image.spec.source, case.settings.nixpkgs_url)
    if asked.commit not in {"", artifact.revision}:
        return False
    if asked.ref != source.ref or (asked.url and shown_url(asked.url) != source.url):
        return False
    pinned = asked.pinned(artifact.revision, digest=artifact.source_digest)
    inputs = input_hash(case.image, pinned, case.base)
    return inputs == artifact.input_hash


def _not_allowed(case: Case, policy: ClassWanting | NixImageError) -> Decision:
    """Nothing is looked up or built that no class allows; a good image stays."""
    match policy:
        case ClassWanting(words):
            return answers.waiting(case, case.status.source, words, Reason.WAITING_FOR_CLASS)
        case error:
            return failed(case, error, case.status.source, "")


def _source_failed(case: Case, error: NixImageError) -> Decision:
    """A good image stays good while its source cannot be asked."""
    unresolved = say.source_unresolved(error.reason, str(error))
    if case.image.spec.source.source_ref is not None and error.reason in _NOT_YET:
        source = case.status.source
        return answers.waiting(case, source, str(error), error.reason, resolved=unresolved)
    if case.standing is not None:
        status = case.said(case.status, say.kept(case.standing), unresolved)
        return Decision(status=status, poll_after=case.poll)
    return failed(case, error, case.status.source, "", unresolved)


def _held(case: Case, pinned: PinnedSource) -> PinnedSource:
    """The source that a build under `concurrencyPolicy: Forbid` is at, until that was told."""
    build, source = case.status.current_build, case.status.source
    if case.image.spec.concurrency_policy != "Forbid" or build is None or source is None:
        return pinned
    if all(job.name != build.job_name for job in case.observed.jobs):
        return pinned
    of_then = {"ref": source.ref, "revision": source.revision, "digest": source.digest}
    held = pinned.model_copy(update=of_then)
    same = input_hash(case.image, held, case.base) == build.input_hash
    return held if same else pinned


def _with_source(case: Case, pinned: PinnedSource) -> Decision:
    source = answers.source_status(case, pinned)
    base = case.image.spec.base
    if base is not None and base.niximage is not None:
        match case.observed.base:
            case None:
                return Decision(looks=(FindBase(base.niximage.name),))
            case BaseWanting(words):
                return answers.waiting(case, source, words)
            case NixImageError() as error:
                return failed(case, error, source, "")
    inputs = input_hash(case.image, pinned, case.base)
    decision = with_inputs(case, Target(pinned, source, inputs))
    if decision.looks or case.image.spec.concurrency_policy == "Forbid":
        return decision
    superseded = tuple(DeleteJob(job) for job in other_builds(case, inputs))
    return replace(decision, effects=(*superseded, *decision.effects))
