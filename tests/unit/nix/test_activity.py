"""Nix's account of a build, as 2.8.0 and 2.26.3 really gave it."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from niximage.nix.activity import Activities, Progress
from niximage.nix.programs import without_middle

FAILING = "/nix/store/19wc0phrcp91sk1l5lg951rwlxca7sfi-b-1.drv"
USER = "/nix/store/pv5b8kjl5i4mz0l94gnw4i5gsnvxkfwi-c-1.drv"


def line(**event: Any) -> str:
    return "@nix " + json.dumps(event)


def building(derivation: str, number: int = 5) -> str:
    fields = [derivation, "", 1, 1]
    return line(action="start", id=number, level=3, type=105, fields=fields, text="building")


def log(text: str, number: int = 5) -> str:
    return line(action="result", id=number, type=101, fields=[text])


FAILED = line(
    action="msg",
    level=0,
    msg=f"\x1b[31;1merror:\x1b[0m builder for '\x1b[35;1m{FAILING}\x1b[0m' failed with exit code 4",
    raw_msg=f"builder for '\x1b[35;1m{FAILING}\x1b[0m' failed with exit code 4",
)
DEPENDENT = line(
    action="msg",
    level=0,
    msg="\x1b[31;1merror:\x1b[0m \x1b[35;1m1\x1b[0m dependencies of derivation "
    f"'{USER}' failed to build",
)


def test_the_derivation_that_failed_is_told_from_those_that_need_it() -> None:
    said = Activities()
    for each in (DEPENDENT, building(FAILING), log("boom"), FAILED, line(action="stop", id=5)):
        said.read(each)
    assert said.failed_derivation == FAILING
    assert said.log_tail(FAILING) == "boom"
    assert said.error() == f"builder for '{FAILING}' failed with exit code 4"


def test_the_log_is_there_when_the_error_comes_last() -> None:
    said = Activities()
    for each in (building(FAILING), log("boom"), line(action="stop", id=5), FAILED):
        said.read(each)
    assert said.log_tail(said.failed_derivation) == "boom"


def test_logs_of_two_builders_do_not_mix() -> None:
    said = Activities()
    for each in (building(FAILING, 5), building(USER, 6), log("a", 5), log("b", 6), log("c", 5)):
        said.read(each)
    assert said.log_tail(FAILING) == "a\nc"
    assert said.log_tail(USER) == "b"


def test_a_log_keeps_its_end_and_no_control_characters() -> None:
    said = Activities()
    said.read(building(FAILING))
    for i in range(200):
        said.read(log(f"\x1b[1mline {i}\x1b[0m\x07" + "x" * 1000))
    lines = said.log_tail(FAILING).split("\n")
    assert len(lines) == 50
    assert lines[0].startswith("line 150x")
    assert max(len(each.encode()) for each in lines) <= 400


@pytest.mark.parametrize("filling", ["x", "\\", '"', "\x1b[1m", "é", '\\"\n'])
@pytest.mark.parametrize("more", range(7))
def test_of_a_line_without_end_the_end_is_kept(filling: str, more: int) -> None:
    said = Activities()
    said.read(building(FAILING))
    text = "y" * more + filling * (300_000 // len(filling)) + "the reason"
    said.read(without_middle(log(text).encode()).decode("utf-8", "replace"))
    assert said.log_tail(FAILING).endswith("the reason")
    said.read(without_middle(json.dumps({"action": "result"}).encode()).decode())


def test_only_the_latest_logs_are_kept() -> None:
    said = Activities()
    for i in range(100):
        said.read(building(f"/nix/store/{'0' * 32}-p{i}.drv", i))
        said.read(log("x", i))
    assert said.log_tail(f"/nix/store/{'0' * 32}-p0.drv") == ""
    assert said.log_tail(f"/nix/store/{'0' * 32}-p99.drv") == "x"


def test_progress_counts_builds_and_names_what_starts() -> None:
    said = Activities()
    seen = [
        said.read(each)
        for each in (
            line(action="start", id=2, level=0, type=104, text=""),
            line(action="start", id=3, level=0, type=103, text=""),
            line(action="result", id=3, type=105, fields=[7, 9, 0, 0]),  # copies, not builds
            line(action="result", id=2, type=105, fields=[0, 2, 0, 0]),
            building(FAILING),
            line(action="result", id=2, type=105, fields=[1, 2, 0, 0]),
        )
    ]
    assert [each for each in seen if each is not None] == [
        Progress(0, 2, ""),
        Progress(0, 2, "building b-1"),
        Progress(1, 2, "building b-1"),
    ]


def test_without_events_the_text_is_what_went_wrong() -> None:
    said = Activities()
    said.read("error: \x1b[31mcannot open database\x1b[0m")
    assert said.error() == "cannot open database"
    assert said.failed_derivation == ""


@pytest.mark.parametrize(
    "text",
    [
        "@nix ",
        "@nix {",
        "@nix []",
        "@nix {}",
        '@nix {"action":"start","type":105}',
        '@nix {"action":"start","type":105,"id":1,"fields":[null]}',
        '@nix {"action":"start","type":105,"id":{},"fields":7}',
        '@nix {"action":"result","type":101,"fields":[1]}',
        '@nix {"action":"result","type":105,"id":[],"fields":{}}',
        '@nix {"action":"msg","level":0,"msg":null}',
        '@nix {"action":["msg"]}',
        "@nix " + "[" * 100_000,
    ],
)
def test_malformed_events_are_no_crash(text: str) -> None:
    said = Activities()
    said.read(text)
    assert isinstance(said.error(), str)


EVENTS = st.fixed_dictionaries(
    {"action": st.sampled_from(["start", "stop", "result", "msg"])},
    optional={
        name: st.one_of(
            st.integers(),
            st.text(),
            st.none(),
            st.lists(st.one_of(st.integers(), st.text()), max_size=3),
            st.sampled_from([100, 101, 103, 104, 105, 108]),
        )
        for name in ("id", "type", "fields", "level", "msg", "raw_msg")
    },
)


@given(st.lists(EVENTS, max_size=10))
def test_no_event_is_a_crash(events: list[dict[str, Any]]) -> None:
    said = Activities()
    for event in events:
        said.read("@nix " + json.dumps(event))
    said.log_tail(said.failed_derivation)
    said.error()
