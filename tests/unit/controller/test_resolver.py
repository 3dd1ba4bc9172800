"""One question for all images that follow one ref, and no hammering of a server in trouble."""

import asyncio

import pytest

from niximage.api.build import PinnedSource
from niximage.api.source import Source
from niximage.controller.sources.due import Question, slot_start
from niximage.controller.sources.resolver import Resolver
from niximage.errors import NixImageError, Reason, Retryable, Terminal

NIXPKGS = "https://example.org/nixpkgs"
CHANNEL = Source.model_validate({"nixpkgs": {"channel": "nixos-26.05"}})
BEGIN = slot_start(Question(CHANNEL, "a", NIXPKGS).key, 600, 1.8e9)
"""When a slot of the channel begins, for those who ask every ten minutes."""
TOLD = PinnedSource(url="https://example.org/x", revision="f" * 40)
"""What an asker's status tells."""


def git(path: str) -> Source:
    return Source.model_validate(
        {"git": {"url": "https://example.org/x", "ref": {"branch": "main"}, "path": path}}
    )


class Server:
    """Answers with a revision or an error, counts questions, and has a clock."""

    def __init__(self) -> None:
        self.asked = 0
        self.now = BEGIN
        self.error: Terminal | Retryable | None = None
        self.asking = asyncio.Event()
        self.gate: asyncio.Event | None = None
        self.restart()

    def restart(self, *, acted_until: float | None = None) -> None:
        """Another life of the operator, which remembers nothing."""
        self.resolver = Resolver(
            self.answer, retry_delay=10, acted_until=acted_until, clock=lambda: self.now
        )

    async def ask(
        self,
        source: Source,
        *,
        interval: float = 600,
        nixpkgs_url: str = NIXPKGS,
        team: str = "a",
        told: PinnedSource | None = None,
        fresh: bool = False,
    ) -> PinnedSource | NixImageError:
        question = Question(source, team, nixpkgs_url)
        return await self.resolver.resolve(question, interval=interval, told=told, fresh=fresh)

    async def answer(self, question: Question) -> PinnedSource:
        self.asked += 1
        self.asking.set()
        if self.gate is not None:
            await self.gate.wait()
        if self.error is not None:
            raise self.error
        return PinnedSource(url="https://example.org/x", revision=f"{self.asked:040d}")


async def test_a_thousand_askers_ask_once() -> None:
    server = Server()
    server.gate = asyncio.Event()
    askers = [asyncio.create_task(server.ask(CHANNEL)) for _ in range(1000)]
    await server.asking.wait()
    server.gate.set()
    assert len({repr(a) for a in await asyncio.gather(*askers)}) == 1
    assert server.asked == 1


async def test_of_sources_without_end_the_latest_are_remembered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("niximage.controller.sources.resolver.REMEMBERED", 3)
    server = Server()
    sources = [Source.model_validate({"nixpkgs": {"channel": f"nixos-{n}"}}) for n in range(5)]
    for source in (*sources, *sources[2:]):
        await server.ask(source)
    assert server.asked == 5
    await server.ask(sources[0])
    assert server.asked == 6


async def test_an_answer_is_kept_until_the_next_slot() -> None:
    server = Server()
    server.now = BEGIN + 400
    first = await server.ask(CHANNEL)
    server.now = BEGIN + 599
    assert await server.ask(CHANNEL) == first
    server.now = BEGIN + 600
    assert await server.ask(CHANNEL) != first


async def test_who_is_told_to_ask_anew_asks() -> None:
    server = Server()
    first = await server.ask(CHANNEL)
    second = await server.ask(CHANNEL, fresh=True, told=TOLD)
    assert second not in {first, TOLD}
    assert await server.ask(CHANNEL) == second, "the others take its answer"


async def test_what_a_life_before_asked_in_this_slot_is_not_asked_again() -> None:
    server = Server()
    server.now = BEGIN + 5
    server.restart()
    assert await server.ask(CHANNEL, told=TOLD) == TOLD
    server.now = BEGIN + 599
    assert await server.ask(CHANNEL, told=TOLD) == TOLD
    assert server.asked == 0
    server.now = BEGIN + 600
    assert await server.ask(CHANNEL, told=TOLD) != TOLD
    assert server.asked == 1


async def test_what_is_new_to_this_life_is_asked_at_once_and_shared() -> None:
    server = Server()
    assert await server.ask(CHANNEL, told=TOLD) == TOLD
    new = await server.ask(CHANNEL)
    assert await server.ask(CHANNEL, told=TOLD) == new
    assert server.asked == 1


async def test_a_slot_that_began_while_nobody_acted_is_asked_for_at_the_start() -> None:
    server = Server()
    server.now = BEGIN + 300
    server.restart(acted_until=BEGIN - 1)
    assert await server.ask(CHANNEL, told=TOLD) != TOLD
    server.restart(acted_until=BEGIN + 1)
    assert await server.ask(CHANNEL, told=TOLD) == TOLD
    assert server.asked == 1


async def test_a_clock_that_was_set_back_silences_no_question() -> None:
    server = Server()
    first = await server.ask(CHANNEL)
    server.now = BEGIN - 86_400
    assert await server.ask(CHANNEL) != first
    server.restart(acted_until=BEGIN)
    server.now -= 86_400
    assert await server.ask(CHANNEL, told=TOLD) != TOLD
    assert server.asked == 3


async def test_a_clock_that_was_set_forth_costs_one_question() -> None:
    server = Server()
    await server.ask(CHANNEL)
    server.now += 86_400 * 30
    for _ in range(3):
        await server.ask(CHANNEL)
    assert server.asked == 2


async def test_who_asks_seldom_takes_the_answers_of_who_asks_often() -> None:
    """Each 7 and each 10 minutes: slots that do not begin together."""
    server = Server()
    for minute in range(70 * 6):
        server.now = BEGIN + 60 * minute
        for interval in (600, 420):
            await server.ask(CHANNEL, interval=interval)
    assert server.asked in {60, 61}, "as the faster one alone"


async def test_when_who_asks_often_has_gone_the_other_asks() -> None:
    server = Server()
    first = await server.ask(CHANNEL, interval=60)
    server.now = BEGIN + 300
    assert await server.ask(CHANNEL) == first
    server.now = BEGIN + 600
    assert await server.ask(CHANNEL) != first


async def test_paths_of_one_repository_share_the_question_and_keep_their_paths() -> None:
    server = Server()
    one = await server.ask(git("one"))
    two = await server.ask(git("two"))
    assert isinstance(one, PinnedSource)
    assert isinstance(two, PinnedSource)
    assert (one.path, two.path) == ("one", "two")
    assert one.revision == two.revision
    assert server.asked == 1


async def test_a_passing_failure_is_remembered_shortly() -> None:
    server = Server()
    server.error = Retryable(Reason.SOURCE_UNAVAILABLE, "503")
    assert await server.ask(CHANNEL) is server.error
    server.now += 9
    await server.ask(CHANNEL)
    assert server.asked == 1
    server.now += 1
    server.error = None
    assert isinstance(await server.ask(CHANNEL), PinnedSource)


async def test_an_asker_that_gives_up_does_not_cancel_the_others() -> None:
    server = Server()
    server.gate = asyncio.Event()
    first = asyncio.create_task(server.ask(CHANNEL))
    await server.asking.wait()
    second = asyncio.create_task(server.ask(CHANNEL))
    first.cancel()
    await asyncio.wait([first])
    server.gate.set()
    assert isinstance(await second, PinnedSource)


async def test_channels_of_two_nixpkgs_are_two_questions() -> None:
    server = Server()
    first = await server.ask(CHANNEL)
    other = "https://mirror.example.org/nixpkgs"
    assert await server.ask(CHANNEL, nixpkgs_url=other) != first


def private(path: str = ".") -> Source:
    git_source = git(path).to_json()["git"]
    return Source.model_validate({"git": {**git_source, "secretRef": {"name": "keys"}}})


async def test_what_one_namespaces_secret_opens_is_no_answer_for_another() -> None:
    server = Server()
    open_to_all = await server.ask(git("one"))
    first = await server.ask(private(), team="a")
    assert server.asked == 2, "with keys and without are two questions"
    assert await server.ask(private(), team="a") == first
    assert await server.ask(private(), team="b") != first
    assert server.asked == 3
    assert open_to_all != first


FLUX = Source.model_validate({"sourceRef": {"kind": "GitRepository", "name": "podinfo"}})


async def test_objects_of_flux_are_told_apart_by_namespace_and_name() -> None:
    server = Server()
    first = await server.ask(FLUX, team="a")
    assert await server.ask(FLUX, team="a") == first
    assert await server.ask(FLUX, team="b") != first
    assert server.asked == 2


async def test_what_changed_is_asked_anew() -> None:
    server = Server()
    first = await server.ask(FLUX)
    server.resolver.forget(Question(FLUX, "a", NIXPKGS))
    assert await server.ask(FLUX) != first


async def test_an_answer_from_before_a_change_is_given_and_not_kept() -> None:
    server = Server()
    server.gate = asyncio.Event()
    asker = asyncio.create_task(server.ask(FLUX))
    await server.asking.wait()
    server.resolver.forget(Question(FLUX, "a", NIXPKGS))  # it changed while the answer travels
    server.gate.set()
    first = await asker
    assert await server.ask(FLUX) != first
    assert server.asked == 2
