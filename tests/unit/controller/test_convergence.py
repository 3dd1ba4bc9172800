"""Whatever happens in whatever order, the image ends as its spec says, and never lies meanwhile.

The machine edits, deletes, moves the source, ends builds in every way, loses and repeats
events, refuses and half-answers writes, and kills the operator between any two calls. Then it
stops, and the image must come to rest as its spec and source say.
"""

import datetime as dt
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from niximage.api.build import input_hash
from niximage.api.image import FORCE_AT, REQUESTED_AT, NixImage
from niximage.controller.job_view import JobView
from unit.controller.states import pinned
from unit.controller.world import World, digest_of

SPECS: list[dict[str, Any]] = [
    {"packages": packages, "source": {"nixpkgs": {"channel": "nixos-26.05"}}, **more}
    for packages in (["hello"], ["jq"])
    for more in (
        {},
        {"concurrencyPolicy": "Forbid"},
        {"suspend": True},
        {"build": {"retry": {"limit": 1}}},
        {"output": {"deletionPolicy": "Delete"}},
        {"output": {"configMap": True}},
    )
]
ENDS = ["succeeds", "succeeds", "lies", "fails", "is evicted", "runs out of memory"]


class Convergence(RuleBasedStateMachine):
    """Users, builds, the network and the operator, in any order."""

    @initialize()
    def begin(self) -> None:
        self.world = World()
        self.token = 0
        self.world.apply(SPECS[0])

    @rule(spec=st.sampled_from(SPECS))
    def edit(self, spec: dict[str, Any]) -> None:
        self.world.apply(spec)

    @precondition(lambda self: self.world.image is not None)
    @rule()
    def delete(self) -> None:
        self.world.delete()

    @rule(spec=st.sampled_from(SPECS))
    def replace(self, spec: dict[str, Any]) -> None:
        if self.world.image is not None:
            self.world.delete()
        self.world.apply(spec)

    @precondition(lambda self: self.world.image is not None)
    @rule(force=st.booleans())
    def request(self, *, force: bool) -> None:
        self.token += 1
        token = str(self.token)
        self.world.annotate({REQUESTED_AT: token, **({FORCE_AT: token} if force else {})})

    @rule(digit=st.sampled_from("012"))
    def move_source(self, digit: str) -> None:
        self.world.revision = digit * 40

    @precondition(lambda self: self.world.live_jobs())
    @rule(how=st.sampled_from(ENDS), data=st.data())
    def end_build(self, how: str, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(job.name for job in self.world.live_jobs())))
        self.world.end_job(name, how)

    @precondition(lambda self: self.world.jobs)
    @rule(data=st.data())
    def lose_job(self, data: st.DataObject) -> None:
        self.world.drop_job(data.draw(st.sampled_from(sorted(self.world.jobs))))

    @precondition(lambda self: self.world.pending)
    @rule(index=st.integers(0, 9))
    def event_arrives(self, index: int) -> None:
        self.world.deliver(index)

    @precondition(lambda self: self.world.pending)
    @rule()
    def event_is_repeated(self) -> None:
        self.world.pending.append(self.world.pending[0])

    @precondition(lambda self: self.world.pending)
    @rule(index=st.integers(0, 9))
    def event_is_lost(self, index: int) -> None:
        self.world.pending.pop(index % len(self.world.pending))

    @rule()
    def full_list(self) -> None:
        self.world.relist()

    @rule(faults=st.lists(st.sampled_from(["", "conflict", "refused", "lost reply"]), max_size=4))
    def pass_over(self, faults: list[str]) -> None:
        self.world.faults = faults
        self.world.reconcile()

    @rule(calls=st.integers(0, 4))
    def killed_during_a_pass(self, calls: int) -> None:
        self.world.calls_left = calls
        self.world.reconcile()
        self.world.start()

    @rule(minutes=st.integers(1, 90))
    def time_passes(self, minutes: int) -> None:
        self.world.now += dt.timedelta(minutes=minutes)

    # What always holds --------------------------------------------------------------------------

    @invariant()
    def the_status_never_lies(self) -> None:
        image = self.world.image
        if image is None:
            return
        status = image["status"]
        told = {c["type"]: c["status"] for c in status.get("conditions", [])}
        assert not {"Reconciling", "Stalled"} <= set(told)
        assert "Ready" in told or status["observedGeneration"] == -1
        if "digest" in status and "deletionTimestamp" not in image["metadata"]:
            assert status["digest"] == digest_of(status["artifact"]["inputHash"])
            assert status["artifact"]["inputHash"] in self.world.bucket
        if told.get("Ready") == "True":
            assert "digest" in status
            assert not {"Reconciling", "Stalled"} & set(told)
        assert len(status.get("history", [])) <= 6

    @invariant()
    def one_job_per_input(self) -> None:
        jobs = [JobView.from_json(job) for job in self.world.jobs.values()]
        keys = [(job.owner, job.input_hash) for job in jobs]
        assert len(keys) == len(set(keys))

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        self.world.let_go()
        self.world.apply({**SPECS[0], "output": {"configMap": True}})
        image = self.world.settle()
        assert not image["metadata"].get("finalizers")
        told = {c["type"]: c["status"] for c in image["status"]["conditions"]}
        if told.get("Stalled") == "True":
            # A build that failed for good waits for somebody to ask.
            self.world.annotate({REQUESTED_AT: "at last"})
            image = self.world.settle()
            told = {c["type"]: c["status"] for c in image["status"]["conditions"]}
        assert told["Ready"] == "True", image["status"]
        assert "Outdated" not in told
        expected = input_hash(NixImage.model_validate(image), pinned(self.world.revision))
        assert image["status"]["artifact"]["inputHash"] == expected
        assert image["status"]["observedGeneration"] == image["metadata"]["generation"]
        assert self.world.config_maps["web-image"]["data"]["digest"] == image["status"]["digest"]
        self.world.apply(SPECS[0])
        assert "configMap" not in self.world.settle()["status"]
        assert self.world.config_maps == {}
        assert self.world.live_jobs() == []
        assert "currentBuild" not in image["status"]


TestConvergence = Convergence.TestCase
TestConvergence.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
