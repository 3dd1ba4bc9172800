"""Events tell of transitions, each once."""

import datetime as dt

from niximage.api.image import NixImage
from niximage.api.status import Progress
from niximage.controller.decision.decide import decide
from niximage.controller.events import event_manifest, happened
from niximage.controller.job_view import JobState
from niximage.controller.views import Observed, Queued
from niximage.errors import NixImageError, Reason, Retryable, Terminal
from unit.controller.states import (
    ABSENT,
    NOW,
    OLD_REVISION,
    PUBLISHED,
    REVISION,
    SETTINGS,
    answered,
    job,
    nix_image,
    observe,
    pinned,
    ready,
    result,
    seen,
)


def after(image: NixImage, observed: Observed) -> tuple[NixImage, list[str]]:
    """The image after a decision, and the Events that tell of it."""
    then = answered(image, decide(image, observed, NOW, SETTINGS))
    return then, [f"{e.type} {e.reason}" for e in happened(image.status, then.status)]


def test_the_life_of_an_image() -> None:
    image = seen(nix_image())
    running = observe(jobs=(job(image),), source=pinned())
    image, events = after(image, running)
    assert events == ["Normal BuildStarted"]
    assert after(image, running)[1] == []
    done = observe(
        jobs=(job(image, JobState.SUCCEEDED),),
        source=pinned(),
        outcome=result(image),
        published=PUBLISHED,
    )
    image, events = after(image, done)
    assert events == ["Normal ImagePublished"]
    assert after(image, done)[1] == []


def test_the_first_source_is_told_of_with_what_is_made_of_it() -> None:
    image = nix_image()
    then = answered(
        image, decide(image, observe(source=pinned(), published=PUBLISHED), NOW, SETTINGS)
    )
    (event,) = happened(image.status, then.status)
    assert event.reason == "ImagePublished"
    assert event.note.endswith(f"; nixos-26.05 is at {REVISION[:12]}")
    waiting = observe(source=pinned(), published=ABSENT, turn=Queued("all builds are running"))
    assert after(nix_image(), waiting)[1] == ["Normal SourceUpdated"]


def test_a_new_revision_with_the_same_digest_publishes_nothing() -> None:
    image = ready(revision=OLD_REVISION)
    _, events = after(image, observe(source=pinned(), published=PUBLISHED))
    assert events == ["Normal SourceUpdated"]


def failing(error: NixImageError) -> tuple[NixImage, Observed]:
    image = seen(nix_image())
    image, _ = after(image, observe(jobs=(job(image),), source=pinned()))
    return image, observe(jobs=(job(image, JobState.FAILED),), source=pinned(), outcome=error)


def test_a_failed_build_warns_with_its_log() -> None:
    image, failed = failing(Terminal(Reason.BUILD_FAILED, "hello failed", log_tail="oops"))
    then, events = after(image, failed)
    assert events == ["Warning BuildFailed", "Warning Stalled"]
    (first, _) = happened(image.status, then.status)
    assert first.note.endswith("oops")
    assert after(then, failed)[1] == []


def test_a_retry_is_announced() -> None:
    image, failed = failing(Retryable(Reason.BUILD_INTERRUPTED, "evicted"))
    then, _ = after(image, failed)
    (event,) = happened(image.status, then.status)
    assert "tried again at 12:00:15Z" in event.note


def test_a_source_that_stays_away_is_told_once() -> None:
    away = Observed(source=Retryable(Reason.SOURCE_UNAVAILABLE, "503"))
    image, events = after(ready(), away)
    assert events == ["Warning SourceFailed"]
    assert after(image, away)[1] == []


def test_suspension_and_its_end_are_told_once() -> None:
    image = ready()
    paused = nix_image(image.status, generation=2, suspend=True)
    paused, events = after(paused, Observed())
    assert events == ["Normal Suspended"]
    assert paused.status.suspended is True
    assert after(paused, Observed())[1] == []
    again = nix_image(paused.status, generation=3)
    again, events = after(again, Observed())
    assert events == ["Normal Resumed"]
    assert "suspended" not in again.status.to_json()


def test_a_superseded_build_makes_way() -> None:
    image = seen(nix_image())
    old = job(image, revision=OLD_REVISION)
    image, _ = after(image, observe(jobs=(old,), source=pinned(OLD_REVISION)))
    _, events = after(image, observe(jobs=(job(image),), source=pinned()))
    assert events == ["Normal SourceUpdated", "Normal BuildSuperseded", "Normal BuildStarted"]


def test_an_event_names_its_image_and_is_bounded() -> None:
    image, failed = failing(Terminal(Reason.BUILD_FAILED, "x" * 5000))
    then, _ = after(image, failed)
    event = happened(image.status, then.status)[0]
    body = event_manifest(then, then.status, event, dt.datetime.now(dt.UTC), "")
    assert body["regarding"]["uid"] == "u-1"
    assert body["metadata"]["annotations"] == {"niximage.dev/revision": REVISION}
    assert len(body["note"].encode()) <= 1024


def test_a_pod_that_does_not_start_is_told_of_once() -> None:
    image = seen(nix_image())
    image, _ = after(image, observe(jobs=(job(image),), source=pinned()))
    for words in ("no image", "no image still"):
        stuck = Progress(phase="Pending", message=words)
        observed = observe(jobs=(job(image),), source=pinned(), progress=stuck)
        image, events = after(image, observed)
        assert events == (["Warning PodPending"] if words == "no image" else [])
