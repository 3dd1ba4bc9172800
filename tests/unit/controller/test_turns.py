"""Whose build starts next: caps, urgency, fairness, and one build for equal inputs."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from niximage.controller.builds.turns import AGING, Ask, Caps, Turns, with_trouble
from niximage.controller.job_view import JobState, JobView
from niximage.controller.steps import Urgency
from niximage.controller.views import Queued, Turn
from unit.controller.states import job, nix_image

CAPS = Caps(total=4, namespace=2)
JOB = job(nix_image())


class Builds:
    """Turns, the Jobs that took them, and a clock."""

    def __init__(self) -> None:
        self.now = 0.0
        self.turns = Turns(lambda: self.now)
        self.jobs: dict[tuple[str, str], JobView] = {}

    def ask(
        self,
        image: str,
        urgency: Urgency = Urgency.WANTED,
        *,
        caps: Caps = CAPS,
        build_class: str = "",
        inputs: str = "",
    ) -> Turn | Queued:
        """Ask as a pass over `namespace/name` would, and start the Job where it may."""
        namespace, _, name = image.partition("/")
        key = (namespace, name)
        ask = Ask(key, inputs or image, build_class, caps, urgency)
        answer = self.turns.take(ask, self.jobs.values())
        if answer is Turn.GRANTED:
            self.jobs[key] = replace(
                JOB,
                namespace=namespace,
                image=name,
                name=f"{name}-job",
                input_hash=inputs or image,
                build_class=build_class,
            )
        self.turns.settle(key)
        return answer

    def end(self, image: str) -> list[str]:
        """A Job ends; returns whose turn it is."""
        namespace, _, name = image.partition("/")
        del self.jobs[namespace, name]
        return ["/".join(key) for key in self.turns.due(self.jobs.values())]


def words(answer: Turn | Queued) -> str:
    assert isinstance(answer, Queued)
    return answer.words


def test_a_namespace_has_its_cap_and_leaves_room_for_others() -> None:
    builds = Builds()
    assert builds.ask("a/1") is Turn.GRANTED
    assert builds.ask("a/2") is Turn.GRANTED
    assert "all 2 builds that this namespace" in words(builds.ask("a/3"))
    assert builds.ask("b/1") is Turn.GRANTED


def test_all_together_have_theirs() -> None:
    builds = Builds()
    for image in ("a/1", "a/2", "b/1", "b/2"):
        assert builds.ask(image) is Turn.GRANTED
    assert "all 4 builds that may run at once" in words(builds.ask("c/1"))
    assert builds.end("a/1") == ["c/1"]


def test_a_class_has_its_own_caps() -> None:
    builds = Builds()
    caps = replace(CAPS, of_class=2, class_namespace=1)
    assert builds.ask("a/1", caps=caps, build_class="gpu") is Turn.GRANTED
    denied = builds.ask("a/2", caps=caps, build_class="gpu")
    assert "the class gpu allows in this namespace" in words(denied)
    assert builds.ask("b/1", caps=caps, build_class="gpu") is Turn.GRANTED
    assert "the class gpu allows are" in words(builds.ask("c/1", caps=caps, build_class="gpu"))
    assert builds.ask("a/3") is Turn.GRANTED, "another class has room"


def test_users_come_before_retries_and_these_before_moved_sources() -> None:
    builds = Builds()
    one = Caps(total=1, namespace=1)
    builds.ask("a/running", caps=one)
    builds.ask("b/moved", Urgency.MOVED, caps=one)
    builds.ask("c/retry", Urgency.RETRY, caps=one)
    builds.ask("d/wanted", Urgency.WANTED, caps=one)
    assert builds.end("a/running") == ["d/wanted"]
    assert builds.ask("b/moved", Urgency.MOVED, caps=one) != Turn.GRANTED
    assert builds.ask("d/wanted", caps=one) is Turn.GRANTED
    assert builds.end("d/wanted") == ["c/retry"]


def test_who_waits_long_enough_comes_before_who_just_came() -> None:
    builds = Builds()
    one = Caps(total=1, namespace=1)
    builds.ask("a/running", caps=one)
    builds.ask("b/moved", Urgency.MOVED, caps=one)
    builds.now = 2 * AGING
    builds.ask("c/wanted", Urgency.WANTED, caps=one)
    assert builds.end("a/running") == ["b/moved"]


def test_namespaces_take_turns_however_many_images_one_has() -> None:
    builds = Builds()
    caps = Caps(total=1, namespace=1)
    builds.ask("a/0", caps=caps)
    waiting = [f"a/{n}" for n in range(1, 4)] + ["b/1", "b/2", "c/1"]
    for image in waiting:
        builds.ask(image, caps=caps)
    order = []
    running = "a/0"
    while waiting:
        (running,) = builds.end(running)
        assert builds.ask(running, caps=caps) is Turn.GRANTED
        waiting.remove(running)
        order.append(running)
    assert order == ["b/1", "c/1", "a/1", "b/2", "a/2", "a/3"]


@pytest.mark.parametrize(
    ("count", "twin", "stuck", "added"),
    [
        (1, True, 1, "; its pod does not run: no room"),
        (1, True, 0, ""),
        (3, False, 2, "; the pods of 2 do not run, web-0: no room"),
        (3, False, 1, "; the pod of one does not run, web-0: no room"),
        (0, False, 0, ""),
    ],
)
def test_what_keeps_those_before_it_is_told(count: int, twin: bool, stuck: int, added: str) -> None:
    ahead = tuple(replace(job(nix_image()), name=f"web-{n}") for n in range(count))
    troubles = {each.name: "no room" for each in ahead[:stuck]}
    assert with_trouble(Queued("waiting", ahead, twin=twin), troubles).words == f"waiting{added}"


def test_equal_inputs_of_one_namespace_build_once() -> None:
    builds = Builds()
    assert builds.ask("a/1", inputs="same") is Turn.GRANTED
    assert "1-job, which builds the same inputs" in words(builds.ask("a/2", inputs="same"))
    assert builds.ask("b/1", inputs="same") is Turn.GRANTED, "namespaces share nothing"
    assert builds.end("a/1") == ["a/2"]


def test_a_job_on_its_way_out_and_kueues_jobs() -> None:
    builds = Builds()
    one = Caps(total=1, namespace=1)
    builds.ask("a/1", caps=one)
    builds.jobs["a", "1"] = replace(builds.jobs["a", "1"], state=JobState.DELETING)
    assert builds.ask("a/2", caps=one) != Turn.GRANTED, "its pod may still run"
    builds.jobs["a", "1"] = replace(builds.jobs["a", "1"], state=JobState.LIVE, queue="team")
    assert builds.ask("a/2", caps=one) is Turn.GRANTED, "Kueue counts its own"


def test_an_image_that_needs_no_build_any_more_does_not_hold_up_the_line() -> None:
    builds = Builds()
    one = Caps(total=1, namespace=1)
    builds.ask("a/1", caps=one)
    builds.ask("a/2", caps=one)
    builds.turns.settle(("a", "2"))  # a pass in which it did not ask
    assert len(builds.turns) == 0
    assert builds.end("a/1") == []


def test_a_turn_that_was_not_used_goes_to_the_next() -> None:
    builds = Builds()
    one = Caps(total=1, namespace=1)
    ask = Ask(("a", "1"), "x", "", one, Urgency.WANTED)
    assert builds.turns.take(ask, ()) is Turn.GRANTED
    other = replace(ask, key=("b", "1"), input_hash="y")
    assert builds.turns.take(other, ()) is not Turn.GRANTED
    builds.turns.settle(("b", "1"))
    builds.turns.settle(("a", "1"))
    assert builds.turns.due(()) == [("b", "1")]


IMAGES = st.sampled_from([f"{ns}/{n}" for ns in "abc" for n in range(5)])


@given(st.lists(st.tuples(IMAGES, st.sampled_from(Urgency)), max_size=60), st.data())
def test_caps_hold_and_everybody_is_served(
    asks: list[tuple[str, Urgency]], data: st.DataObject
) -> None:
    builds = Builds()
    done: set[str] = set()
    for image, urgency in asks:
        if tuple(image.split("/")) not in builds.jobs and image not in done:
            builds.ask(image, urgency)
        if data.draw(st.booleans()) and builds.jobs:
            ended = "/".join(data.draw(st.sampled_from(sorted(builds.jobs))))
            done.add(ended)
            for key in builds.end(ended):
                assert builds.ask(key) is Turn.GRANTED
        counts = [ns for ns, _ in builds.jobs]
        assert len(counts) <= CAPS.total
        assert all(counts.count(ns) <= CAPS.namespace for ns in counts)
    while builds.jobs:
        ended = "/".join(min(builds.jobs))
        done.add(ended)
        for key in builds.end(ended):
            assert builds.ask(key) is Turn.GRANTED
    assert done == {image for image, _ in asks}


def test_jobs_that_a_tenant_labels_as_builds_take_nobody_elses_places() -> None:
    builds = Builds()
    for number in range(50):
        fake = replace(JOB, namespace="evil", name=f"fake-{number}", build_class="gpu")
        builds.jobs["evil", str(number)] = fake
    assert builds.ask("a/1") is Turn.GRANTED
    caps = replace(CAPS, of_class=3, class_namespace=1)
    assert builds.ask("b/1", caps=caps, build_class="gpu") is Turn.GRANTED
    assert "waiting" in words(builds.ask("evil/1"))
