"""The Lease: at most one holder at any time, whatever the API server does."""

import asyncio
import copy
import time
from typing import Any

import pytest

from niximage.controller.cluster.connection import Conflict, NotThere
from niximage.controller.cluster.lease import DURATION, MARGIN, RENEW_EVERY, Lease
from niximage.errors import Reason, Retryable

Json = dict[str, Any]


class Server:
    """One Lease, with versions, as the API server keeps it."""

    def __init__(self) -> None:
        self.lease: Json | None = None
        self.version = 0
        self.away = False

    async def call(self, method: str, path: str, *, body: Json | None = None) -> Json:
        if self.away:
            raise Retryable(Reason.CLUSTER_UNAVAILABLE, "away")
        if method == "GET":
            if self.lease is None:
                raise NotThere(Reason.CLUSTER_UNAVAILABLE, "404")
            return copy.deepcopy(self.lease)
        assert body is not None
        if method == "POST" and self.lease is not None:
            raise Conflict(Reason.CLUSTER_UNAVAILABLE, "409")
        if method == "PUT":
            assert self.lease is not None
            current = self.lease["metadata"]["resourceVersion"]
            if body["metadata"]["resourceVersion"] != current:
                raise Conflict(Reason.CLUSTER_UNAVAILABLE, "409")
        self.version += 1
        self.lease = copy.deepcopy(body)
        self.lease["metadata"]["resourceVersion"] = str(self.version)
        return copy.deepcopy(self.lease)

    @property
    def holder(self) -> str:
        assert self.lease is not None
        return str(self.lease["spec"]["holderIdentity"])


class Clock:
    """A clock that sleeping moves on."""

    def __init__(self) -> None:
        self.now = 0.0

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        await asyncio.sleep(0)


@pytest.fixture
def clock() -> Clock:
    return Clock()


def lease(server: Server, holder: str, clock: Clock) -> Lease:
    return Lease(
        server,
        namespace="system",
        name="operator",
        holder=holder,
        clock=lambda: clock.now,
        sleep=clock.sleep,
    )


async def test_the_first_takes_it_and_the_second_waits(clock: Clock) -> None:
    server = Server()
    one, two = lease(server, "one", clock), lease(server, "two", clock)
    await one.acquire()
    assert server.holder == "one"
    waiting = asyncio.create_task(two.acquire())
    holding = asyncio.create_task(one.hold())
    for _ in range(50):
        await asyncio.sleep(0)
        assert server.holder == "one"
    holding.cancel()
    await waiting
    assert server.holder == "two"


async def test_what_is_given_back_is_free_at_once(clock: Clock) -> None:
    server = Server()
    one, two = lease(server, "one", clock), lease(server, "two", clock)
    await one.acquire()
    await one.release()
    before = clock.now
    await two.acquire()
    assert clock.now == before
    assert server.holder == "two"


async def test_it_tells_until_when_the_one_before_acted(clock: Clock) -> None:
    server = Server()
    one, two, three = (lease(server, name, clock) for name in ("one", "two", "three"))
    began = time.time()
    await one.acquire()
    assert one.acted_until is None, "there was nobody before"
    await one.release()
    await two.acquire()
    assert began <= (two.acted_until or 0) <= time.time()
    await three.acquire()  # of one that was killed
    assert began + RENEW_EVERY <= (three.acted_until or 0) <= time.time() + RENEW_EVERY


@pytest.mark.parametrize("spec", [{}, {"renewTime": "yesterday"}, {"renewTime": 7}])
async def test_a_lease_of_another_program_tells_nothing(
    clock: Clock, spec: dict[str, object]
) -> None:
    server = Server()
    await lease(server, "one", clock).acquire()
    assert server.lease is not None
    server.lease["spec"] = {"holderIdentity": "", **spec}
    two = lease(server, "two", clock)
    await two.acquire()
    assert two.acted_until is None


async def test_who_was_killed_is_followed_after_the_duration(clock: Clock) -> None:
    server = Server()
    await lease(server, "one", clock).acquire()
    await lease(server, "two", clock).acquire()
    assert DURATION < clock.now <= 15


async def test_who_cannot_renew_stops_before_another_may_start(clock: Clock) -> None:
    server = Server()
    one = lease(server, "one", clock)
    await one.acquire()
    server.away = True
    with pytest.raises(Retryable, match="is lost"):
        await one.hold()
    assert clock.now <= DURATION - MARGIN + 2


async def test_a_lease_that_somebody_else_took_is_lost(clock: Clock) -> None:
    server = Server()
    one = lease(server, "one", clock)
    await one.acquire()
    assert server.lease is not None
    server.lease["spec"]["holderIdentity"] = "two"
    server.lease["metadata"]["resourceVersion"] = "99"
    with pytest.raises(Retryable, match="another operator has taken it"):
        await one.hold()


async def test_a_renewal_whose_reply_was_lost_is_ours_all_the_same(clock: Clock) -> None:
    server = Server()
    one = lease(server, "one", clock)
    await one.acquire()
    assert server.lease is not None
    server.lease["metadata"]["resourceVersion"] = "99"  # a write of ours that we never heard of
    holding = asyncio.create_task(one.hold())
    for _ in range(20):
        await asyncio.sleep(0)
    assert not holding.done()
    assert server.lease["metadata"]["resourceVersion"] != "99", "renewed since"
    holding.cancel()


async def test_a_renewal_that_met_a_newer_lease_waits_for_no_answer_beyond_its_time(
    clock: Clock,
) -> None:
    class Silent(Server):
        async def call(self, method: str, path: str, *, body: Json | None = None) -> Json:
            if method == "GET" and self.lease is not None:
                clock.now += DURATION
                await asyncio.Event().wait()
            return await super().call(method, path, body=body)

    server = Silent()
    one = lease(server, "one", clock)
    await one.acquire()
    assert server.lease is not None
    server.lease["metadata"]["resourceVersion"] = "99"
    clock.now = DURATION - MARGIN - RENEW_EVERY - 0.05  # so that little is left of its time
    async with asyncio.timeout(5):
        with pytest.raises(Retryable, match="is lost: no answer in time"):
            await one.hold()


async def test_who_waits_says_once_what_for(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    server = Server()
    server.away = True
    waiting = asyncio.create_task(lease(server, "one", clock).acquire())
    for _ in range(20):
        await asyncio.sleep(0)
    assert clock.now > 5
    assert [(r.levelname, r.getMessage()) for r in caplog.records] == [
        ("WARNING", "waiting for the Lease system/operator: away")
    ]
    server.away = False
    await waiting


async def test_two_that_reach_for_it_at_once(clock: Clock) -> None:
    server = Server()
    leases = [lease(server, str(n), clock) for n in range(2)]
    tasks = [asyncio.create_task(one.acquire()) for one in leases]
    done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    assert len(done) == 1
    for task in pending:
        task.cancel()
    await asyncio.gather(*pending, return_exceptions=True)
