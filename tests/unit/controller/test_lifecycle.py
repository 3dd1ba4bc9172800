"""What a user can ask for beyond a first build: retries, holds, requests, digests, history."""

import datetime as dt
from dataclasses import replace
from typing import Any

import pytest

from niximage.api.image import FORCE_AT, REQUESTED_AT, NixImage
from niximage.api.status import ConditionType, Progress
from niximage.controller.builds.job import job_manifest
from niximage.controller.decision.case import Decision
from niximage.controller.decision.decide import decide
from niximage.controller.job_view import TEMPLATE, JobState, JobView
from niximage.controller.metrics import Metrics
from niximage.controller.steps import (
    CreateJob,
    DeleteJob,
    FindPublished,
    MoveTags,
    ReadOutcome,
    ReadProgress,
    Resolve,
    TakeTurn,
    Urgency,
)
from niximage.controller.views import Absent, ClassWanting, Observed, Queued, Sharer
from niximage.errors import NixImageError, Reason, Retryable, Terminal
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

NEWER = "2" * 40
EVICTED = Retryable(Reason.BUILD_INTERRUPTED, "the pod is gone")
OUT_OF_MEMORY = Terminal(Reason.OUT_OF_MEMORY, "the build step ran out of memory")
BROKEN = Terminal(Reason.BUILD_FAILED, "the derivation hello does not build")
TOO_LONG = Terminal(Reason.BUILD_TIMEOUT, "the build took longer than spec.timeout allows")


def words(image: NixImage, kind: ConditionType) -> str:
    condition = image.status.condition(kind)
    assert condition is not None
    return condition.message


def step(image: NixImage, observed: Observed, now: dt.datetime = NOW) -> tuple[NixImage, Decision]:
    decision = decide(image, observed, now, SETTINGS)
    return (image if decision.status is None else answered(image, decision)), decision


# Retries ----------------------------------------------------------------------------------------


def fail(image: NixImage, error: NixImageError, attempt: int, now: dt.datetime) -> NixImage:
    why = "DeadlineExceeded" if error is TOO_LONG else "BackoffLimitExceeded"
    failed = job(image, JobState.FAILED, attempt=attempt, failed_for=why)
    return step(image, observe(jobs=(failed,), source=pinned(), outcome=error), now)[0]


def tries(image: NixImage, error: NixImageError, most: int = 0) -> list[float]:
    """The delays after each failure, until there is no other try, or there were `most`."""
    delays: list[float] = []
    now = NOW
    image = seen(image)
    for attempt in range(1, 30):
        image = fail(image, error, attempt, now)
        failure = image.status.failure
        assert failure is not None
        if failure.next_retry_time is None:
            return delays
        delays.append((failure.next_retry_time - now).total_seconds())
        if len(delays) == most:
            return delays
        now = failure.next_retry_time
    pytest.fail("it never ends")


@pytest.mark.parametrize(
    ("retry", "delays"),
    [
        ({}, [15, 30, 60, 120, 240]),
        ({"limit": 2}, [15, 30]),
        ({"limit": 0}, []),
        ({"limit": 3, "minBackoff": "1m", "maxBackoff": "90s"}, [60, 90, 90]),
    ],
)
def test_an_interrupted_build_is_tried_again_as_the_spec_says(
    retry: dict[str, Any], delays: list[float]
) -> None:
    assert tries(nix_image(build={"retry": retry}), EVICTED) == delays


@pytest.mark.parametrize("error", [OUT_OF_MEMORY, TOO_LONG])
def test_memory_and_time_that_ran_out_get_one_more_chance(error: Terminal) -> None:
    assert tries(nix_image(), error) == [15]
    assert tries(nix_image(build={"retry": {"limit": 0}}), error) == []


def test_a_server_that_asks_for_time_gets_it() -> None:
    error = Retryable(Reason.CLUSTER_UNAVAILABLE, "the API server answers 429")
    error.retry_after = 40
    image = seen(nix_image())
    image, decision = step(image, observe(source=pinned(), refused=error))
    assert decision.requeue_after == 40


@pytest.mark.parametrize(
    ("jump", "waits"),
    [(0, True), (-30, True), (-86_400, False), (86_400, False)],
    ids=["none", "another replica's clock", "back", "forth"],
)
def test_a_clock_that_is_set_delays_no_retry(jump: float, waits: bool) -> None:
    image = fail(seen(nix_image()), EVICTED, 1, NOW)
    failed = job(image, JobState.FAILED)
    later = NOW + dt.timedelta(seconds=jump)
    _, decision = step(image, observe(jobs=(failed,), source=pinned()), later)
    assert (decision.effects == ()) == waits
    if waits:
        assert decision.requeue_after == 15 - jump


@pytest.mark.parametrize("reason", [Reason.AUTHENTICATION_FAILED, Reason.CREDENTIALS_MISSING])
def test_keys_that_do_not_open_the_source_are_tried_for_ever(reason: Reason) -> None:
    """Nobody tells the operator that a Secret was mended, so it must not give up."""
    image = nix_image(build={"retry": {"limit": 2, "minBackoff": "10s", "maxBackoff": "40s"}})
    found = tries(image, Retryable(reason, "the Secret does not open it"), most=6)
    assert found == [10, 20, 40, 40, 40, 40]


def test_who_gives_up_says_after_how_many_tries_and_what_to_do() -> None:
    image = seen(nix_image(build={"retry": {"limit": 1}}))
    image = fail(image, EVICTED, 1, NOW)
    assert told(image)["Reconciling"] == "True/ProgressingWithRetry"
    image = fail(image, EVICTED, 2, NOW + dt.timedelta(seconds=15))
    assert told(image)["Stalled"] == "True/BuildInterrupted"
    assert "Given up after 2 attempts" in words(image, ConditionType.STALLED)
    assert "kubectl niximage retry web -n team-a" in words(image, ConditionType.STALLED)


def test_what_was_given_up_is_left_alone_until_somebody_asks() -> None:
    image = fail(seen(nix_image(build={"retry": {"limit": 0}})), EVICTED, 1, NOW)
    later = NOW + dt.timedelta(days=1)
    gone = observe(source=pinned(), published=ABSENT)
    assert not decide(image, gone, later, SETTINGS).effects
    asked = request(image, "now")
    asked, decision = step(asked, observe(), later)
    assert decision.looks == (Resolve(fresh=True),)
    assert told(asked)["Reconciling"] == "True/ResolvingSource"
    (create,) = decide(asked, gone, later, SETTINGS).effects
    assert isinstance(create, CreateJob)
    assert create.attempt == 2
    building = observe(jobs=(job(asked, attempt=2),), source=pinned())
    asked, _ = step(asked, building, later)
    assert asked.status.last_handled_reconcile_at == "now"


# Requests ---------------------------------------------------------------------------------------


def request(image: NixImage, token: str, *, force: bool = False) -> NixImage:
    annotations = {REQUESTED_AT: token, **({FORCE_AT: token} if force else {})}
    metadata = image.metadata.model_copy(update={"annotations": annotations})
    return image.model_copy(update={"metadata": metadata})


def test_a_request_looks_the_source_up_afresh_once_and_leaves_a_good_image_alone() -> None:
    before = ready()
    image, decision = step(request(before, "1"), observe())
    assert decision.looks == (Resolve(fresh=True),)
    assert image.status == before.status, "it is not answered before the source was"
    image, _ = step(image, observe(source=pinned()))
    assert told(image) == told(before)
    assert image.status.last_handled_reconcile_at == "1"
    assert decide(image, observe(), NOW, SETTINGS).looks == (Resolve(),)


def test_a_request_to_a_suspended_image_waits_for_it() -> None:
    image = request(nix_image(ready().status, suspend=True), "1")
    image, decision = step(image, observe())
    assert not decision.looks
    assert image.status.last_handled_reconcile_at is None


def test_force_builds_again_what_is_published() -> None:
    image, _ = step(request(ready(), "1", force=True), observe())
    old = job(image, JobState.SUCCEEDED)
    decision = decide(image, observe(jobs=(old,), source=pinned()), NOW, SETTINGS)
    assert decision.effects == (DeleteJob(old),)
    (create,) = decide(image, observe(source=pinned()), NOW, SETTINGS).effects
    assert isinstance(create, CreateJob)
    assert create.force == "1"

    running = job(image, force="1")
    image, _ = step(image, observe(jobs=(running,), source=pinned()))
    assert image.status.last_handled_force_at is None
    assert told(image)["Ready"] == "True/Succeeded"
    assert told(image)["Outdated"] == "True/NewRevision"

    done = observe(jobs=(replace(running, state=JobState.SUCCEEDED),), source=pinned())
    assert isinstance(decide(image, done, NOW, SETTINGS).looks[0], ReadOutcome)
    image, _ = step(image, replace(done, outcome=result(image), published=PUBLISHED))
    assert "Outdated" not in told(image)
    assert image.status.last_handled_force_at == "1"
    again = decide(image, done, NOW, SETTINGS)
    assert not again.looks
    assert not again.effects


def test_a_forced_build_that_may_yet_succeed_is_tried_again() -> None:
    image, _ = step(request(ready(), "1", force=True), observe())
    failed = job(image, JobState.FAILED, force="1")
    image, _ = step(image, observe(jobs=(failed,), source=pinned(), outcome=EVICTED))
    assert told(image)["Outdated"] == "True/BuildInterrupted"
    waiting = observe(jobs=(failed,), source=pinned())
    assert told(step(image, waiting)[0]) == told(image)
    due = NOW + dt.timedelta(minutes=1)
    assert decide(image, waiting, due, SETTINGS).effects == (DeleteJob(failed),)
    (create,) = decide(image, observe(source=pinned()), due, SETTINGS).effects
    assert isinstance(create, CreateJob)
    assert (create.force, create.attempt) == ("1", 2)


def test_a_forced_build_that_is_given_up_leaves_the_good_image() -> None:
    image, _ = step(request(ready(), "1", force=True), observe())
    failed = observe(jobs=(job(image, JobState.FAILED, force="1"),), source=pinned())
    image, _ = step(image, replace(failed, outcome=BROKEN))
    assert image.status.last_handled_force_at == "1"
    assert image.status.history[0].reason == BROKEN.reason
    image, decision = step(image, failed)
    assert not decision.effects
    assert told(image)["Ready"] == "True/Succeeded"


def test_force_without_the_same_request_is_none() -> None:
    metadata = ready().metadata.model_copy(update={"annotations": {FORCE_AT: "1"}})
    image = ready().model_copy(update={"metadata": metadata})
    assert not decide(image, observe(source=pinned()), NOW, SETTINGS).effects


# Turns ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("image", "urgency"),
    [
        (seen(nix_image()), Urgency.WANTED),
        (ready(revision=OLD_REVISION), Urgency.MOVED),
        (
            answered(
                image := seen(nix_image()),
                decide(
                    image,
                    observe(jobs=(job(image, JobState.FAILED),), source=pinned(), outcome=EVICTED),
                    NOW - dt.timedelta(minutes=1),
                    SETTINGS,
                ),
            ),
            Urgency.RETRY,
        ),
    ],
    ids=["new", "moved", "retried"],
)
def test_a_build_asks_for_its_turn(image: NixImage, urgency: Urgency) -> None:
    observed = Observed(source=pinned(), published=ABSENT)
    assert decide(image, observed, NOW, SETTINGS).looks == (TakeTurn(inputs(image), urgency),)


@pytest.mark.parametrize("good", [False, True])
def test_a_build_that_waits_for_its_turn_says_why(good: bool) -> None:
    image = ready(revision=OLD_REVISION) if good else seen(nix_image())
    full = Queued("waiting: all 5 builds that this namespace may run at once are running")
    image, decision = step(image, observe(source=pinned(), published=ABSENT, turn=full))
    assert not decision.effects
    kind = ConditionType.OUTDATED if good else ConditionType.RECONCILING
    assert words(image, kind) == full.words
    assert told(image)["Ready"] == ("True/Succeeded" if good else "Unknown/Progressing")


def test_a_job_that_kueue_holds_back_is_queued() -> None:
    image = seen(nix_image(build={"queueName": "team"}))
    image, _ = step(image, observe(jobs=(job(image, suspended=True),), source=pinned()))
    assert told(image)["Reconciling"] == "True/Queued"
    assert "queue team" in words(image, ConditionType.RECONCILING)


# Progress ---------------------------------------------------------------------------------------


def test_progress_is_looked_for_and_told() -> None:
    image = seen(nix_image())
    running = Observed(jobs=(job(image),), source=pinned())
    assert decide(image, running, NOW, SETTINGS).looks == (ReadProgress(running.jobs[0]),)
    progress = Progress(phase="realise", done=12, total=40, message="building hello-2.12")
    image, decision = step(image, replace(running, progress=progress))
    assert decision.requeue_after == 15
    told_words = words(image, ConditionType.RECONCILING)
    assert told_words.endswith("realise 12 of 40, building hello-2.12")
    image, _ = step(image, replace(running, progress=ABSENT))
    assert words(image, ConditionType.RECONCILING) == told_words, "no news changes nothing"


def stuck(phase: str, words: str = "0/1 nodes are available") -> Progress:
    return Progress(phase=phase, message=words)


@pytest.mark.parametrize(
    ("phase", "reason", "told_words"),
    [
        ("Pending", "PodPending", "its pod does not start: 0/1 nodes are available"),
        ("Lost", "BuildInterrupted", "its pod is lost: 0/1 nodes are available"),
    ],
)
def test_a_pod_that_does_not_run_is_told_of_in_the_cluster_s_words(
    phase: str, reason: str, told_words: str
) -> None:
    image = seen(nix_image())
    observed = observe(jobs=(job(image),), source=pinned(), progress=stuck(phase))
    image, _ = step(image, observed)
    assert told(image)["Ready"] == f"Unknown/{reason}"
    assert told(image)["Reconciling"] == f"True/{reason}"
    assert words(image, ConditionType.READY).endswith(told_words)
    image, _ = step(image, replace(observed, progress=Progress(phase="build")))
    assert told(image)["Ready"] == "Unknown/Progressing", "it runs"
    good = ready()
    moved = observe(jobs=(job(good, revision=NEWER),), source=pinned(NEWER), progress=stuck(phase))
    good, _ = step(good, moved)
    assert told(good)["Ready"] == "True/Succeeded"
    assert told(good)["Outdated"] == f"True/{reason}"


@pytest.mark.parametrize(
    ("change", "progress", "remade"),
    [
        ({"build": {"nodeSelector": {"disk": "ssd"}}}, stuck("Pending"), True),
        ({"timeout": "2h"}, stuck("Pending"), True),
        ({"build": {"nodeSelector": {"disk": "ssd"}}}, stuck("build"), False),
        ({"build": {"nodeSelector": {"disk": "ssd"}}}, stuck("Lost"), False),
        ({"build": {"nodeSelector": {"disk": "ssd"}}}, ABSENT, False),
        ({"interval": "3m"}, stuck("Pending"), False),
    ],
)
def test_only_a_pod_that_does_not_start_is_made_anew_for_other_settings(
    change: dict[str, Any], progress: Progress | Absent, *, remade: bool
) -> None:
    image = seen(nix_image())
    created, _ = created_job(image)
    edited = seen(nix_image(image.status, generation=2, **change))
    unseen = Observed(jobs=(created,), source=pinned())
    affects = "interval" not in change
    assert decide(edited, unseen, NOW, SETTINGS).looks == (ReadProgress(created, fresh=affects),)
    effects = decide(edited, replace(unseen, progress=progress), NOW, SETTINGS).effects
    assert effects == ((DeleteJob(created),) if remade else ())
    other = replace(SETTINGS, builder_image="niximage-operator:other")
    effects = decide(image, replace(unseen, progress=stuck("Pending")), NOW, other).effects
    assert effects == (DeleteJob(created),), "the operator's settings count as well"


def created_job(image: NixImage) -> tuple[JobView, CreateJob]:
    """The Job as it is made of an image."""
    observed = observe(source=pinned(), published=ABSENT)
    (create,) = decide(image, observed, NOW, SETTINGS).effects
    assert isinstance(create, CreateJob)
    made = job_manifest(image, create, SETTINGS)["metadata"]["annotations"][TEMPLATE]
    return replace(job(image), template=made), create


def test_time_that_ran_out_for_a_pod_that_never_started_is_told_so() -> None:
    image = seen(nix_image())
    waiting = observe(jobs=(job(image),), source=pinned(), progress=stuck("Pending"))
    image, _ = step(image, waiting)
    image = fail(image, TOO_LONG, 1, NOW)
    assert image.status.failure is not None
    assert image.status.failure.message == (
        "the build's pod did not run within spec.timeout, 1h: 0/1 nodes are available. "
        "Make room for it, or change what spec.build asks for"
    )


def test_time_that_ran_out_is_told_with_what_was_last_seen() -> None:
    image = seen(nix_image(timeout="10m"))
    at = Progress(phase="realise", done=3, total=5, message="building slow-1.0")
    image, _ = step(image, observe(jobs=(job(image),), source=pinned(), progress=at))
    image = fail(image, TOO_LONG, 1, NOW)
    assert image.status.failure is not None
    assert image.status.failure.message == (
        "the build took longer than spec.timeout, 10m; it was last seen at: realise 3 of 5, "
        "building slow-1.0"
    )


def test_a_registry_that_moves_renames_what_is_published() -> None:
    image = ready()
    moved = replace(SETTINGS, registry="registry.example")
    decision = decide(image, observe(source=pinned()), NOW, moved)
    assert decision.status is not None
    assert decision.status.image == f"registry.example/team-a/web@{DIGEST}"


# Concurrency ------------------------------------------------------------------------------------


def test_forbid_lets_a_build_finish_when_the_source_moves() -> None:
    image = seen(nix_image(concurrencyPolicy="Forbid"))
    running = job(image, revision=OLD_REVISION)
    image, _ = step(image, observe(jobs=(running,), source=pinned(OLD_REVISION)))
    moved = observe(jobs=(running,), source=pinned())
    image, decision = step(image, moved)
    assert not decision.effects
    assert image.status.current_build is not None
    assert image.status.current_build.job_name == running.name

    ended = replace(moved, jobs=(replace(running, state=JobState.SUCCEEDED),))
    assert isinstance(decide(image, ended, NOW, SETTINGS).looks[0], ReadOutcome)
    image, _ = step(image, replace(ended, outcome=ABSENT, published=PUBLISHED))
    assert told(image)["Ready"] == "True/Succeeded"
    assert image.status.artifact is not None
    assert image.status.artifact.revision == OLD_REVISION

    decision = decide(image, replace(ended, published=ABSENT), NOW, SETTINGS)
    assert [type(effect) for effect in decision.effects] == [CreateJob], "then the newer one"


def test_forbid_lets_a_build_finish_when_the_spec_changes() -> None:
    image = seen(nix_image(concurrencyPolicy="Forbid"))
    running = job(image)
    image, _ = step(image, observe(jobs=(running,), source=pinned()))
    edited = nix_image(image.status, generation=2, concurrencyPolicy="Forbid", packages=["jq"])
    edited, _ = step(edited, observe(jobs=(running,)))
    edited, decision = step(edited, observe(jobs=(running,), source=pinned(), published=ABSENT))
    assert not decision.effects
    assert told(edited)["Reconciling"] == "True/Queued"
    assert running.name in words(edited, ConditionType.RECONCILING)


# Digests ----------------------------------------------------------------------------------------

OTHER = "sha256:" + "e" * 64


def test_the_expected_digest_is_ready() -> None:
    image = ready(nix_image(output={"expectedDigest": DIGEST}))
    assert told(image)["Ready"] == "True/Succeeded"


def test_another_digest_than_the_expected_one_is_never_taken() -> None:
    image = seen(nix_image(output={"expectedDigest": OTHER}))
    image, decision = step(image, observe(source=pinned(), published=PUBLISHED))
    assert told(image)["Stalled"] == "True/DigestMismatch"
    assert told(image)["Published"] == "False/DigestMismatch"
    assert image.status.image is None
    assert DIGEST in words(image, ConditionType.STALLED)
    again, decision = step(image, observe(source=pinned(), published=PUBLISHED))
    assert again == image
    assert not decision.effects


def test_a_new_expectation_is_held_against_what_is_published() -> None:
    before = ready()
    edited = nix_image(before.status, generation=2, output={"expectedDigest": OTHER})
    edited, _ = step(edited, observe())
    edited, _ = step(edited, observe(source=pinned()))
    assert told(edited)["Stalled"] == "True/DigestMismatch"
    assert edited.status.digest == DIGEST, "the last good one stays"


# Tags -------------------------------------------------------------------------------------------


def test_tags_are_moved_before_the_image_is_told_and_once() -> None:
    image = seen(nix_image(output={"tags": ["stable", "26.05"]}))
    found = observe(source=pinned(), published=PUBLISHED)
    move = MoveTags(DIGEST, ("26.05", "stable"))
    assert decide(image, found, NOW, SETTINGS).looks == (move,)
    image, _ = step(image, replace(found, tagged=move))
    assert image.status.artifact is not None
    assert image.status.artifact.tags == ["26.05", "stable"]
    assert not decide(image, found, NOW, SETTINGS).looks


def test_tags_that_cannot_be_moved_are_tried_again() -> None:
    image = seen(nix_image(output={"tags": ["stable"]}))
    away = Retryable(Reason.BUCKET_UNAVAILABLE, "503")
    image, _ = step(image, observe(source=pinned(), published=PUBLISHED, tagged=away))
    assert told(image)["Ready"] == "False/BucketUnavailable"
    assert told(image)["Reconciling"] == "True/ProgressingWithRetry"


def test_a_tag_that_is_taken_off_the_list_costs_nothing() -> None:
    image = seen(nix_image(output={"tags": ["stable"]}))
    move = MoveTags(DIGEST, ("stable",))
    image, _ = step(image, observe(source=pinned(), published=PUBLISHED, tagged=move))
    edited, _ = step(nix_image(image.status, generation=2), observe())
    edited, decision = step(edited, observe(source=pinned()))
    assert not decision.looks
    assert edited.status.artifact is not None
    assert edited.status.artifact.tags == []


# Classes ----------------------------------------------------------------------------------------


def test_a_class_that_is_not_there_is_waited_for_without_a_look() -> None:
    missing = ClassWanting("waiting for the NixBuildClass large: there is none")
    image, decision = step(nix_image(), observe(policy=missing))
    assert not decision.looks
    assert told(image)["Reconciling"] == "True/WaitingForClass"
    image, decision = step(image, observe())
    assert decision.looks == (Resolve(),)


def test_what_the_class_forbids_stalls_before_anything_is_asked_on_the_network() -> None:
    refusal = Terminal(Reason.POLICY_DENIED, "the class does not allow the source")
    image, decision = step(nix_image(), observe(policy=refusal))
    assert not decision.looks
    assert told(image)["Stalled"] == "True/PolicyDenied"
    image, decision = step(image, observe())
    assert decision.looks == (Resolve(),), "a class that allows it now mends it"


# History ----------------------------------------------------------------------------------------


def test_history_tells_of_each_build_once_and_keeps_to_its_limits() -> None:
    image = seen(nix_image(failedBuildsHistoryLimit=2, build={"retry": {"limit": 9}}))
    now = NOW
    for attempt in range(1, 5):
        failed = replace(job(image, JobState.FAILED, attempt=attempt), ended=now)
        image, _ = step(image, observe(jobs=(failed,), source=pinned(), outcome=EVICTED), now)
        now += dt.timedelta(hours=1)
    done = replace(job(image, JobState.SUCCEEDED, attempt=5), ended=now)
    told_now = observe(jobs=(done,), source=pinned(), outcome=result(image), published=PUBLISHED)
    image, _ = step(image, told_now, now)
    found = [(build.result, build.reason, build.digest) for build in image.status.history]
    assert found == [
        ("Succeeded", "Succeeded", DIGEST),
        ("Failed", "BuildInterrupted", None),
        ("Failed", "BuildInterrupted", None),
    ]
    again, _ = step(image, told_now, now)
    assert again == image


def test_what_the_bucket_had_is_told_as_an_image_and_not_as_a_build() -> None:
    image = ready()
    (found,) = image.status.history
    assert (found.job_name, found.result, found.digest) == ("", "Succeeded", DIGEST)
    metrics = Metrics()
    metrics.changed(nix_image().status, image.status)
    assert b"niximage_builds_total{" not in metrics.exposition()
    again, _ = step(image, observe(source=pinned(), published=PUBLISHED), NOW)
    assert again.status.history == [found]


def test_a_tag_of_two_images_is_told_of() -> None:
    image = seen(nix_image(output={"repository": "shared", "tags": ["v1", "v2"]}))
    moved = MoveTags(DIGEST, ("v1", "v2"))
    other = Sharer("other", ("v1", "v3"), leaving=False, stays=True)
    observed = observe(source=pinned(), published=PUBLISHED, tagged=moved, sharers=(other,))
    image, _ = step(image, observed)
    assert words(image, ConditionType.READY).endswith(
        "; the tag v1 is that of the NixImage other, too, and names what was published last"
    )
    image, _ = step(image, observe(source=pinned(), sharers=(replace(other, tags=("v3",)),)))
    assert "tag" not in words(image, ConditionType.READY)


# Suspension ---------------------------------------------------------------------------------


def test_to_suspend_a_good_image_leaves_it_ready() -> None:
    image = nix_image(ready().status, generation=2, suspend=True)
    image, decision = step(image, observe())
    assert not decision.looks
    assert told(image)["Ready"] == "True/Succeeded"
    assert image.status.observed_generation == 2


@pytest.mark.parametrize(
    "edit",
    [
        {"packages": ["jq"]},
        {"source": {"nixpkgs": {"channel": "nixos-25.11"}}},
        {"source": {"nixpkgs": {"revision": OLD_REVISION}}},
    ],
    ids=["packages", "channel", "revision"],
)
def test_to_suspend_and_edit_at_once_is_not_ready(edit: dict[str, Any]) -> None:
    image = nix_image(ready().status, generation=2, suspend=True, **edit)
    image, _ = step(image, observe())
    assert told(image)["Ready"] == "False/Suspended"


# Builds that run


def test_a_build_that_runs_when_its_image_is_suspended_may_finish() -> None:
    image = seen(nix_image())
    image, _ = step(image, observe(jobs=(job(image),), source=pinned()))
    paused = nix_image(image.status, generation=2, suspend=True)
    paused, decision = step(paused, observe(jobs=(job(image),)))
    assert not decision.effects
    assert paused.status.current_build is not None
    paused, _ = step(paused, observe())
    assert paused.status.current_build is None
    resumed = nix_image(paused.status, generation=3)
    resumed, _ = step(resumed, observe())
    assert decide(resumed, Observed(source=pinned()), NOW, SETTINGS).looks == (
        FindPublished(inputs(resumed)),
    )
