"""What a watch did not tell of is found out where it would be in the way."""

import pytest

from unit.controller.world import KEY, World

SPEC = {"packages": ["hello"], "source": {"nixpkgs": {"channel": "nixos-26.05"}}}


def deliver_all(world: World) -> None:
    while world.pending:
        world.deliver(0)


@pytest.fixture
def recreated() -> World:
    """An image that was made anew under a build; its first Job went, and no event said so."""
    world = World()
    world.apply(SPEC)
    deliver_all(world)
    world.reconcile()
    deliver_all(world)
    world.delete()
    world.pending = [event for event in world.pending if event[0] == "image"]
    deliver_all(world)
    assert world.live_jobs() == []
    assert len(world.cache.jobs(KEY)) == 1, "the operator believes that it is there"
    world.apply(SPEC)
    deliver_all(world)
    return world


def test_a_job_that_went_unseen_holds_nobody_up(recreated: World) -> None:
    recreated.reconcile()
    assert recreated.image is not None
    (live,) = recreated.live_jobs()
    assert live.owner == recreated.image["metadata"]["uid"]


def test_where_the_cluster_does_not_say_it_is_waited_for(recreated: World) -> None:
    assert recreated.image is not None
    (ghost,) = recreated.cache.jobs(KEY)
    recreated.faults = ["refused"]  # of the Job
    recreated.reconcile()
    assert recreated.live_jobs() == []
    (told,) = [c for c in recreated.image["status"]["conditions"] if c["type"] == "Reconciling"]
    assert f"waiting for the Job {ghost.name} to go" in told["message"]
    assert "failure" not in recreated.image["status"], "it is no attempt"
