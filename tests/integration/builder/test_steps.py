"""The two steps as containers run them: environment in, files and exit codes out."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from integration.builder.images import Folder
from integration.nix.demo import Demo
from niximage.api.build import (
    MESSAGE_LIMIT,
    RESULT_LIMIT,
    BuildFailure,
    BuildOutputs,
    BuildRequest,
    PublishResult,
    read_message,
)
from niximage.api.spec import Config, EnvironmentVariable
from niximage.bucket.images import resolve_tag
from niximage.builder.build import run_build
from niximage.builder.steps import OUTPUTS_LIMIT, build_step, publish_step
from niximage.errors import EXIT_INTERNAL, EXIT_RETRYABLE, EXIT_TERMINAL, Reason
from niximage.nix.programs import NixStore

ABSENT = "/nix/store/00000000000000000000000000000000-x"


class Pod:
    """The environment of a build pod's containers."""

    def __init__(self, demo: Demo, bucket: Folder, work: Path, *packages: str) -> None:
        self.work = work
        self.termination_log = work / "termination-log"
        self.request = BuildRequest(
            namespace="team",
            repository="team/image",
            input_hash="0" * 64,
            packages=list(packages),
            source=demo.source,
            config=Config(),
        )
        self.environment = {
            "NIXIMAGE_REQUEST": json.dumps(self.request.to_json()),
            "NIXIMAGE_BUCKET": bucket.path.as_uri(),
            "NIXIMAGE_WORK": str(work),
            "NIXIMAGE_TERMINATION_LOG": str(self.termination_log),
        }

    def build(self) -> None:
        """What the step `build` does, for a source that only tests may use."""
        (self.work / "roots").mkdir()
        outputs = run_build(
            self.request,
            nix=NixStore(),
            scratch=self.work,
            roots=self.work / "roots",
            timeout=60,
            allow_file=True,
        )
        (self.work / "outputs.json").write_text(outputs.model_dump_json(by_alias=True))

    def failure(self) -> BuildFailure:
        return read_message(BuildFailure, self.termination_log.read_bytes(), MESSAGE_LIMIT)


@pytest.fixture
def pod(demo: Demo, bucket: Folder, tmp_path: Path) -> Pod:
    work = tmp_path / "work"
    work.mkdir()
    return Pod(demo, bucket, work, "hello", "shell")


def test_publish_reports_the_image_in_its_termination_message(
    pod: Pod, bucket: Folder, capfd: pytest.CaptureFixture[str]
) -> None:
    pod.build()
    assert publish_step(pod.environment) == 0
    result = read_message(PublishResult, pod.termination_log.read_bytes(), RESULT_LIMIT)
    assert result.input_hash == "0" * 64
    assert bucket.blob(result.digest).is_file()
    assert f"team/image@{result.digest}" in capfd.readouterr().out


def test_outputs_are_what_publish_reads(pod: Pod) -> None:
    pod.build()
    outputs = read_message(BuildOutputs, (pod.work / "outputs.json").read_bytes(), OUTPUTS_LIMIT)
    assert [package.attribute for package in outputs.packages["linux/amd64"]] == ["hello", "shell"]


def test_build_refuses_a_source_on_its_own_disk(pod: Pod) -> None:
    """`file://` is for tests and the command line: in a pod it would read the pod's files."""
    assert build_step(pod.environment) in {EXIT_TERMINAL, EXIT_RETRYABLE}
    assert not (pod.work / "outputs.json").exists()


def test_a_build_that_was_asked_for_earlier_leaves_the_tag_where_it_is(
    pod: Pod, bucket: Folder
) -> None:
    """Of two builds of the same inputs the first may end last: a forced one overtook it."""
    pod.build()
    digests = []
    for asked_at, env in ((2, "later"), (1, "earlier")):
        config = Config(env=[EnvironmentVariable(name="BUILD", value=env)])
        request = pod.request.model_copy(update={"config": config, "asked_at": asked_at})
        told = pod.environment | {"NIXIMAGE_REQUEST": request.to_variable()}
        assert publish_step(told) == 0
        message = pod.termination_log.read_bytes()
        digests.append(read_message(PublishResult, message, RESULT_LIMIT).digest)
    assert len(set(digests)) == 2
    assert resolve_tag(bucket.store, "team/image", pod.request.input_hash) == digests[0]


def test_publish_without_outputs_says_so(pod: Pod) -> None:
    assert publish_step(pod.environment) == EXIT_RETRYABLE
    failure = pod.failure()
    assert (failure.reason, failure.retryable) == (Reason.BUILD_INTERRUPTED, True)
    assert "outputs.json" in failure.message


@pytest.mark.parametrize(
    "outputs",
    [
        "",
        "{",
        '{"v":1,"packages":[]}',
        '{"v":1,"packages":[{"attribute":"hello","outputs":{"out":"/etc/passwd"}}]}',
        '{"v":1,"packages":[{"attribute":"hello","outputs":{"out":"/nix/store/../../etc"}}]}',
        f'{{"v":1,"packages":[{{"attribute":"other","outputs":{{"out":"{ABSENT}"}}}}]}}',
        "x" * (3 << 20),
    ],
)
def test_publish_believes_no_malformed_outputs(pod: Pod, bucket: Folder, outputs: str) -> None:
    (pod.work / "outputs.json").write_text(outputs)
    assert publish_step(pod.environment) == EXIT_RETRYABLE
    assert pod.failure().reason is Reason.RESULT_INVALID
    assert list(bucket.store.list("")) == []


def test_publish_needs_a_bucket(pod: Pod) -> None:
    assert publish_step(pod.environment | {"NIXIMAGE_BUCKET": ""}) == EXIT_RETRYABLE
    assert "NIXIMAGE_BUCKET" in pod.failure().message


def test_publish_waits_for_a_bucket_as_long_as_it_is_told(
    pod: Pod, monkeypatch: pytest.MonkeyPatch
) -> None:
    pod.build()
    with socket.socket() as nobody:  # bound, and not listening
        nobody.bind(("127.0.0.1", 0))
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{nobody.getsockname()[1]}")
        told = {"NIXIMAGE_BUCKET": "gs://images", "NIXIMAGE_BUCKET_PATIENCE": "0.5"}
        started = time.monotonic()
        assert publish_step(pod.environment | told) == EXIT_RETRYABLE
    assert time.monotonic() - started < 30, "half of the default"
    assert pod.failure().reason is Reason.BUCKET_UNAVAILABLE


def test_a_wrong_request_is_told(pod: Pod) -> None:
    assert build_step(pod.environment | {"NIXIMAGE_REQUEST": "{}"}) == EXIT_RETRYABLE
    assert "NIXIMAGE_REQUEST" in pod.failure().message


def test_a_bug_is_one_line_in_the_message_and_a_traceback_in_the_log(
    pod: Pod, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("division by zero")

    pod.build()
    monkeypatch.setattr("niximage.builder.steps.run_publish", broken)
    assert publish_step(pod.environment) == EXIT_INTERNAL
    failure = pod.failure()
    assert (failure.reason, failure.retryable) == (Reason.INTERNAL_ERROR, True)
    assert failure.message.startswith("a bug in the builder: ZeroDivisionError: division by zero")
    assert "Traceback" in capfd.readouterr().err


def test_a_volume_that_fails_is_no_bug(pod: Pod) -> None:
    (pod.work / "file").touch()
    work = pod.work / "file" / "below"
    assert build_step(pod.environment | {"NIXIMAGE_WORK": str(work)}) == EXIT_RETRYABLE
    failure = pod.failure()
    assert failure.reason is Reason.BUILD_INTERRUPTED
    assert f"{work}/roots: Not a directory" in failure.message


def test_a_message_that_cannot_be_left_does_not_hide_the_result(
    pod: Pod, capfd: pytest.CaptureFixture[str]
) -> None:
    pod.build()
    log = str(pod.work / "no" / "such" / "folder")
    assert publish_step(pod.environment | {"NIXIMAGE_TERMINATION_LOG": log}) == 0
    assert '"digest":"sha256:' in capfd.readouterr().err


def test_a_step_that_is_asked_to_stop_says_so_and_takes_its_builders_along(
    demo: Demo, bucket: Folder, tmp_path: Path
) -> None:
    pod = Pod(demo, bucket, tmp_path, "slow")
    program = (
        "import functools, sys; from niximage.builder import steps;"
        "steps.run_build = functools.partial(steps.run_build, allow_file=True);"
        "sys.exit(steps.build_step())"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        env={**os.environ, **pod.environment},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        for line in process.stdout:  # ends with the process, and pytest's time-out guards both
            if line.startswith("building slow"):
                break
        start = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == EXIT_RETRYABLE
        assert time.monotonic() - start < 5
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
    failure = pod.failure()
    assert (failure.reason, failure.retryable) == (Reason.BUILD_INTERRUPTED, True)


def test_publish_follows_no_link_that_build_left(pod: Pod, tmp_path: Path) -> None:
    """It would read, and perhaps quote, what only `publish` may see."""
    secret = tmp_path / "secret"
    secret.write_text('{"private_key": "s3cret"}')
    (pod.work / "outputs.json").symlink_to(secret)
    assert publish_step(pod.environment) == EXIT_RETRYABLE
    assert "s3cret" not in pod.termination_log.read_text()
    assert pod.failure().reason is Reason.BUILD_INTERRUPTED


def test_publish_waits_at_no_pipe_that_build_left(pod: Pod) -> None:
    os.mkfifo(pod.work / "outputs.json")
    start = time.monotonic()
    assert publish_step(pod.environment) == EXIT_RETRYABLE
    assert time.monotonic() - start < 5
    assert pod.failure().reason is Reason.RESULT_INVALID
