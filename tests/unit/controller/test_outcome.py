"""What a finished pod says, and what it must not be able to say."""

import json
from typing import Any

import pytest

from niximage.api.build import BuildFailure, PublishResult
from niximage.controller.builds.outcome import outcome
from niximage.controller.job_view import JobState
from niximage.controller.views import Absent
from niximage.errors import NO_FAILURES, NixImageError, Reason, Retryable, Terminal
from unit.controller.states import DIGEST, inputs, job, nix_image, result

IMAGE = nix_image()
FAILED = job(IMAGE, JobState.FAILED, failed_for="BackoffLimitExceeded")
SUCCEEDED = job(IMAGE, JobState.SUCCEEDED)


def pod(*, build: dict[str, Any] | None, publish: dict[str, Any] | None = None) -> dict[str, Any]:
    def statuses(name: str, ended: dict[str, Any] | None) -> list[dict[str, Any]]:
        state = {"terminated": ended} if ended is not None else {"waiting": {}}
        return [{"name": name, "state": state}]

    return {
        "metadata": {"name": "web-x", "creationTimestamp": "2026-05-04T12:00:00Z"},
        "status": {
            "initContainerStatuses": statuses("build", build),
            "containerStatuses": statuses("publish", publish),
        },
    }


def ended(code: int, message: str = "", reason: str = "Error") -> dict[str, Any]:
    return {"exitCode": code, "message": message, "reason": reason}


def failure(error: NixImageError) -> str:
    return BuildFailure.from_error(error).to_message().decode()


def error_of(*pods: dict[str, Any]) -> NixImageError:
    said = outcome(FAILED, list(pods))
    assert isinstance(said, NixImageError)
    return said


def test_a_result_is_read() -> None:
    message = result(IMAGE).to_message().decode()
    said = outcome(SUCCEEDED, [pod(build=ended(0), publish=ended(0, message))])
    assert isinstance(said, PublishResult)
    assert said.digest == DIGEST


def test_a_succeeded_job_without_its_pod_leaves_the_word_to_the_bucket() -> None:
    assert outcome(SUCCEEDED, []) is Absent.ABSENT


@pytest.mark.parametrize(
    "message",
    [
        "",
        "done",
        "{}",
        "[]",
        '{"v":1',
        json.dumps({**result(IMAGE).to_json(), "extra": 1}),
        json.dumps({**result(IMAGE).to_json(), "digest": "sha256:short"}),
        json.dumps({**result(IMAGE).to_json(), "layers": -1}),
        json.dumps({**result(IMAGE).to_json(), "v": 2}),
        "x" * 4096,
    ],
)
def test_a_malformed_result_is_refused_and_the_build_repeated(message: str) -> None:
    said = outcome(SUCCEEDED, [pod(build=ended(0), publish=ended(0, message))])
    assert isinstance(said, Retryable)
    assert said.reason is Reason.RESULT_INVALID


def test_the_result_of_other_inputs_is_refused() -> None:
    other = result(IMAGE).model_copy(update={"input_hash": "f" * 64}).to_message().decode()
    said = outcome(SUCCEEDED, [pod(build=ended(0), publish=ended(0, other))])
    assert isinstance(said, Retryable)
    assert said.reason is Reason.RESULT_INVALID


def test_a_failure_keeps_reason_derivation_and_log() -> None:
    error = Terminal(
        Reason.BUILD_FAILED, "hello failed", derivation="/nix/store/x.drv", log_tail="oops"
    )
    said = error_of(pod(build=ended(65, failure(error))))
    assert isinstance(said, Terminal)
    assert (said.reason, said.derivation, said.log_tail) == (
        Reason.BUILD_FAILED,
        "/nix/store/x.drv",
        "oops",
    )


def test_a_retryable_failure_of_publish_is_retryable() -> None:
    error = Retryable(Reason.BUCKET_UNAVAILABLE, "gs://images answers 503")
    said = error_of(pod(build=ended(0), publish=ended(75, failure(error))))
    assert isinstance(said, Retryable)
    assert said.reason is Reason.BUCKET_UNAVAILABLE


def test_control_characters_of_a_tenants_log_are_stripped() -> None:
    error = Terminal(Reason.BUILD_FAILED, "\x1b[31mred\x1b[0m", log_tail="a\x07b\x1b]0;title\x07c")
    raw = BuildFailure(reason=error.reason, message=error.message, log_tail=error.log_tail)
    said = error_of(pod(build=ended(65, raw.to_message().decode())))
    assert said.message == "red"
    assert said.log_tail == "abc"


def test_the_longest_failure_fits_a_termination_message() -> None:
    error = Terminal(
        Reason.EVALUATION_FAILED,
        '"\n' * 5000,
        hint='"' * 500,
        derivation="/nix/store/" + '"' * 400,
        log_tail='\\"\n' * 9000 + "the end",
    )
    message = BuildFailure.from_error(error).to_message()
    assert len(message) <= 3072
    assert BuildFailure.model_validate_json(message).log_tail.endswith("the end")


@pytest.mark.parametrize("ending", [ended(137), ended(1, reason="OOMKilled")])
def test_out_of_memory_is_told_apart(ending: dict[str, Any]) -> None:
    said = error_of(pod(build=ending))
    assert said.reason is Reason.OUT_OF_MEMORY
    assert said.hint.startswith("Raise spec.build.resources.limits.memory")


def test_a_deadline_is_a_timeout() -> None:
    late = job(IMAGE, JobState.FAILED, failed_for="DeadlineExceeded")
    said = outcome(late, [])
    assert isinstance(said, Terminal)
    assert said.reason is Reason.BUILD_TIMEOUT


def test_a_step_that_died_wordless_points_to_its_log() -> None:
    said = error_of(pod(build=ended(1)))
    assert isinstance(said, Retryable)
    assert said.reason is Reason.BUILD_INTERRUPTED
    assert "kubectl logs -n team-a web-x -c build" in said.message


def test_a_pod_that_is_gone_is_an_interruption() -> None:
    assert error_of().reason is Reason.BUILD_INTERRUPTED


def test_the_newest_pod_counts() -> None:
    old = pod(build=ended(65, failure(Terminal(Reason.BUILD_FAILED, "old"))))
    new = pod(build=ended(65, failure(Terminal(Reason.BUILD_FAILED, "new"))))
    new["metadata"]["creationTimestamp"] = "2026-05-04T12:05:00Z"
    assert error_of(new, old).message == "new"


def test_inputs_are_told_apart_from_their_revisions() -> None:
    assert inputs(IMAGE, "a" * 40) != inputs(IMAGE, "b" * 40)


def test_a_build_step_that_claims_a_result_is_not_heard() -> None:
    """Only `publish` has a say, and what it left empty `build` cannot fill."""
    message = result(IMAGE).to_message().decode()
    said = outcome(SUCCEEDED, [pod(build=ended(0, message), publish=ended(0))])
    assert isinstance(said, Retryable)
    assert said.reason is Reason.RESULT_INVALID
    assert error_of(pod(build=ended(1, message))).reason is Reason.BUILD_INTERRUPTED


@pytest.mark.parametrize("reason", sorted(NO_FAILURES))
def test_a_failure_cannot_call_itself_something_good(reason: Reason) -> None:
    message = BuildFailure(reason=reason, message="all is well").to_message().decode()
    assert error_of(pod(build=ended(65, message))).reason is Reason.BUILD_INTERRUPTED


def test_a_build_that_fills_the_disk_is_told_which_and_not_repeated() -> None:
    """The kubelet's own words; the steps only say that they were killed."""
    evicted = pod(build=ended(137))
    words = 'Usage of EmptyDir volume "nix" exceeds the limit "20Gi". '
    evicted["status"] |= {"reason": "Evicted", "message": words}
    error = error_of(evicted)
    assert isinstance(error, Terminal)
    assert error.reason is Reason.OUT_OF_DISK
    assert words.strip() in error.message
    assert error.hint.endswith("for a NixBuildClass with a larger store")
    words = "Pod ephemeral local storage usage exceeds the total limit of containers 300Mi. "
    evicted["status"]["message"] = words
    assert error_of(evicted).hint.startswith("Raise spec.build.resources.limits.ephemeral-storage")
    evicted["status"]["message"] = (
        "The node was low on resource: ephemeral-storage. Container build was using 5Gi, which "
        "exceeds its request of 0. "
    )
    assert error_of(evicted).reason is not Reason.OUT_OF_DISK


def test_a_source_that_could_not_be_fetched_is_why_it_failed() -> None:
    error = Retryable(Reason.AUTHENTICATION_FAILED, "it does not open with the Secret keys")
    fetch = {"name": "fetch", "state": {"terminated": ended(75, failure(error))}}
    found = pod(build=None)
    found["status"]["initContainerStatuses"].insert(0, fetch)
    said = error_of(found)
    assert isinstance(said, Retryable)
    assert (said.reason, said.message) == (error.reason, error.message)
