"""A source's timetable: the same for every life of the operator, kept whatever happens to it."""

import datetime as dt
import itertools
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from niximage.api.image import REQUESTED_AT, NixImage
from niximage.api.source import Source
from niximage.api.status import NixImageStatus
from niximage.controller.decision.decide import decide
from niximage.controller.sources.due import Question, next_slot, slot_start, told_before
from niximage.controller.views import Observed
from niximage.errors import Reason, Retryable
from unit.controller.states import (
    FLUX,
    NOW,
    PUBLISHED,
    SETTINGS,
    answered,
    flux_pinned,
    nix_image,
    pinned,
    ready,
    seen,
)
from unit.controller.world import World

URL = SETTINGS.nixpkgs_url


def key_of(channel: str, url: str = URL) -> str:
    source = Source.model_validate({"nixpkgs": {"channel": channel}})
    return Question(source, "team-a", url).key


# Slots ------------------------------------------------------------------------------------------

TIMES = st.floats(1.5e9, 2.5e9)
INTERVALS = st.floats(60, 744 * 3600)
KEYS = st.binary(min_size=8, max_size=8).map(lambda data: key_of(f"nixos-{data.hex()}"))


@given(KEYS, INTERVALS, TIMES)
def test_now_lies_in_the_present_slot_and_before_the_next(
    key: str, interval: float, now: float
) -> None:
    assert slot_start(key, interval, now) <= now + 1e-3
    assert now < next_slot(key, interval, now) <= now + interval + 1e-3


@given(KEYS, INTERVALS, TIMES, st.floats(0, 1))
def test_the_slots_are_the_same_whenever_they_are_computed(
    key: str, interval: float, now: float, part: float
) -> None:
    start = slot_start(key, interval, now)
    other = start + 0.01 + part * (interval - 0.02)
    assert slot_start(key, interval, other) == pytest.approx(start, abs=1e-3)


@given(KEYS, st.integers(60, 3600), st.integers(1, 24), TIMES)
def test_a_long_slot_begins_with_a_short_one_that_it_is_a_multiple_of(
    key: str, interval: int, times: int, now: float
) -> None:
    start = slot_start(key, interval * times, now)
    assert slot_start(key, interval, start + 1) == pytest.approx(start, abs=1e-3)


def test_refs_are_spread_over_the_interval() -> None:
    starts = sorted(
        600 - (1.8e9 - slot_start(key_of(f"nixos-{i}"), 600, 1.8e9)) for i in range(200)
    )
    gaps = [after - before for before, after in itertools.pairwise(starts)]
    assert max(gaps) < 30, "no great part of the interval without a question"


# What a status tells ----------------------------------------------------------------------------


def test_a_ready_image_tells_its_revision() -> None:
    assert told_before(ready(), URL) == pinned()


def test_a_stalled_image_tells_its_revision_too() -> None:
    image = seen(nix_image())
    error = Retryable(Reason.BUCKET_UNAVAILABLE, "gs://images answers 403")
    stuck = answered(
        image, decide(image, Observed(source=pinned(), published=error), NOW, SETTINGS)
    )
    assert told_before(stuck, URL) == pinned()


def changed(image: NixImage, **status: Any) -> NixImage:
    return image.model_copy(update={"status": image.status.model_copy(update=status)})


def unresolved() -> NixImage:
    image, error = ready(), Retryable(Reason.SOURCE_UNAVAILABLE, "503")
    return answered(image, decide(image, Observed(source=error), NOW, SETTINGS))


def odd() -> NixImage:
    image = ready()
    assert image.status.source is not None
    return changed(image, source=image.status.source.model_copy(update={"revision": "main"}))


NOTHING: dict[str, NixImage] = {
    "a new image": nix_image(),
    "an image whose source is being looked up": seen(nix_image()),
    "a spec that changed": nix_image(ready().status, generation=2),
    "one whose changed spec was seen, but not resolved": seen(
        nix_image(ready().status, generation=2)
    ),
    "another channel": nix_image(ready().status, source={"nixpkgs": {"channel": "nixos-unstable"}}),
    "a source that was not found last time": unresolved(),
    "a commit, which nobody has to be asked for": ready(
        nix_image(source={"nixpkgs": {"revision": pinned().revision}})
    ),
    "a revision that is none": odd(),
    "a status without a source": changed(ready(), source=None),
    "a status of nobody": nix_image(NixImageStatus()),
}


@pytest.mark.parametrize("image", NOTHING.values(), ids=NOTHING.keys())
def test_other_images_tell_nothing(image: NixImage) -> None:
    assert told_before(image, URL) is None


def test_a_class_that_names_another_nixpkgs_has_it_asked() -> None:
    assert told_before(ready(), "https://mirror.example.org/nixpkgs") is None


def test_an_object_of_flux_is_always_looked_at() -> None:
    image = nix_image(source=FLUX)
    found = answered(
        image, decide(image, Observed(source=flux_pinned(), published=PUBLISHED), NOW, SETTINGS)
    )
    assert told_before(found, URL) is None


# The whole --------------------------------------------------------------------------------------

INTERVAL = 600.0
SPEC = {
    "packages": ["hello"],
    "source": {"nixpkgs": {"channel": "nixos-26.05"}},
    "interval": f"{INTERVAL:.0f}s",
}
KEY = key_of("nixos-26.05")


@dataclass
class Life:
    """An image, its operator, and the queue that wakes it when it is due."""

    world: World
    due: float = 0.0
    requests: int = 0

    def pass_over(self) -> None:
        self.world.relist()
        delay = self.world.reconcile()
        for job in self.world.live_jobs():
            self.world.end_job(job.name, "succeeds")
            self.world.relist()
            delay = self.world.reconcile()
        assert delay is not None
        self.due = self.world.seconds() + delay

    def run(self, seconds: float) -> None:
        """Let time pass while the operator runs."""
        end = self.world.seconds() + seconds
        while self.due <= end:
            self.at(self.due)
            self.pass_over()
        self.at(end)

    def at(self, time: float) -> None:
        self.world.now = dt.datetime.fromtimestamp(time, dt.UTC)

    def restart(self, down: float, *, lease: bool) -> None:
        stopped = self.world.seconds()
        self.at(stopped + down)
        self.world.start(acted_until=stopped if lease else None)
        self.pass_over()

    def request(self) -> None:
        self.requests += 1
        self.world.annotate({REQUESTED_AT: str(self.requests)})
        self.pass_over()


STEPS = st.one_of(
    st.tuples(st.just("run"), st.floats(1, 3000)),
    st.tuples(st.just("restart"), st.sampled_from([0.5, 5.0, 300.0, 5000.0])),
    st.tuples(st.just("look"), st.just(0.0)),
    st.tuples(st.just("request"), st.just(0.0)),
)


@settings(max_examples=60, deadline=None)
@given(steps=st.lists(STEPS, min_size=1, max_size=25), start=st.floats(0, 600))
def test_a_ref_is_asked_once_a_slot_and_never_longer_not_whatever_is_restarted(
    steps: list[tuple[str, float]], start: float
) -> None:
    world = World()
    life = Life(world)
    life.at(world.seconds() + start)
    world.start()
    world.apply(SPEC)
    life.pass_over()
    asked_for = [world.seconds()]  # because of a new image, or a request
    downs: list[tuple[float, float]] = []
    for what, amount in steps:
        match what:
            case "run":
                life.run(amount)
            case "restart":
                downs.append((world.seconds(), world.seconds() + amount))
                life.restart(amount, lease=True)
            case "look":
                life.pass_over()
            case _:
                asked_for.append(world.seconds())
                life.request()
    slots: dict[float, int] = {}
    for at in world.questions:
        if at not in asked_for:
            slot = round(slot_start(KEY, INTERVAL, at))
            slots[slot] = slots.get(slot, 0) + 1
    assert all(count == 1 for count in slots.values()), "twice in a slot"
    times = [*world.questions, world.seconds()]
    for before, after in itertools.pairwise(times):
        down = sum(min(end, after) - begin for begin, end in downs if before <= begin < after)
        assert after - before - down <= INTERVAL + 2


@pytest.mark.parametrize("down", [1.0, 30.0])
def test_a_thousand_restarts_within_a_slot_ask_nothing(down: float) -> None:
    world = World()
    life = Life(world)
    life.at(slot_start(KEY, INTERVAL, world.seconds()) + INTERVAL + 1)
    world.start()
    world.apply(SPEC)
    life.pass_over()
    assert isinstance(world.image, dict)
    version = world.image["metadata"]["resourceVersion"]
    for _ in range(int(500 / down)):
        life.restart(down, lease=False)
    assert len(world.questions) == 1
    assert world.image["metadata"]["resourceVersion"] == version, "and write nothing"


def test_a_revision_is_late_by_no_more_than_an_interval_where_nothing_tells_of_the_pause() -> None:
    world = World()
    life = Life(world)
    world.apply(SPEC)
    life.pass_over()
    world.revision = "1" * 40
    life.restart(3 * INTERVAL, lease=False)
    began = world.seconds()
    assert len(world.questions) == 1
    life.run(INTERVAL + 1)
    assert len(world.questions) == 2
    assert world.questions[-1] - began <= INTERVAL + 1


def test_only_a_look_that_lasts_is_told_of() -> None:
    for lasts in (False, True):
        world = World()
        world.slow = resolving if lasts else None
        world.apply(SPEC)
        world.relist()
        world.reconcile()
        told = [body for kind, _, body in world.pending if kind == "image"]
        assert any(resolving(body) for body in told) == lasts
        assert len(world.live_jobs()) == 1


def resolving(image: dict[str, Any]) -> bool:
    """Whether its status says that the source is being looked up."""
    said = {c["type"]: c["reason"] for c in image["status"].get("conditions", [])}
    return said.get("Reconciling") == "ResolvingSource"


def test_a_request_that_a_crash_met_is_answered_by_the_next_life() -> None:
    world = World()
    life = Life(world)
    world.apply(SPEC)
    life.pass_over()
    world.annotate({REQUESTED_AT: "one"})
    world.relist()
    world.calls_left = 0  # it asks, and is killed before it can write what it found
    world.reconcile()
    assert len(world.questions) == 2
    life.pass_over()
    assert len(world.questions) == 3
    assert world.image is not None
    assert world.image["status"]["lastHandledReconcileAt"] == "one"
    life.pass_over()
    assert len(world.questions) == 3
