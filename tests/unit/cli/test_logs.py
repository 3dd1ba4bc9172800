"""Logs for people: what a build writes is shown, and steers nothing."""

import codecs

import pytest

from niximage.cli.cluster.facts import Facts
from niximage.cli.cluster.logs import (
    no_pod,
    of_step,
    printable,
    rest,
    steps_of,
    without_progress,
)

PROGRESS = b'{"niximage": "progress", "phase": "pack", "done": 0, "total": 1, "message": ""}'

HOSTILE = "a\x1b[2Jb\x1b]0;title\x07c\x9b31md\re\u202ef\tg\nä"


@pytest.mark.parametrize("width", [1, 2, 3, 100])
def test_control_characters_never_reach_a_terminal(width: int) -> None:
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    data = HOSTILE.encode()
    pieces = (data[start : start + width] for start in range(0, len(data), width))
    shown = b"".join(printable(decoder, piece) for piece in pieces).decode()
    assert shown == "a[2Jb]0;titlec31mdef\tg\nä"


@pytest.mark.parametrize("width", [1, 7, 1000])
def test_lines_for_the_operator_are_left_out_however_they_are_cut(width: int) -> None:
    data = b"one\n" + PROGRESS + b"\ntwo\n" + PROGRESS + b"\nlast, without an end"
    shown, held = b"", b""
    for start in range(0, len(data), width):
        part, held = without_progress(held, data[start : start + width])
        shown += part
    assert shown + held == b"one\ntwo\nlast, without an end"


def test_a_line_without_end_is_not_held_for_ever() -> None:
    shown, held = without_progress(PROGRESS, b"x" * 10_000)
    assert shown == PROGRESS + b"x" * 10_000
    assert held == b""


def test_nothing_but_progress_is_lost_where_a_log_ends() -> None:
    assert [rest(without_progress(b"", end)[1]) for end in (b"one\n{", PROGRESS)] == [b"{", b""]


def test_the_steps_are_those_of_the_pod() -> None:
    init = [{"name": "fetch"}, {"name": "proxy"}, {"name": "build"}]
    spec = {"initContainers": init, "containers": [{"name": "publish"}]}
    assert steps_of({"spec": spec}) == ["fetch", "build", "publish"]
    assert steps_of({}) == []


def test_one_step_is_cut_out_of_a_kept_log() -> None:
    text = "==> build\nevaluated\n==> publish\nforged\n==> publish\npublished\n"
    assert of_step(text, "build") == "evaluated\n==> publish\nforged\n"
    assert of_step(text, "publish") == "published\n"
    assert of_step(text, "fetch") is None
    assert of_step("==> fetch\ncopied\n==> build\nbad\n", "fetch") == "copied\n"
    assert of_step("==> build\nbad\n", "publish") is None


def test_an_image_whose_source_was_not_found_has_no_build_to_wait_for() -> None:
    why = {"reason": "ReferenceNotFound", "message": "there is no branch nixos-99"}
    times = {"attempts": 1, "tries": 1, "lastFailureTime": "2026-05-01T11:00:00Z"}
    since = {"status": "True", "lastTransitionTime": "2026-05-01T11:00:00Z"}
    image = Facts.of(
        {
            "metadata": {"name": "web", "namespace": "team-a", "generation": 1},
            "spec": {},
            "status": {
                "observedGeneration": 1,
                "conditions": [{"type": "Stalled", **since, **why}],
                "failure": {**times, **why},
            },
        }
    )
    error = no_pod(image, None)
    assert error.message == (
        "no build of web has begun; it is ReferenceNotFound: there is no branch nixos-99"
    )
    assert error.hint.endswith("niximage status web")
