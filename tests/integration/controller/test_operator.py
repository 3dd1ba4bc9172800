"""The operator as a process, against a real API server, Git server and bucket.

There is no node: the tests do what a kubelet would do, and everything else is real.
"""

import json
import statistics
import time
from collections.abc import Callable

import pytest

from integration.controller.conftest import Operator
from niximage.api.build import BuildFailure
from niximage.controller.job_view import IMAGE_LABEL
from niximage.errors import Reason, Retryable, Terminal
from support.kubernetes import Cluster, Json, conditions, eventually, nix_image


def test_from_apply_to_ready(operator: Operator, namespace: str) -> None:
    operator.cluster.do("create", "-f", "-", given=nix_image(namespace))
    building = operator.image_with(namespace, "Reconciling", "True/Building")
    assert conditions(building)["Ready"] == "Unknown/Progressing"
    job = operator.job(namespace)
    owner = job["metadata"]["ownerReferences"][0]
    assert (owner["kind"], owner["uid"]) == ("NixImage", building["metadata"]["uid"])
    assert building["status"]["currentBuild"]["jobName"] == job["metadata"]["name"]

    result = operator.publish(job)
    operator.end_job(job, code=0, message=json.dumps(result))
    image = operator.image_with(namespace, "Ready", "True/Succeeded")
    assert image["status"]["image"] == f"127.0.0.1:5000/{namespace}/web@{result['digest']}"
    assert image["status"]["observedGeneration"] == image["metadata"]["generation"]
    assert "Reconciling" not in conditions(image)
    assert "currentBuild" not in image["status"]
    wait = ("wait", "--for=condition=Ready", "niximg/web", "-n", namespace, "--timeout=5s")
    operator.cluster.do(*wait)


def test_a_restart_writes_nothing(operator: Operator, namespace: str) -> None:
    operator.cluster.do("create", "-f", "-", given=nix_image(namespace))
    job = operator.job(namespace)
    operator.end_job(job, code=0, message=json.dumps(operator.publish(job)))
    before = operator.image_with(namespace, "Ready", "True/Succeeded")
    assert operator.stop() == 0
    operator.start()
    # A later change proves that the operator has looked at everything once more.
    operator.cluster.do(
        "create", "-f", "-", given=nix_image(namespace, "later", packages=["other"])
    )
    operator.image(namespace, lambda i: conditions(i).get("Reconciling"), "later")
    after = operator.cluster.get("niximage", "web", namespace)
    assert after is not None
    assert after["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]


def test_what_was_built_before_needs_no_job(operator: Operator, namespace: str) -> None:
    operator.cluster.do("create", "-f", "-", given=nix_image(namespace))
    job = operator.job(namespace)
    operator.end_job(job, code=0, message=json.dumps(operator.publish(job)))
    operator.image_with(namespace, "Ready", "True/Succeeded")
    operator.cluster.do("delete", "niximage", "web", "-n", namespace)
    gone = lambda: not operator.cluster.list("jobs", namespace)  # noqa: E731 (one use)
    eventually("the Job goes with its image", gone)
    operator.cluster.do("create", "-f", "-", given=nix_image(namespace))
    operator.image_with(namespace, "Ready", "True/Succeeded")
    assert operator.cluster.list("jobs", namespace) == []


def test_known_inputs_under_new_names_are_ready_within_a_second(
    operator: Operator, namespace: str
) -> None:
    operator.cluster.do("create", "-f", "-", given=nix_image(namespace))
    job = operator.job(namespace)
    operator.end_job(job, code=0, message=json.dumps(operator.publish(job)))
    digest = operator.image_with(namespace, "Ready", "True/Succeeded")["status"]["digest"]
    seconds = []
    for name in (f"again-{i}" for i in range(20)):
        start = time.monotonic()
        operator.cluster.do("create", "-f", "-", given=nix_image(namespace, name))
        wait = ("wait", "--for=condition=Ready", f"niximg/{name}", "-n", namespace)
        operator.cluster.do(*wait, "--timeout=20s")
        seconds.append(time.monotonic() - start)
        image = operator.cluster.get("niximage", name, namespace)
        assert image is not None
        assert image["status"]["image"] == f"127.0.0.1:5000/{namespace}/{name}@{digest}"
    assert statistics.median(seconds) < 1.0, seconds
    jobs = [found["metadata"]["name"] for found in operator.cluster.list("jobs", namespace)]
    assert jobs == [job["metadata"]["name"]]


def test_an_operator_killed_during_a_build_goes_on_with_the_same_job(
    operator: Operator, namespace: str
) -> None:
    operator.cluster.do("create", "-f", "-", given=nix_image(namespace))
    job = operator.job(namespace)
    operator.kill()
    operator.end_job(job, code=0, message=json.dumps(operator.publish(job)))
    operator.start()
    operator.image_with(namespace, "Ready", "True/Succeeded")
    assert [j["metadata"]["uid"] for j in operator.cluster.list("jobs", namespace)] == [
        job["metadata"]["uid"]
    ]


def test_a_job_deleted_by_hand_is_made_anew(operator: Operator, namespace: str) -> None:
    operator.cluster.do("create", "-f", "-", given=nix_image(namespace))
    job = operator.job(namespace)
    operator.cluster.do("delete", "job", job["metadata"]["name"], "-n", namespace)
    second = operator.job(namespace, other_than=job["metadata"]["uid"])
    assert second["metadata"]["name"] == job["metadata"]["name"]
    operator.end_job(second, code=0, message=json.dumps(operator.publish(second)))
    operator.image_with(namespace, "Ready", "True/Succeeded")


def test_an_image_deleted_during_its_build_takes_the_job_with_it(
    operator: Operator, namespace: str
) -> None:
    operator.cluster.do("create", "-f", "-", given=nix_image(namespace))
    operator.job(namespace)
    operator.cluster.do("delete", "niximage", "web", "-n", namespace, "--wait=true")
    gone = lambda: not operator.cluster.list("jobs", namespace)  # noqa: E731 (one use)
    # Kubernetes' garbage collector looks for new kinds each 30 seconds.
    eventually("the Job is gone", gone, within=90)


def test_an_image_recreated_during_its_build_gets_a_job_of_its_own(
    operator: Operator, namespace: str
) -> None:
    operator.cluster.do("create", "-f", "-", given=nix_image(namespace))
    first = operator.job(namespace)
    operator.cluster.do("delete", "niximage", "web", "-n", namespace, "--wait=true")
    operator.cluster.do("create", "-f", "-", given=nix_image(namespace))
    second = operator.job(namespace, other_than=first["metadata"]["uid"])
    image = operator.cluster.get("niximage", "web", namespace)
    assert image is not None
    assert second["metadata"]["ownerReferences"][0]["uid"] == image["metadata"]["uid"]


def test_an_unreachable_git_server_is_waited_for(operator: Operator, namespace: str) -> None:
    operator.git.stop()
    operator.cluster.do("create", "-f", "-", given=nix_image(namespace))
    image = operator.image_with(namespace, "Reconciling", "True/ProgressingWithRetry")
    assert conditions(image)["Ready"] == "False/SourceUnavailable"
    assert operator.git.url in image["status"]["failure"]["message"]
    operator.image(namespace, lambda i: i["status"]["failure"]["attempts"] >= 2)
    operator.git.start()
    operator.image_with(namespace, "Reconciling", "True/Building")


def test_a_channel_that_is_not_there_stalls(operator: Operator, namespace: str) -> None:
    source = {"nixpkgs": {"channel": "nixos-99.99"}}
    operator.cluster.do("create", "-f", "-", given=nix_image(namespace, source=source))
    image = operator.image_with(namespace, "Stalled", "True/ReferenceNotFound")
    assert "nixos-99.99" in image["status"]["failure"]["message"]


def test_a_bucket_that_does_not_answer_is_waited_for(operator: Operator, namespace: str) -> None:
    operator.stop()
    operator.bucket, good = "gs://images", operator.bucket
    operator.environment["STORAGE_EMULATOR_HOST"] = "http://127.0.0.1:1"
    operator.start()
    operator.cluster.do("create", "-f", "-", given=nix_image(namespace))
    image = operator.image(
        namespace, lambda i: conditions(i).get("Ready") == "False/BucketUnavailable"
    )
    assert conditions(image)["Reconciling"] == "True/ProgressingWithRetry"
    assert operator.cluster.list("jobs", namespace) == []
    operator.stop()
    operator.bucket = good
    operator.start()
    operator.image_with(namespace, "Reconciling", "True/Building")


def test_a_failed_build_stalls_with_what_its_pod_said(operator: Operator, namespace: str) -> None:
    operator.cluster.do("create", "-f", "-", given=nix_image(namespace))
    error = Terminal(
        Reason.PACKAGE_NOT_FOUND, "there is no package helo", hint="Did you mean hello?"
    )
    message = BuildFailure.from_error(error).to_message().decode()
    operator.end_job(operator.job(namespace), code=65, message=message, step="build")
    image = operator.image_with(namespace, "Stalled", "True/PackageNotFound")
    assert "Did you mean hello?" in image["status"]["failure"]["message"]
    assert "Reconciling" not in conditions(image)


def failed_for(reason: str) -> Callable[[Json], bool]:
    """Whether the last build failed so; said even while the next one is under way."""
    return lambda image: image["status"].get("failure", {}).get("reason") == reason


def test_an_interrupted_build_is_repeated(operator: Operator, namespace: str) -> None:
    operator.cluster.do("create", "-f", "-", given=nix_image(namespace))
    first = operator.job(namespace)
    message = (
        BuildFailure.from_error(Retryable(Reason.BUCKET_UNAVAILABLE, "gs://images answers 503"))
        .to_message()
        .decode()
    )
    operator.end_job(first, code=75, message=message)
    operator.image(namespace, failed_for("BucketUnavailable"))
    second = operator.job(namespace, other_than=first["metadata"]["uid"])
    assert second["metadata"]["annotations"]["niximage.dev/attempt"] == "2"
    operator.end_job(second, code=0, message=json.dumps(operator.publish(second)))
    operator.image_with(namespace, "Ready", "True/Succeeded")


@pytest.mark.parametrize("message", ["", "{}", "x" * 4000])
def test_a_result_that_cannot_be_read_is_not_believed(
    operator: Operator, namespace: str, message: str
) -> None:
    operator.cluster.do("create", "-f", "-", given=nix_image(namespace))
    operator.end_job(operator.job(namespace), code=0, message=message)
    image = operator.image(namespace, failed_for("ResultInvalid"))
    assert "image" not in image["status"]


def test_a_spec_that_changes_during_a_build_replaces_it(operator: Operator, namespace: str) -> None:
    operator.cluster.do("apply", "-f", "-", given=nix_image(namespace))
    first = operator.job(namespace)
    operator.cluster.do("apply", "-f", "-", given=nix_image(namespace, packages=["jq"]))
    operator.job(namespace, other_than=first["metadata"]["uid"])

    def only_one() -> bool:
        return [j["metadata"]["uid"] for j in operator.cluster.list("jobs", namespace)].count(
            first["metadata"]["uid"]
        ) == 0

    eventually("the superseded Job is gone", only_one)


def test_build_pods_pass_the_restricted_profile(operator: Operator, namespace: str) -> None:
    enforce = "pod-security.kubernetes.io/enforce=restricted"
    operator.cluster.do("label", "namespace", namespace, enforce)
    operator.cluster.do("create", "-f", "-", given=nix_image(namespace))
    operator.job(namespace)
    eventually("a pod was admitted", lambda: operator.cluster.list("pods", namespace))


def job_of(operator: Operator, namespace: str, image: str) -> Json:
    """The Job of one image among several."""

    def look() -> Json | None:
        jobs = operator.cluster.list("jobs", namespace)
        return next((j for j in jobs if j["metadata"]["labels"][IMAGE_LABEL] == image), None)

    return eventually("a Job", look, log=operator.log)


def test_an_image_of_another_namespace_is_never_taken_for_ones_own(
    operator: Operator, namespace: str, cluster: Cluster
) -> None:
    """A forged result names it by digest, and a forged repository by its whole name."""
    victim = f"{namespace}-victim"
    cluster.do("create", "namespace", victim)
    try:
        cluster.do("create", "-f", "-", given=nix_image(victim))
        job = operator.job(victim)
        secret = operator.publish(job, content=b"secret\n")
        operator.end_job(job, code=0, message=json.dumps(secret))
        digest = operator.image_with(victim, "Ready", "True/Succeeded")["status"]["digest"]
        for number, repository in enumerate((f"{namespace}/web", f"{victim}/web")):
            name = ("web", "other")[number]
            cluster.do(
                "create", "-f", "-", given=nix_image(namespace, name, packages=[f"p{number}"])
            )
            mine = job_of(operator, namespace, name)
            inputs = mine["metadata"]["annotations"]["niximage.dev/input-hash"]
            forged = {**secret, "inputHash": inputs, "repository": repository}
            operator.end_job(mine, code=0, message=json.dumps(forged))
            refused = operator.image(
                namespace, lambda i: i["status"].get("failure", {}).get("reason"), name
            )
            assert refused["status"]["failure"]["reason"] == Reason.RESULT_INVALID
            assert digest not in json.dumps(refused["status"].get("image", ""))
            assert conditions(refused)["Ready"] == f"False/{Reason.RESULT_INVALID}"
    finally:
        cluster.do("delete", "niximages", "--all", "-n", victim)
        cluster.do("delete", "namespace", victim, "--wait=false")
