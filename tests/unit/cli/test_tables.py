"""Tables of NixImages: what users read, column by column."""

import datetime as dt
from typing import Any

import pytest

from niximage.cli.cluster.facts import Facts
from niximage.cli.cluster.tables import build_history, image_list, image_status, one_line
from niximage.cli.tables import age, duration, plain, show, table

NOW = dt.datetime(2026, 5, 1, 12, tzinfo=dt.UTC)
DIGEST = "sha256:" + "ab" * 32
REVISION = "c0ffee" * 6 + "1234"


def condition(kind: str, status: str, reason: str, message: str = "") -> dict[str, Any]:
    return {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": message,
        "lastTransitionTime": "2026-05-01T11:00:00Z",
        "observedGeneration": 2,
    }


READY = condition("Ready", "True", "Succeeded", "12 layers")
ARTIFACT = {
    "inputHash": "1" * 64,
    "revision": REVISION,
    "layers": 12,
    "size": 31_200_000,
    "reusedLayers": 10,
    "reusedSize": 30_000_000,
    "lastUpdateTime": "2026-05-01T11:58:00Z",
}
SOURCE = {
    "url": "https://example.org/set.git",
    "ref": "refs/heads/main",
    "revision": REVISION,
    "shortRevision": REVISION[:12],
    "resolvedTime": "2026-04-29T12:00:00Z",
}


def stored(name: str = "web", *, suspend: bool = False, **status: Any) -> dict[str, Any]:
    """A NixImage as the API server gives it."""
    return {
        "metadata": {
            "name": name,
            "namespace": "team-a",
            "generation": 2,
            "creationTimestamp": "2026-04-01T12:00:00Z",
        },
        "spec": {"packages": ["hello"], "suspend": suspend},
        "status": {"observedGeneration": 2, **status},
    }


def ready(**more: Any) -> Facts:
    status = {
        "conditions": [READY],
        "digest": DIGEST,
        "image": f"127.0.0.1:5000/team-a/web@{DIGEST}",
        "artifact": ARTIFACT,
        "source": SOURCE,
        **more,
    }
    return Facts.of(stored(**status))


def test_a_list_tells_state_revision_digest_and_ages() -> None:
    lines = plain(image_list([ready()], NOW)).splitlines()
    assert lines[0].split() == ["NAME", "READY", "STATUS", "REVISION", "DIGEST", "UPDATED", "AGE"]
    cells = ("web", "True", "Succeeded", "c0ffeec0ffee", "abababababab", "2m", "30d")
    assert lines[1].split() == [*cells]


def test_a_wide_list_tells_of_a_source_that_has_no_url() -> None:
    volume = {**SOURCE, "url": "", "ref": "PersistentVolumeClaim/packages", "revision": "0"}
    lines = plain(image_list([ready(source=volume)], NOW, wide=True)).splitlines()
    assert lines[1].split()[-2] == "PersistentVolumeClaim/packages"


def test_a_wide_list_of_all_namespaces_tells_of_layers_and_the_image() -> None:
    lines = plain(image_list([ready()], NOW, wide=True, namespaces=True)).splitlines()
    assert lines[0].split()[0] == "NAMESPACE"
    assert lines[1].startswith("team-a ")
    assert lines[1].split()[-8:] == [
        *("-", "12", "31.2", "MB", "30.0", "MB"),
        "https://example.org/set.git@refs/heads/main",
        f"127.0.0.1:5000/team-a/web@{DIGEST}",
    ]


@pytest.mark.parametrize(
    ("image", "word"),
    [
        (stored(conditions=[READY]), "Succeeded"),
        (stored(conditions=[READY], suspend=True), "Suspended"),
        (stored(conditions=[READY], observedGeneration=1), "Pending"),
        (stored(conditions=[READY, condition("Outdated", "True", "NewRevision")]), "NewRevision"),
        (
            stored(
                conditions=[
                    condition("Ready", "False", "PackageNotFound"),
                    condition("Stalled", "True", "PackageNotFound"),
                ]
            ),
            "PackageNotFound",
        ),
        (
            stored(
                conditions=[
                    condition("Ready", "Unknown", "Progressing"),
                    condition("Reconciling", "True", "Queued"),
                ]
            ),
            "Queued",
        ),
        (stored(), "Unknown"),
        (stored(conditions="written by another version"), "Pending"),
    ],
)
def test_the_state_in_one_word_is_of_the_condition_that_tells_most(
    image: dict[str, Any], word: str
) -> None:
    assert Facts.of(image).word[0] == word


def test_the_status_of_a_good_image_tells_of_its_layers_and_what_was_reused() -> None:
    text = plain(*image_status(ready(), NOW, packages=["hello", "curl"]))
    assert "Packages:  hello, curl" in text
    assert f"Image:     127.0.0.1:5000/team-a/web@{DIGEST}" in text
    assert "12, 31.2 MB; 10 of them, 30.0 MB, were there before, 2 new" in text
    assert "refs/heads/main at " + REVISION in text
    assert "Ready       True     Succeeded   1h      12 layers" in text


def test_the_status_of_an_image_for_several_platforms_names_them() -> None:
    platforms = {**ARTIFACT, "platforms": ["linux/amd64", "linux/arm64"]}
    text = plain(*image_status(ready(artifact=platforms), NOW, packages=["hello"]))
    assert "Platforms: linux/amd64, linux/arm64" in " ".join(text.split())
    assert "Platforms" not in plain(*image_status(ready(), NOW, packages=["hello"]))


def test_the_status_of_a_build_shows_how_far_it_is() -> None:
    progress = {"phase": "realise", "done": 12, "total": 40, "message": "building gcc"}
    build = {
        "jobName": "web-0123456789",
        "inputHash": "1" * 64,
        "attempt": 2,
        "startTime": "2026-05-01T11:57:30Z",
        "progress": progress,
    }
    image = ready(currentBuild=build)
    text = plain(*image_status(image, NOW, packages=["hello"]))
    assert "Building for 2m30s: Job web-0123456789, attempt 2" in text
    assert "realise" in text
    assert "━━━━━━━━━" in text
    assert "12/40  building gcc" in text
    assert one_line(image) == "Succeeded: realise 12/40 building gcc"


def test_the_status_of_a_failure_tells_derivation_log_and_next_try() -> None:
    failure = {
        "reason": "BuildFailed",
        "message": "hello failed",
        "derivation": "/nix/store/abc-hello.drv",
        "logTail": "make: *** [all] Error 1",
        "attempts": 3,
        "lastFailureTime": "2026-05-01T11:59:00Z",
        "nextRetryTime": "2026-05-01T12:00:30Z",
    }
    text = plain(*image_status(ready(failure=failure), NOW, packages=[]))
    assert "Failed 1m ago, 3 times in a row: BuildFailed" in text
    assert "derivation: /nix/store/abc-hello.drv" in text
    assert "    make: *** [all] Error 1" in text
    assert "tried again in 30s" in text


def test_the_status_tells_a_long_sentence_once() -> None:
    words = "unfree-tool: it has an unfree license; to allow it, set spec.nixpkgsConfig.allowUnfree"
    failure = {
        "reason": "UnfreeOrInsecure",
        "message": words,
        "lastFailureTime": "2026-05-01T11:59:00Z",
    }
    conditions = [
        condition("Ready", "False", "UnfreeOrInsecure", words),
        condition("Stalled", "True", "UnfreeOrInsecure", words),
    ]
    text = plain(*image_status(ready(failure=failure, conditions=conditions), NOW, packages=[]))
    assert " ".join(text.split()).count(words) == 1
    assert text.count("(as above)") == 2
    assert text.endswith(
        "Failed 1m ago: UnfreeOrInsecure\n\nmore: niximage explain UnfreeOrInsecure\n"
    )


def test_the_history_tells_what_each_build_came_to() -> None:
    builds = [
        {
            "id": "1",
            "jobName": "web-2",
            "result": "Failed",
            "reason": "BuildFailed",
            "message": "hello\nfailed",
            "revision": REVISION,
            "startTime": "2026-05-01T10:00:00Z",
            "completionTime": "2026-05-01T10:01:05Z",
        },
        {
            "id": "0",
            "jobName": "web-1",
            "result": "Succeeded",
            "reason": "Succeeded",
            "revision": REVISION,
            "digest": DIGEST,
            "startTime": "2026-04-30T10:00:00Z",
            "completionTime": "2026-04-30T10:00:07Z",
        },
    ]
    lines = plain(build_history(ready(history=builds), NOW)).splitlines()
    assert lines[1].split() == [
        *("web-2", "Failed", "c0ffeec0ffee", "-", "1m5s", "1h", "BuildFailed:", "hello", "failed")
    ]
    assert lines[2].split() == ["web-1", "Succeeded", "c0ffeec0ffee", "abababababab", "7s", "1d"]


def test_what_others_wrote_is_no_markup() -> None:
    assert "[red]x[/red]" in plain(table(["A"], [["[red]x[/red]"]]))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-5, "0s"), (0.9, "0s"), (59, "59s"), (61, "1m1s"), (600, "10m"), (7300, "2h"), (90000, "1d")],
)
def test_durations_are_told_in_their_largest_units(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_what_never_was_has_no_age() -> None:
    assert age(None, NOW) == "-"


@pytest.mark.parametrize("terminal", [True, False])
def test_a_terminal_gets_what_fits_and_a_pipe_all_of_it(
    terminal: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    if terminal:
        monkeypatch.setenv("TTY_COMPATIBLE", "1")
    show(table(("LAYER", "NAMES"), [["1", "name " * 30]]), cut=True)
    row = capsys.readouterr().out.splitlines()[1]
    assert ("…" in row, len(row) <= 40) == (terminal, terminal)
