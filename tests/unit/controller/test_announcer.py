"""Events are written in their order, beside everything else, and none holds anything up."""

import asyncio
from typing import Any

import pytest

from niximage.controller.cluster.announcer import Announcer
from niximage.errors import Reason, Retryable


class Server:
    """Takes Events, refuses some, and takes its time where it is told to."""

    def __init__(self) -> None:
        self.written: list[str] = []
        self.refuse: set[str] = set()
        self.gate = asyncio.Event()
        self.gate.set()
        self.announcer = Announcer(self, limit=5)

    async def create_event(self, manifest: dict[str, Any]) -> None:
        await self.gate.wait()
        if manifest["reason"] in self.refuse:
            raise Retryable(Reason.CLUSTER_UNAVAILABLE, "the API server answers 403")
        self.written.append(manifest["reason"])

    def tell(self, *reasons: str) -> None:
        for reason in reasons:
            self.announcer.add({"reason": reason})


async def stop(task: "asyncio.Task[None]") -> None:
    await asyncio.sleep(0)  # it begins
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_what_waits_is_written_in_its_order_even_when_the_operator_stops() -> None:
    server = Server()
    server.tell("one", "two", "three")
    await stop(asyncio.create_task(server.announcer.run()))
    assert server.written == ["one", "two", "three"]


async def test_one_that_is_refused_holds_up_no_other(caplog: pytest.LogCaptureFixture) -> None:
    server = Server()
    server.refuse = {"two"}
    server.tell("one", "two", "three")
    await stop(asyncio.create_task(server.announcer.run()))
    assert server.written == ["one", "three"]
    assert "no Event two" in caplog.text


async def test_more_than_can_wait_are_dropped_and_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    server = Server()
    server.tell(*(str(number) for number in range(8)))
    await stop(asyncio.create_task(server.announcer.run()))
    assert server.written == ["0", "1", "2", "3", "4"]
    assert "3 Events were dropped" in caplog.text


async def test_a_server_that_hangs_does_not_keep_the_operator_from_stopping(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("niximage.controller.cluster.announcer.LAST_WORDS", 0.01)
    server = Server()
    server.gate.clear()
    server.tell("one", "two")
    await stop(asyncio.create_task(server.announcer.run()))
    assert server.written == []
    assert "2 Events are lost" in caplog.text
