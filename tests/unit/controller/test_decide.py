"""The operator's judgement as a table: a state, what was observed, and what follows.

The tests read top-down as the life of an image: seen, resolved, built, ready, moved, failed,
retried, suspended. Nothing runs here but a pure function.
"""

import datetime as dt
from dataclasses import replace
from typing import Any

import pytest

from niximage.api.build import PinnedBase
from niximage.api.status import ConditionType
from niximage.controller.decision.build import PROGRESS_EVERY, TWIN_EVERY
from niximage.controller.decision.decide import decide
from niximage.controller.job_view import JobState
from niximage.controller.steps import (
    CreateJob,
    DeleteJob,
    FindBase,
    FindJob,
    FindPublished,
    ReadOutcome,
    Resolve,
)
from niximage.controller.views import BaseWanting, Observed, Queued
from niximage.errors import Reason, Retryable, Terminal
from unit.controller.states import (
    ABSENT,
    DIGEST,
    NOW,
    OLD_REVISION,
    PUBLISHED,
    SETTINGS,
    answered,
    inputs,
    job,
    nix_image,
    observe,
    pinned,
    ready,
    result,
    seen,
    told,
)

GOOD = {
    "Ready": "True/Succeeded",
    "BuildSucceeded": "True/Succeeded",
    "Published": "True/Succeeded",
}
UNREACHABLE = Retryable(Reason.SOURCE_UNAVAILABLE, "https://example.org does not answer")
NO_BRANCH = Terminal(Reason.REFERENCE_NOT_FOUND, "there is no branch nixos-26.05")
BROKEN = Terminal(
    Reason.BUILD_FAILED, "hello failed", derivation="/nix/store/x-hello.drv", log_tail="oops"
)
EVICTED = Retryable(Reason.BUILD_INTERRUPTED, "the pod is gone")


def test_a_new_image_is_answered_at_once_and_its_source_looked_up() -> None:
    image = nix_image()
    decision = decide(image, observe(), NOW, SETTINGS)
    assert decision.looks == (Resolve(),)
    assert told(answered(image, decision)) == {
        "Ready": "Unknown/Progressing",
        "Reconciling": "True/ResolvingSource",
    }


def test_a_resolved_source_asks_the_bucket_before_any_job() -> None:
    image = seen(nix_image())
    decision = decide(image, observe(source=pinned()), NOW, SETTINGS)
    assert decision.looks == (FindPublished(inputs(image)),)
    assert not decision.effects


def test_what_the_bucket_holds_is_ready_without_a_job() -> None:
    image = ready()
    assert told(image) == {**GOOD, "SourceResolved": "True/Succeeded"}
    assert image.status.image == f"127.0.0.1:5000/team-a/web@{DIGEST}"
    assert image.status.digest == DIGEST
    assert image.status.artifact is not None
    assert image.status.artifact.reused_layers == 1


def test_what_the_bucket_lacks_is_built() -> None:
    image = seen(nix_image())
    decision = decide(image, observe(source=pinned(), published=ABSENT), NOW, SETTINGS)
    (create,) = decision.effects
    assert isinstance(create, CreateJob)
    assert create.name == f"web-{inputs(image)[:10]}"
    assert create.attempt == 1
    assert create.request.source == pinned()
    assert create.request.repository == "team-a/web"


def test_a_live_job_is_waited_for_and_never_doubled() -> None:
    image = seen(nix_image())
    decision = decide(image, observe(jobs=(job(image),), source=pinned()), NOW, SETTINGS)
    assert not decision.effects
    assert not decision.looks
    image = answered(image, decision)
    assert told(image)["Reconciling"] == "True/Building"
    assert image.status.current_build is not None
    assert image.status.current_build.job_name == f"web-{inputs(image)[:10]}"


def test_a_job_deleted_by_hand_is_made_anew() -> None:
    image = seen(nix_image())
    building = answered(
        image, decide(image, observe(jobs=(job(image),), source=pinned()), NOW, SETTINGS)
    )
    decision = decide(building, observe(source=pinned(), published=ABSENT), NOW, SETTINGS)
    assert [type(e) for e in decision.effects] == [CreateJob]


def test_a_job_on_its_way_out_is_waited_for() -> None:
    image = seen(nix_image())
    leaving = job(image, JobState.DELETING)
    observed = observe(jobs=(leaving,), source=pinned(), published=ABSENT)
    assert decide(image, observed, NOW, SETTINGS).looks == (FindJob(leaving),)
    decision = decide(image, replace(observed, in_the_way=leaving), NOW, SETTINGS)
    assert not decision.effects
    assert decision.requeue_after is not None


def test_a_job_of_another_object_is_never_taken_for_ours() -> None:
    image = seen(nix_image())
    foreign = job(image, owner="u-0")
    observed = observe(jobs=(foreign,), source=pinned())
    assert decide(image, observed, NOW, SETTINGS).looks == (FindJob(foreign),)
    decision = decide(image, replace(observed, in_the_way=foreign), NOW, SETTINGS)
    assert not decision.effects
    assert decision.requeue_after == PROGRESS_EVERY
    waiting = answered(image, decision)
    assert told(waiting)["Reconciling"] == "True/Queued"
    assert waiting.status.failure is None, "no attempt is spent"
    words = waiting.status.condition(ConditionType.RECONCILING)
    assert words is not None
    assert words.message.endswith(f"If it stays: kubectl delete job {foreign.name} -n team-a")


def test_who_waits_for_the_build_of_the_same_looks_at_it_again() -> None:
    image = seen(nix_image())
    turn = Queued("waiting for other-1, which builds the same inputs", (job(image),), twin=True)
    observed = observe(source=pinned(), published=ABSENT, turn=turn)
    assert decide(image, observed, NOW, SETTINGS).requeue_after == TWIN_EVERY
    full = replace(observed, turn=replace(turn, twin=False))
    assert decide(image, full, NOW, SETTINGS).requeue_after is None


def test_a_succeeded_job_is_believed_only_after_the_bucket_was_seen() -> None:
    image = seen(nix_image())
    observed = observe(jobs=(job(image, JobState.SUCCEEDED),), source=pinned())
    assert decide(image, observed, NOW, SETTINGS).looks == (ReadOutcome(observed.jobs[0]),)
    observed = replace(observed, outcome=result(image))
    assert decide(image, observed, NOW, SETTINGS).looks == (FindPublished(inputs(image)),)
    observed = replace(observed, published=PUBLISHED)
    assert told(answered(image, decide(image, observed, NOW, SETTINGS)))["Ready"] == (
        "True/Succeeded"
    )


@pytest.mark.parametrize(
    "lie",
    [
        pytest.param({"published": ABSENT}, id="the bucket does not hold it"),
        pytest.param({"outcome": "sha256:" + "e" * 64}, id="the bucket holds another digest"),
    ],
)
def test_a_result_that_the_bucket_does_not_confirm_is_never_published(
    lie: dict[str, object],
) -> None:
    image = seen(nix_image())
    digest = lie.get("outcome", DIGEST)
    assert isinstance(digest, str)
    observed = observe(
        jobs=(job(image, JobState.SUCCEEDED),),
        source=pinned(),
        outcome=result(image, digest),
        published=ABSENT if "published" in lie else PUBLISHED,
    )
    decision = decide(image, observed, NOW, SETTINGS)
    image = answered(image, decision)
    assert image.status.image is None
    assert told(image)["Ready"] == "False/ResultInvalid"
    assert told(image)["Reconciling"] == "True/ProgressingWithRetry"


def test_a_moved_source_rebuilds_behind_a_ready_image() -> None:
    image = ready(revision=OLD_REVISION)
    running = job(image)
    decision = decide(image, observe(jobs=(running,), source=pinned()), NOW, SETTINGS)
    image = answered(image, decision)
    assert told(image) == {
        **GOOD,
        "SourceResolved": "True/Succeeded",
        "Outdated": "True/NewRevision",
    }
    assert image.status.digest == DIGEST


def test_a_moved_source_with_the_same_result_changes_no_image() -> None:
    image = ready(revision=OLD_REVISION)
    before = image.status
    later = NOW + dt.timedelta(hours=1)
    image = answered(
        image, decide(image, observe(source=pinned(), published=PUBLISHED), later, SETTINGS)
    )
    assert image.status.image == before.image
    assert image.status.artifact is not None
    assert before.artifact is not None
    assert image.status.artifact.last_update_time == before.artifact.last_update_time
    assert image.status.source is not None
    assert image.status.source.revision == pinned().revision


def test_superseded_builds_are_deleted() -> None:
    image = seen(nix_image())
    old = job(image, revision=OLD_REVISION)
    observed = observe(jobs=(old,), source=pinned(), published=ABSENT)
    decision = decide(image, observed, NOW, SETTINGS)
    assert decision.effects[0] == DeleteJob(old)
    assert isinstance(decision.effects[1], CreateJob)


def test_nothing_is_written_when_nothing_changed() -> None:
    image = ready()
    decision = decide(image, observe(source=pinned()), NOW + dt.timedelta(days=1), SETTINGS)
    assert decision.status is not None
    assert decision.status.merge_patch_from(image.status.to_json()) == {}
    assert not decision.effects
    assert decision.poll_after is not None
    assert 0 < decision.poll_after <= 600


def test_a_fixed_commit_is_not_polled() -> None:
    image = ready(nix_image(source={"nixpkgs": {"revision": pinned().revision}}))
    assert decide(image, observe(source=pinned()), NOW, SETTINGS).poll_after is None


# Failures --------------------------------------------------------------------------------------


def test_an_unreachable_source_is_tried_again_with_a_doubling_delay() -> None:
    image = seen(nix_image())
    now, delays = NOW, []
    for _ in range(4):
        decision = decide(image, observe(source=UNREACHABLE), now, SETTINGS)
        image = answered(image, decision)
        assert told(image) == {
            "Ready": "False/SourceUnavailable",
            "Reconciling": "True/ProgressingWithRetry",
            "SourceResolved": "False/SourceUnavailable",
        }
        assert decision.requeue_after is not None
        delays.append(decision.requeue_after)
        now += dt.timedelta(seconds=decision.requeue_after)
    assert delays == [15, 30, 60, 120]


def test_a_waiting_retry_survives_a_restart_and_is_not_hurried() -> None:
    image = seen(nix_image())
    image = answered(image, decide(image, observe(source=UNREACHABLE), NOW, SETTINGS))
    decision = decide(image, observe(), NOW + dt.timedelta(seconds=5), SETTINGS)
    assert not decision.looks
    assert decision.requeue_after == 10
    assert decision.status is not None
    assert decision.status.merge_patch_from(image.status.to_json()) == {}


def test_a_good_image_stays_ready_while_its_source_cannot_be_asked() -> None:
    image = ready()
    image = answered(image, decide(image, observe(source=UNREACHABLE), NOW, SETTINGS))
    assert told(image) == {
        **GOOD,
        "SourceResolved": "False/SourceUnavailable",
    }


def test_a_reference_that_is_not_there_stalls_and_is_still_looked_for() -> None:
    image = seen(nix_image())
    decision = decide(image, observe(source=NO_BRANCH), NOW, SETTINGS)
    image = answered(image, decision)
    assert told(image)["Stalled"] == "True/ReferenceNotFound"
    assert "Reconciling" not in told(image)
    assert decision.poll_after is not None
    assert decide(image, observe(), NOW, SETTINGS).looks == (Resolve(),)
    again = decide(image, observe(source=NO_BRANCH), NOW + dt.timedelta(hours=1), SETTINGS)
    assert again.status is not None
    assert again.status.merge_patch_from(image.status.to_json()) == {}


def failed_build(error: Terminal | Retryable, attempt: int = 1) -> Observed:
    image = nix_image()
    failed = job(image, JobState.FAILED, attempt=attempt)
    return observe(jobs=(failed,), source=pinned(), outcome=error)


def test_a_failed_build_stalls_with_derivation_and_log() -> None:
    image = seen(nix_image())
    image = answered(image, decide(image, failed_build(BROKEN), NOW, SETTINGS))
    assert told(image) == {
        "Ready": "False/BuildFailed",
        "Stalled": "True/BuildFailed",
        "BuildSucceeded": "False/BuildFailed",
        "SourceResolved": "True/Succeeded",
    }
    assert image.status.failure is not None
    assert image.status.failure.derivation == "/nix/store/x-hello.drv"
    assert image.status.failure.log_tail == "oops"


def test_a_stalled_image_stays_stalled_whatever_becomes_of_its_job() -> None:
    image = seen(nix_image())
    image = answered(image, decide(image, failed_build(BROKEN), NOW, SETTINGS))
    for jobs in (failed_build(BROKEN).jobs, ()):
        decision = decide(image, observe(jobs=jobs, source=pinned()), NOW, SETTINGS)
        assert not decision.effects
        assert not decision.looks
        assert decision.status is not None
        assert decision.status.merge_patch_from(image.status.to_json()) == {}


def test_a_new_revision_leaves_stalled() -> None:
    image = seen(nix_image())
    observed = observe(
        jobs=(job(image, JobState.FAILED, revision=OLD_REVISION),),
        source=pinned(OLD_REVISION),
        outcome=BROKEN,
    )
    image = answered(image, decide(image, observed, NOW, SETTINGS))
    assert "Stalled" in told(image)
    decision = decide(image, observe(source=pinned(), published=ABSENT), NOW, SETTINGS)
    assert [type(e) for e in decision.effects] == [CreateJob]


def test_a_new_generation_gives_equal_inputs_another_chance() -> None:
    image = seen(nix_image())
    image = answered(image, decide(image, failed_build(BROKEN), NOW, SETTINGS))
    edited = nix_image(image.status, generation=2, timeout="2h")
    edited = answered(edited, decide(edited, observe(), NOW, SETTINGS))
    assert "Stalled" not in told(edited)
    failed = failed_build(BROKEN).jobs
    decision = decide(edited, observe(jobs=failed, source=pinned()), NOW, SETTINGS)
    assert decision.effects == (DeleteJob(failed[0]),)
    decision = decide(edited, observe(source=pinned(), published=ABSENT), NOW, SETTINGS)
    (create,) = decision.effects
    assert isinstance(create, CreateJob)
    assert create.attempt == 2


def test_an_interrupted_build_is_repeated_after_its_delay() -> None:
    image = seen(nix_image())
    first = failed_build(EVICTED)
    decision = decide(image, first, NOW, SETTINGS)
    image = answered(image, decision)
    assert told(image)["Reconciling"] == "True/ProgressingWithRetry"
    assert decision.requeue_after == 15
    waiting = decide(image, observe(jobs=first.jobs, source=pinned()), NOW, SETTINGS)
    assert not waiting.effects
    due = NOW + dt.timedelta(seconds=15)
    decision = decide(image, observe(jobs=first.jobs, source=pinned()), due, SETTINGS)
    assert decision.effects == (DeleteJob(first.jobs[0]),)
    decision = decide(image, observe(source=pinned(), published=ABSENT), due, SETTINGS)
    (create,) = decision.effects
    assert isinstance(create, CreateJob)
    assert create.attempt == 2


def test_an_unwritable_bucket_is_waited_for() -> None:
    image = seen(nix_image())
    error = Retryable(Reason.BUCKET_UNAVAILABLE, "gs://images answers 403")
    observed = observe(source=pinned(), published=error)
    image = answered(image, decide(image, observed, NOW, SETTINGS))
    assert told(image)["Ready"] == "False/BucketUnavailable"
    assert told(image)["Reconciling"] == "True/ProgressingWithRetry"


def test_a_job_that_succeeded_is_not_repeated_for_a_bucket_that_was_away() -> None:
    image = seen(nix_image())
    done = job(image, JobState.SUCCEEDED)
    away = Retryable(Reason.BUCKET_UNAVAILABLE, "gs://images answers 503")
    observed = observe(jobs=(done,), source=pinned(), outcome=result(image), published=away)
    image = answered(image, decide(image, observed, NOW, SETTINGS))
    due = NOW + dt.timedelta(seconds=15)
    decision = decide(image, observe(jobs=(done,), source=pinned()), due, SETTINGS)
    assert decision.looks == (FindPublished(inputs(image)),)
    observed = observe(jobs=(done,), source=pinned(), published=PUBLISHED)
    assert told(answered(image, decide(image, observed, due, SETTINGS)))["Ready"] == (
        "True/Succeeded"
    )


def test_a_failed_rebuild_leaves_the_old_image_ready_and_outdated() -> None:
    image = ready(revision=OLD_REVISION)
    image = answered(image, decide(image, failed_build(BROKEN), NOW, SETTINGS))
    assert told(image) == {
        **GOOD,
        "SourceResolved": "True/Succeeded",
        "Outdated": "True/BuildFailed",
    }
    assert image.status.digest == DIGEST


def test_a_refusal_of_the_cluster_is_told_and_retried() -> None:
    image = seen(nix_image())
    refused = Retryable(Reason.CLUSTER_UNAVAILABLE, "the API server answers 403: exceeded quota")
    decision = decide(image, observe(source=pinned(), refused=refused), NOW, SETTINGS)
    image = answered(image, decision)
    assert told(image)["Ready"] == "False/ClusterUnavailable"
    assert decision.requeue_after == 15


# Spec changes, suspension, deletion --------------------------------------------------------------


def test_an_edited_spec_is_not_ready_until_it_is_built() -> None:
    image = ready()
    edited = nix_image(image.status, generation=2, packages=["jq"])
    edited = answered(edited, decide(edited, observe(), NOW, SETTINGS))
    assert told(edited)["Ready"] == "Unknown/Progressing"
    assert edited.status.digest == DIGEST, "the last good digest stays"


def test_an_edit_that_changes_no_input_is_ready_at_once() -> None:
    image = ready()
    edited = nix_image(image.status, generation=2, interval="1h")
    edited = answered(edited, decide(edited, observe(), NOW, SETTINGS))
    decision = decide(edited, observe(source=pinned()), NOW, SETTINGS)
    assert not decision.effects
    assert told(answered(edited, decision))["Ready"] == "True/Succeeded"


# Platforms ---------------------------------------------------------------------------------------

BOTH = ["linux/arm64", "linux/amd64"]


def test_all_platforms_are_built_by_one_job_and_named() -> None:
    image = seen(nix_image(platforms=BOTH))
    decision = decide(image, observe(source=pinned(), published=ABSENT), NOW, SETTINGS)
    (create,) = decision.effects
    assert isinstance(create, CreateJob)
    assert create.request.platforms == sorted(BOTH)
    running = decide(image, observe(source=pinned(), jobs=(job(image),)), NOW, SETTINGS)
    building = answered(image, running).status.condition(ConditionType.RECONCILING)
    assert building is not None
    assert "building 2 packages for linux/amd64 and linux/arm64 at 1111" in building.message
    image = ready(nix_image(platforms=BOTH))
    assert image.status.artifact is not None
    assert image.status.artifact.platforms == sorted(BOTH)
    told_ready = image.status.condition(ConditionType.READY)
    assert told_ready is not None
    assert told_ready.message.startswith("linux/amd64 and linux/arm64: 3 layers, 3.0 kB; ")


def test_platforms_in_another_order_are_the_same_image() -> None:
    image = ready(nix_image(platforms=BOTH))
    edited = nix_image(image.status, generation=2, platforms=BOTH[::-1])
    edited = answered(edited, decide(edited, observe(), NOW, SETTINGS))
    decision = decide(edited, observe(source=pinned()), NOW, SETTINGS)
    assert not decision.effects
    assert told(answered(edited, decision))["Ready"] == "True/Succeeded"


def test_a_further_platform_is_built() -> None:
    image = ready()
    edited = nix_image(image.status, generation=2, platforms=BOTH)
    edited = answered(edited, decide(edited, observe(), NOW, SETTINGS))
    decision = decide(edited, observe(source=pinned()), NOW, SETTINGS)
    assert decision.looks == (FindPublished(inputs(edited)),)
    assert inputs(edited) != inputs(image)


def test_a_suspended_image_is_left_alone() -> None:
    image = nix_image(ready().status, suspend=True)
    decision = decide(image, observe(), NOW, SETTINGS)
    assert not decision.looks
    assert not decision.effects
    assert told(answered(image, decision))["Ready"] == "True/Succeeded"


def test_an_image_suspended_before_its_first_build_says_so() -> None:
    image = nix_image(suspend=True)
    decision = decide(image, observe(), NOW, SETTINGS)
    assert told(answered(image, decision)) == {"Ready": "False/Suspended"}


def test_a_deleted_image_is_not_touched() -> None:
    image = nix_image()
    image = image.model_copy(
        update={"metadata": image.metadata.model_copy(update={"deletion_timestamp": "now"})}
    )
    decision = decide(image, observe(jobs=(job(image),)), NOW, SETTINGS)
    assert decision == type(decision)()


@pytest.mark.parametrize("error", [NO_BRANCH, UNREACHABLE, BROKEN, EVICTED], ids=lambda e: e.reason)
def test_stalled_and_reconciling_never_stand_together(error: Terminal | Retryable) -> None:
    image = seen(nix_image())
    observed = observe(source=error) if error in (NO_BRANCH, UNREACHABLE) else failed_build(error)
    conditions = told(answered(image, decide(image, observed, NOW, SETTINGS)))
    assert ("Stalled" in conditions) != ("Reconciling" in conditions)


# Bases -------------------------------------------------------------------------------------------

BASED: dict[str, Any] = {"base": {"niximage": {"name": "base"}}}
BASE = PinnedBase(repository="team-a/base", digest="sha256:" + "b" * 64)
WANTING = BaseWanting("waiting for the base base: there is no such NixImage")


def test_an_image_upon_another_looks_for_it_once_the_source_is_known() -> None:
    image = seen(nix_image(**BASED))
    assert decide(image, observe(), NOW, SETTINGS).looks == (Resolve(),)
    decision = decide(image, observe(source=pinned()), NOW, SETTINGS)
    assert decision.looks == (FindBase("base"),)


def test_an_image_waits_for_its_base_and_says_so() -> None:
    image = seen(nix_image(**BASED))
    decision = decide(image, observe(source=pinned(), base=WANTING), NOW, SETTINGS)
    assert not decision.effects
    assert not decision.looks
    image = answered(image, decision)
    assert told(image) == {
        "Ready": "Unknown/Progressing",
        "Reconciling": "True/Progressing",
        "SourceResolved": "True/Succeeded",
    }
    ready_condition = image.status.condition(ConditionType.READY)
    assert ready_condition is not None
    assert ready_condition.message == WANTING.words


def test_the_digest_of_the_base_is_an_input() -> None:
    image = seen(nix_image(**BASED))
    observed = observe(source=pinned(), base=BASE, published=ABSENT)
    (create,) = decide(image, observed, NOW, SETTINGS).effects
    other = replace(observed, base=BASE.model_copy(update={"digest": "sha256:" + "c" * 64}))
    (create_other,) = decide(image, other, NOW, SETTINGS).effects
    assert isinstance(create, CreateJob)
    assert isinstance(create_other, CreateJob)
    assert create.request.base == BASE
    assert create.request.input_hash != create_other.request.input_hash


def test_a_new_base_rebuilds_behind_a_ready_image_and_a_lost_one_changes_nothing() -> None:
    image = seen(nix_image(**BASED))
    observed = observe(source=pinned(), base=BASE, published=PUBLISHED)
    image = answered(image, decide(image, observed, NOW, SETTINGS))
    assert told(image)["Ready"] == "True/Succeeded"
    newer = BASE.model_copy(update={"digest": "sha256:" + "c" * 64})
    observed = observe(source=pinned(), base=newer, published=ABSENT)
    decision = decide(image, observed, NOW, SETTINGS)
    (create,) = decision.effects
    assert isinstance(create, CreateJob)
    running = replace(job(nix_image()), name=create.name, input_hash=create.request.input_hash)
    decision = decide(image, replace(observed, jobs=(running,)), NOW, SETTINGS)
    assert told(answered(image, decision))["Ready"] == "True/Succeeded"
    lost = decide(image, observe(source=pinned(), base=WANTING), NOW, SETTINGS)
    assert lost.status is not None
    assert lost.status.merge_patch_from(image.status.to_json()) == {}


def test_bases_in_a_circle_stall() -> None:
    circle = Terminal(Reason.INVALID_SPEC, "the bases go round in a circle: web → base → web")
    image = seen(nix_image(**BASED))
    image = answered(image, decide(image, observe(source=pinned(), base=circle), NOW, SETTINGS))
    assert told(image)["Stalled"] == "True/InvalidSpec"
    decision = decide(image, observe(source=pinned(), base=BASE), NOW, SETTINGS)
    assert decision.looks, "mended, it goes on"


def test_a_base_of_a_registry_is_known_from_the_spec() -> None:
    digest = "sha256:" + "b" * 64
    image = seen(nix_image(base={"image": f"docker.io/library/debian:12@{digest}"}))
    (create,) = decide(image, observe(source=pinned(), published=ABSENT), NOW, SETTINGS).effects
    assert isinstance(create, CreateJob)
    assert create.request.base == PinnedBase(image="docker.io/library/debian", digest=digest)
