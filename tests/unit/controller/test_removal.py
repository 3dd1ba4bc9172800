"""What becomes of a NixImage that is deleted, and of its repository."""

import datetime as dt
from dataclasses import replace
from typing import Any

import pytest

from niximage.api.image import FINALIZER, NixImage
from niximage.bucket.remove import Removed
from niximage.controller.decision.decide import decide
from niximage.controller.events import happened
from niximage.controller.job_view import JobState
from niximage.controller.steps import DeleteJob, RemoveRepository, Resolve, SetFinalizers
from niximage.controller.views import Observed, Sharer
from niximage.errors import Reason, Retryable
from unit.controller.states import (
    ABSENT,
    NOW,
    PUBLISHED,
    SETTINGS,
    answered,
    job,
    nix_image,
    observe,
    pinned,
    ready,
    seen,
    told,
)

AWAY = Retryable(Reason.BUCKET_UNAVAILABLE, "gs://images does not answer")
DELETE = {"output": {"deletionPolicy": "Delete", "tags": ["stable", "web"]}}
OTHER = "another.dev/finalizer"


def kept(
    image: NixImage | None = None, *finalizers: str, deleted: bool = False, **spec: Any
) -> NixImage:
    """An image with finalizers, perhaps being deleted."""
    image = image or nix_image(**{**DELETE, **spec})
    metadata: dict[str, Any] = {"finalizers": list(finalizers)}
    if deleted:
        metadata["deletion_timestamp"] = f"{NOW:%Y-%m-%dT%H:%M:%SZ}"
    return image.model_copy(update={"metadata": image.metadata.model_copy(update=metadata)})


def published() -> NixImage:
    """A Ready image with the policy Delete and its finalizer."""
    image = seen(kept(None, FINALIZER))
    status = ready().status
    assert status.artifact is not None
    artifact = status.artifact.model_copy(update={"tags": ["stable", "web"]})
    return image.model_copy(update={"status": status.model_copy(update={"artifact": artifact})})


def deleted() -> NixImage:
    return kept(published(), FINALIZER, deleted=True)


# The finalizer follows the field ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "finalizers", "then"),
    [
        ("Delete", [], [FINALIZER]),
        ("Delete", [OTHER], [OTHER, FINALIZER]),
        ("Delete", [FINALIZER], None),
        ("Retain", [], None),
        ("Retain", [OTHER], None),
        ("Retain", [FINALIZER, OTHER], [OTHER]),
    ],
)
@pytest.mark.parametrize("suspend", [False, True])
def test_only_an_image_with_the_policy_delete_has_the_finalizer(
    policy: str, finalizers: list[str], then: list[str] | None, *, suspend: bool
) -> None:
    image = kept(None, *finalizers, output={"deletionPolicy": policy}, suspend=suspend)
    decision = decide(image, Observed(), NOW, SETTINGS)
    if then is None:
        assert not decision.effects
    else:
        assert decision.effects == (SetFinalizers(tuple(then)),)
        assert decision.ends_pass


def test_a_finalizer_that_may_not_be_set_is_told() -> None:
    refused = Retryable(Reason.CLUSTER_UNAVAILABLE, "the API server answers 403: patch niximages")
    image = seen(kept(None, FINALIZER))
    image = kept(image)
    decision = decide(image, observe(refused=refused, source=pinned()), NOW, SETTINGS)
    assert decision.effects == ()
    assert told(answered(image, decision))["Ready"] == "False/ClusterUnavailable"


# Deletion -----------------------------------------------------------------------------------------


def test_without_the_finalizer_nothing_is_to_do() -> None:
    for image in (kept(deleted=True), kept(None, OTHER, deleted=True)):
        decision = decide(image, Observed(), NOW, SETTINGS)
        assert (decision.looks, decision.effects, decision.status) == ((), (), None)


def test_with_the_policy_retain_only_the_finalizer_goes() -> None:
    image = kept(None, FINALIZER, OTHER, deleted=True, output={"deletionPolicy": "Retain"})
    assert decide(image, Observed(), NOW, SETTINGS).effects == (SetFinalizers((OTHER,)),)


def test_builds_end_then_the_repository_goes_then_the_finalizer() -> None:
    image = deleted()
    live = job(image)
    foreign = job(image, owner="another")
    decision = decide(image, observe(jobs=(live, foreign)), NOW, SETTINGS)
    assert decision.effects == (DeleteJob(live),)
    ending = observe(jobs=(replace(live, state=JobState.DELETING), foreign))
    decision = decide(image, ending, NOW, SETTINGS)
    assert decision.looks == (RemoveRepository("team-a/web"),)
    removed = replace(ending, removed=Removed(2, 1, 3))
    assert decide(image, removed, NOW, SETTINGS).effects == (SetFinalizers(()),)


@pytest.mark.parametrize("error", ["removed", "refused"])
def test_a_bucket_that_is_away_is_told_and_tried_again(error: str) -> None:
    image = deleted()
    failing = Observed(**{error: AWAY})  # type: ignore[arg-type]
    decision = decide(image, failing, NOW, SETTINGS)
    assert decision.requeue_after == 15.0
    failed = answered(image, decision)
    assert told(failed)["Ready"] == "False/RemovalFailed"
    assert told(failed)["Reconciling"] == "True/ProgressingWithRetry"
    assert "Stalled" not in told(failed)
    assert failed.status.digest == image.status.digest
    (event,) = happened(image.status, failed.status)
    assert (event.type, event.reason) == ("Warning", "RemovalFailed")
    assert "gs://images does not answer" in event.note
    message = failed.status.conditions[1].message
    assert "attempt 1 failed, next at 12:00:15Z" in message
    assert message.endswith("or with output.deletionPolicy: Retain")
    # Not before its time; then again, and the next time waits longer. One Event tells of all.
    assert decide(failed, Observed(), NOW, SETTINGS).requeue_after == 15.0
    later = NOW + dt.timedelta(seconds=15)
    assert decide(failed, Observed(), later, SETTINGS).looks == (RemoveRepository("team-a/web"),)
    again = decide(failed, failing, later, SETTINGS)
    assert again.requeue_after == 30.0
    assert happened(failed.status, answered(failed, again).status) == []


def test_an_earlier_failure_of_a_build_delays_no_removal() -> None:
    image = seen(kept(None, FINALIZER))
    observed = observe(
        jobs=(job(image, JobState.FAILED),),
        source=pinned(),
        outcome=Retryable(Reason.BUILD_INTERRUPTED, "evicted"),
    )
    image = kept(answered(image, decide(image, observed, NOW, SETTINGS)), FINALIZER, deleted=True)
    decision = decide(image, Observed(), NOW, SETTINGS)
    assert decision.looks == (RemoveRepository("team-a/web"),)


# Several images of one repository -----------------------------------------------------------------


def test_what_another_image_publishes_stays_but_not_our_tags() -> None:
    other = Sharer("shop", ("stable",), leaving=False, stays=True)
    gone = Sharer("old", ("web",), leaving=False, stays=False)
    observed = Observed(sharers=(other, gone))
    decision = decide(deleted(), observed, NOW, SETTINGS)
    assert decision.looks == (RemoveRepository("team-a/web", ("web",)),)


def test_images_that_leave_together_leave_nothing() -> None:
    other = Sharer("shop", ("stable",), leaving=True, stays=False)
    decision = decide(deleted(), Observed(sharers=(other,)), NOW, SETTINGS)
    assert decision.looks == (RemoveRepository("team-a/web"),)


def test_a_new_image_waits_for_one_that_leaves_its_repository() -> None:
    leaving = Sharer("old", (), leaving=True, stays=False)
    image = seen(nix_image())
    decision = decide(image, Observed(sharers=(leaving,)), NOW, SETTINGS)
    assert (decision.looks, decision.effects, decision.requeue_after) == ((), (), 2.0)
    waiting = answered(image, decision)
    assert told(waiting)["Reconciling"] == "True/Progressing"
    assert "waiting for the NixImage old to leave the repository team-a/web" in str(
        waiting.status.conditions
    )
    assert decide(waiting, Observed(), NOW, SETTINGS).looks == (Resolve(),)


def test_an_image_that_was_there_before_waits_for_nobody() -> None:
    leaving = Sharer("old", (), leaving=True, stays=False)
    observed = observe(sharers=(leaving,), source=pinned(), published=PUBLISHED)
    image = ready()
    assert decide(image, observed, NOW, SETTINGS).status == image.status
    building = seen(nix_image())
    at_it = observe(jobs=(job(building),), source=pinned(), published=ABSENT)
    building = answered(building, decide(building, at_it, NOW, SETTINGS))
    decision = decide(building, replace(at_it, sharers=(leaving,)), NOW, SETTINGS)
    assert decision.status == building.status
