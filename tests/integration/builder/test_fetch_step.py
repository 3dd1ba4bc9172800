"""The step that fetches what is closed to others: it holds the keys, the next step the files."""

import json
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from integration.builder.images import Folder
from integration.nix.demo import Demo
from integration.private_git import BASIC, PASSWORD, private_http
from integration.source.conftest import Server
from niximage.api.build import (
    MESSAGE_LIMIT,
    RESULT_LIMIT,
    BuildFailure,
    BuildRequest,
    PinnedSource,
    PublishResult,
    read_message,
)
from niximage.api.spec import Config
from niximage.builder.build import run_build
from niximage.builder.steps import build_step, fetch_step, publish_step
from niximage.errors import EXIT_RETRYABLE, EXIT_TERMINAL, Reason
from niximage.nix.programs import NixStore
from support.flux_objects import digest_of


class Pod:
    """What the containers of a build pod are given, in folders of this machine."""

    def __init__(self, demo: Demo, url: str, bucket: Folder, folder: Path) -> None:
        self.secret, self.fetched, work = (folder / n for n in ("secret", "fetched", "work"))
        self.termination_log = folder / "termination-log"
        for each in (self.secret, self.fetched, work):
            each.mkdir()
        source = demo.source.model_copy(update={"url": f"{url}/{demo.path.name}"})
        self.request = BuildRequest(
            namespace="team",
            repository="team/image",
            input_hash="0" * 64,
            packages=["hello"],
            source=source,
            config=Config(),
        )
        self._common = {
            "NIXIMAGE_REQUEST": json.dumps(self.request.to_json()),
            "NIXIMAGE_WORK": str(work),
            "NIXIMAGE_TERMINATION_LOG": str(self.termination_log),
        }
        self.bucket = bucket

    def take(self, source: PinnedSource) -> None:
        """Build from another source."""
        self.request = self.request.model_copy(update={"source": source})
        self._common["NIXIMAGE_REQUEST"] = json.dumps(self.request.to_json())

    def fetch(self, **more: str) -> int:
        keys = {"NIXIMAGE_CREDENTIALS": str(self.secret), "NIXIMAGE_SECRET": "keys"}
        return fetch_step({**self._common, **keys, "NIXIMAGE_FETCHED": str(self.fetched), **more})

    def build(self) -> int:
        return build_step({**self._common, "NIXIMAGE_FETCHED": str(self.fetched)})

    def publish(self) -> int:
        return publish_step({**self._common, "NIXIMAGE_BUCKET": self.bucket.path.as_uri()})

    def give(self, values: dict[str, str]) -> None:
        """Let the Secret have these keys."""
        for key, value in values.items():
            (self.secret / key).write_text(value)

    def failure(self) -> BuildFailure:
        return read_message(BuildFailure, self.termination_log.read_bytes(), MESSAGE_LIMIT)


@pytest.fixture
def pod(demo: Demo, bucket: Folder, tmp_path: Path) -> Iterator[Pod]:
    """A pod whose source is the demo set behind a password."""
    folder = tmp_path / "pod"
    folder.mkdir()
    with private_http(demo.path.parent) as url:
        yield Pod(demo, url, bucket, folder)


def test_what_one_step_fetched_the_next_ones_build_and_publish(pod: Pod) -> None:
    pod.give(BASIC)
    assert pod.fetch() == 0
    assert sorted(p.name for p in pod.fetched.iterdir()) == ["fetched.json", "source"]
    assert pod.build() == 0
    assert pod.publish() == 0
    result = read_message(PublishResult, pod.termination_log.read_bytes(), RESULT_LIMIT)
    assert result.input_hash == pod.request.input_hash


def test_a_secret_that_is_not_there_is_told(pod: Pod) -> None:
    assert pod.fetch() == EXIT_RETRYABLE
    failure = pod.failure()
    assert (failure.reason, failure.retryable) == (Reason.CREDENTIALS_MISSING, True)
    assert "the Secret team/keys does not open the source" in failure.message
    assert "it does not exist, or has none of these" in failure.message


def test_wrong_keys_are_told_and_not_quoted(pod: Pod, capfd: pytest.CaptureFixture[str]) -> None:
    pod.give({**BASIC, "username": "other"})
    assert pod.fetch() == EXIT_RETRYABLE
    failure = pod.failure()
    assert (failure.reason, failure.retryable) == (Reason.AUTHENTICATION_FAILED, True)
    said = capfd.readouterr()
    assert PASSWORD not in pod.termination_log.read_text() + said.out + said.err


def test_build_without_what_it_waits_for_says_so(pod: Pod) -> None:
    assert pod.build() == EXIT_RETRYABLE
    assert pod.failure().reason is Reason.BUILD_INTERRUPTED
    assert "the source was not fetched" in pod.failure().message


def test_another_revision_than_was_asked_for_is_not_built(pod: Pod) -> None:
    pod.give(BASIC)
    assert pod.fetch() == 0
    note = pod.fetched / "fetched.json"
    note.write_text(json.dumps({"v": 1, "revision": "f" * 40, "time": 0}))
    assert pod.build() == EXIT_RETRYABLE
    assert pod.failure().reason is Reason.RESULT_INVALID


def test_a_link_that_leads_out_of_what_was_fetched_is_refused(pod: Pod) -> None:
    pod.give(BASIC)
    assert pod.fetch() == 0
    default = pod.fetched / "source" / "default.nix"
    default.unlink()
    default.symlink_to("/etc/passwd")
    assert pod.build() == EXIT_TERMINAL


def test_the_step_needs_a_folder_to_fetch_into(pod: Pod, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pod, "fetched", "")
    assert pod.fetch() == EXIT_RETRYABLE
    assert "NIXIMAGE_FETCHED" in pod.failure().message


def test_a_volume_is_built_as_the_repository_is(
    pod: Pod, demo: Demo, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    volume = demo.check_out(tmp_path / "volume")
    source = PinnedSource(kind="volume", url="", ref="PersistentVolumeClaim/demo", revision="1")
    pod.take(source)
    assert pod.fetch(NIXIMAGE_VOLUME=str(volume)) == 0
    assert "its content has the hash" in capfd.readouterr().out
    (volume / "default.nix").unlink()  # what is built is what was copied
    assert pod.build() == 0
    assert pod.publish() == 0


def test_a_volume_that_cannot_be_read_is_told(pod: Pod, tmp_path: Path) -> None:
    source = PinnedSource(kind="volume", url="", ref="PersistentVolumeClaim/demo", revision="1")
    pod.take(source)
    assert pod.fetch(NIXIMAGE_VOLUME=str(tmp_path / "absent")) == EXIT_TERMINAL
    failure = pod.failure()
    assert failure.reason is Reason.INVALID_SOURCE
    assert "PersistentVolumeClaim/demo cannot be read" in failure.message
    assert "user and group 1000" in failure.message


def test_an_artifact_of_flux_is_built_as_the_repository_is(
    demo: Demo, bucket: Folder, tmp_path: Path
) -> None:
    """The archive that source-controller would make of the repository gives the same packages."""
    files = demo.check_out(tmp_path / "files")
    packed = tmp_path / "demo.tar.gz"
    with tarfile.open(packed, "w:gz") as tar:
        tar.add(files, ".")
    data = packed.read_bytes()
    source = PinnedSource(
        kind="artifact",
        url="",
        ref="GitRepository/demo",
        revision=f"main@sha1:{demo.source.revision}",
        digest=digest_of(data),
    )
    found = []
    with serving(data) as url:
        for number, each in enumerate((demo.source, source.model_copy(update={"url": url}))):
            work = tmp_path / str(number)
            (work / "roots").mkdir(parents=True)
            request = BuildRequest(
                namespace="team",
                repository="team/image",
                input_hash="0" * 64,
                packages=["hello"],
                source=each,
                config=Config(),
            )
            found.append(
                run_build(
                    request,
                    nix=NixStore(),
                    scratch=work,
                    roots=work / "roots",
                    timeout=60,
                    allow_file=True,
                )
            )
    assert found[0].packages == found[1].packages
    assert found[1].source_time == 0


@contextmanager
def serving(data: bytes) -> Iterator[str]:
    """The URL of a server that answers everything with some bytes."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002 (so named above)
            pass

    server = Server(Handler)
    try:
        yield f"{server.url}/demo.tar.gz"
    finally:
        server.stop()
