"""The operator's states and events, as one table to read.

Each row is a state that an image may be in; each column is something that happens to it. The
cell says what the operator does, then what users read: the reason of Ready, and of what goes
with it. An empty cell: nothing is done, and nothing is written.
"""

import datetime as dt
from collections.abc import Callable
from dataclasses import replace

import pytest

from niximage.api.image import REQUESTED_AT, NixImage
from niximage.controller.decision.decide import decide
from niximage.controller.job_view import JobState
from niximage.controller.steps import CreateJob, DeleteJob, FindPublished, ReadOutcome, Resolve
from niximage.controller.views import ClassWanting, Observed
from niximage.errors import NixImageError, Reason, Retryable, Terminal
from unit.controller.states import (
    ABSENT,
    NOW,
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

NEWER = "2" * 40
EVICTED = Retryable(Reason.BUILD_INTERRUPTED, "the pod is gone")
BROKEN = Terminal(Reason.BUILD_FAILED, "hello failed")
AWAY = Retryable(Reason.SOURCE_UNAVAILABLE, "503")
DENIED = Terminal(Reason.POLICY_DENIED, "not this source")

# States -----------------------------------------------------------------------------------------


def building() -> NixImage:
    image = seen(nix_image())
    return answered(
        image, decide(image, observe(jobs=(job(image),), source=pinned()), NOW, SETTINGS)
    )


def failed(error: NixImageError) -> NixImage:
    image = building()
    ended = observe(jobs=(job(image, JobState.FAILED),), source=pinned(), outcome=error)
    return answered(image, decide(image, ended, NOW, SETTINGS))


def rebuilding() -> NixImage:
    image = ready()
    moved = observe(jobs=(job(image, revision=NEWER),), source=pinned(NEWER))
    return answered(image, decide(image, moved, NOW, SETTINGS))


STATES: dict[str, Callable[[], NixImage]] = {
    "new": nix_image,
    "seen": lambda: seen(nix_image()),
    "building": building,
    "retrying": lambda: failed(EVICTED),
    "stalled": lambda: failed(BROKEN),
    "ready": ready,
    "rebuilding": rebuilding,
}

# Events -----------------------------------------------------------------------------------------


def looked_up(image: NixImage) -> tuple[NixImage, Observed]:
    return image, observe(source=pinned(), published=ABSENT)


def moved(image: NixImage) -> tuple[NixImage, Observed]:
    return image, observe(source=pinned(NEWER), published=ABSENT)


def runs(image: NixImage) -> tuple[NixImage, Observed]:
    return image, observe(jobs=(job(image),), source=pinned())


def succeeds(image: NixImage) -> tuple[NixImage, Observed]:
    done = job(image, JobState.SUCCEEDED)
    return image, observe(jobs=(done,), source=pinned(), outcome=result(image), published=PUBLISHED)


def fails(image: NixImage) -> tuple[NixImage, Observed]:
    return image, observe(jobs=(job(image, JobState.FAILED),), source=pinned(), outcome=BROKEN)


def away(image: NixImage) -> tuple[NixImage, Observed]:
    return image, observe(source=AWAY)


def edited(image: NixImage) -> tuple[NixImage, Observed]:
    return nix_image(image.status, generation=2, packages=["jq"]), observe(jobs=(job(image),))


def asked(image: NixImage) -> tuple[NixImage, Observed]:
    return nix_image(image.status, annotations={REQUESTED_AT: "now"}), observe()


def suspended(image: NixImage) -> tuple[NixImage, Observed]:
    return nix_image(image.status, generation=2, suspend=True), observe(jobs=(job(image),))


def denied(image: NixImage) -> tuple[NixImage, Observed]:
    return image, observe(policy=DENIED)


def classless(image: NixImage) -> tuple[NixImage, Observed]:
    return image, observe(policy=ClassWanting("waiting for the NixBuildClass large"))


EVENTS = {
    "looked up": looked_up,
    "moved": moved,
    "runs": runs,
    "succeeds": succeeds,
    "fails": fails,
    "away": away,
    "edited": edited,
    "asked": asked,
    "suspended": suspended,
    "denied": denied,
    "classless": classless,
}

DONE = {
    Resolve: "resolve",
    FindPublished: "find",
    ReadOutcome: "read",
    CreateJob: "create",
    DeleteJob: "delete",
}


def cell(state: str, event: str) -> str:
    """What a decision does and says, in a few words."""
    before, observed = EVENTS[event](STATES[state]())
    decision = decide(before, observed, NOW + dt.timedelta(seconds=1), SETTINGS)
    does = [DONE[type(step)] for step in (*decision.looks, *decision.effects)]
    # The executor writes no status before effects are done: then it asks again.
    says: list[str] = []
    if decision.status is not None and not decision.effects:
        after = answered(before, decision)
        if after.status != before.status:
            says = [
                f"{c.reason}" if c.type == "Ready" else f"{c.type}:{c.reason}"
                for c in after.status.conditions
                if c.type in {"Ready", "Reconciling", "Stalled", "Outdated"}
            ]
    return "; ".join(part for part in (" ".join(does), " ".join(says)) if part)


PROGRESS = "Progressing Reconciling"
SEEN = f"resolve; {PROGRESS}:ResolvingSource"
POLICY = "PolicyDenied Stalled:PolicyDenied"
NO_CLASS = f"{PROGRESS}:WaitingForClass"
AWAY_NOW = "SourceUnavailable Reconciling:ProgressingWithRetry"
FAILED = "BuildFailed Stalled:BuildFailed"
STOPPED = "Suspended"

TABLE = {
    # That a new spec was seen is written only while its source is looked up.
    "new": {
        "looked up": "create",
        "moved": "create",
        "runs": f"{PROGRESS}:Building",
        "succeeds": "Succeeded",
        "fails": FAILED,
        "away": AWAY_NOW,
        "edited": SEEN,
        "asked": SEEN,
        "suspended": STOPPED,
        "denied": POLICY,
        "classless": NO_CLASS,
    },
    "seen": {
        "looked up": "create",
        "moved": "create",
        "runs": f"{PROGRESS}:Building",
        "succeeds": "Succeeded",
        "fails": FAILED,
        "away": AWAY_NOW,
        "edited": SEEN,
        "asked": "resolve",
        "suspended": STOPPED,
        "denied": POLICY,
        "classless": NO_CLASS,
    },
    "building": {
        "looked up": "create",  # its Job is gone
        "moved": "create",
        "runs": "",
        "succeeds": "Succeeded",
        "fails": FAILED,
        "away": AWAY_NOW,
        "edited": SEEN,
        "asked": SEEN,
        "suspended": STOPPED,
        "denied": POLICY,
        "classless": NO_CLASS,
    },
    # Until its delay is over, only other inputs are built.
    "retrying": {
        "looked up": "",
        "moved": "create",
        "runs": "",
        "succeeds": "",
        "fails": "",
        "away": AWAY_NOW,
        "edited": SEEN,
        "asked": SEEN,
        "suspended": STOPPED,
        "denied": POLICY,
        "classless": NO_CLASS,
    },
    "stalled": {
        "looked up": "",
        "moved": "create",
        "runs": "",
        "succeeds": "",
        "fails": "",
        "away": AWAY_NOW,
        "edited": SEEN,
        "asked": SEEN,
        "suspended": STOPPED,
        "denied": POLICY,
        "classless": NO_CLASS,
    },
    # A good image of this spec stays Ready, whatever becomes of its source, class or rebuild.
    "ready": {
        "looked up": "",
        "moved": "create",
        "runs": "Succeeded Outdated:NewRevision",  # a forced build
        "succeeds": "",
        "fails": "",
        "away": "Succeeded",
        "edited": SEEN,
        "asked": "resolve",
        "suspended": "Succeeded",
        "denied": "Succeeded Outdated:PolicyDenied",
        "classless": "",
    },
    "rebuilding": {
        "looked up": "Succeeded",  # the source went back
        "moved": "create",
        "runs": "Succeeded Outdated:NewRevision",
        "succeeds": "Succeeded",
        "fails": "Succeeded",
        "away": "Succeeded",
        "edited": SEEN,
        "asked": "resolve",
        "suspended": "Succeeded",
        "denied": "Succeeded Outdated:PolicyDenied",
        "classless": "Succeeded",
    },
}


@pytest.mark.parametrize("state", STATES)
def test_each_state_answers_each_event(state: str) -> None:
    assert {event: cell(state, event) for event in EVENTS} == TABLE[state]


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("event", EVENTS)
def test_the_same_facts_write_nothing_twice(state: str, event: str) -> None:
    before, observed = EVENTS[event](STATES[state]())
    once = decide(before, observed, NOW, SETTINGS)
    if once.status is None or once.effects or once.looks:
        return
    after = answered(before, once)
    again = decide(after, replace(observed, refused=None), NOW, SETTINGS)
    if not again.looks and not again.effects:
        assert again.status is not None
        assert answered(after, again).status == after.status


def test_the_table_is_of_one_revision_and_a_newer_one() -> None:
    assert pinned().revision == REVISION != NEWER
