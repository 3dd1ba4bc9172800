"""Classes, requests, caps and digests, by the operator as a process on a real API server."""

import json
from collections.abc import Iterator

import pytest

from integration.controller.conftest import Operator
from niximage.api.build import BuildFailure
from niximage.api.image import FORCE_AT, REQUESTED_AT
from niximage.bucket import open_store
from niximage.bucket.images import resolve_tag
from niximage.errors import Reason, Retryable
from support.kubernetes import Cluster, conditions, eventually, nix_build_class, nix_image


def interrupted() -> str:
    error = Retryable(Reason.BUILD_INTERRUPTED, "the node went away")
    return BuildFailure.from_error(error).to_message().decode()


def annotate(cluster: Cluster, namespace: str, *tokens: str) -> None:
    cluster.do("annotate", "--overwrite", "niximage", "web", "-n", namespace, *tokens)


@pytest.fixture
def small(cluster: Cluster) -> Iterator[str]:
    """A class that is gone after the test."""
    yield "small"
    cluster.do("delete", "nixbuildclass", "small", "--ignore-not-found")


def test_a_class_is_waited_for_and_then_shapes_the_job(
    operator: Operator, namespace: str, small: str
) -> None:
    image = nix_image(namespace, build={"className": small})
    operator.cluster.do("create", "-f", "-", given=image)
    waiting = operator.image_with(namespace, "Reconciling", "True/WaitingForClass")
    assert "NixBuildClass small: there is none" in json.dumps(waiting["status"]["conditions"])
    shape = nix_build_class(small, builderImage="builder:small", nodeSelector={"pool": "builds"})
    operator.cluster.do("create", "-f", "-", given=shape)
    pod = operator.job(namespace)["spec"]["template"]["spec"]
    assert pod["containers"][0]["image"] == "builder:small"
    assert pod["nodeSelector"] == {"pool": "builds"}


def test_a_class_that_changes_stalls_what_it_no_longer_allows_and_lets_it_go_again(
    operator: Operator, namespace: str, small: str
) -> None:
    strict = nix_build_class(small, maxTimeout="10m")
    operator.cluster.do("create", "-f", "-", given=strict)
    image = nix_image(namespace, build={"className": small})
    operator.cluster.do("create", "-f", "-", given=image)
    stalled = operator.image_with(namespace, "Stalled", "True/PolicyDenied")
    assert "allows at most 10m" in json.dumps(stalled["status"]["conditions"])
    assert operator.cluster.list("jobs", namespace) == []
    operator.cluster.do("apply", "-f", "-", given=nix_build_class(small, maxTimeout="2h"))
    operator.image_with(namespace, "Reconciling", "True/Building")


@pytest.mark.parametrize(
    ("terms", "words"),
    [
        ("near", "cannot unmarshal string"),
        ({"nodeSelectorTerms": [{"matchExpressions": [{"key": "a", "operator": "~"}]}]}, "not a"),
    ],
)
def test_affinity_that_no_pod_can_have_stalls_with_the_words_of_the_api_server(
    operator: Operator, namespace: str, terms: object, words: str
) -> None:
    affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}
    image = nix_image(namespace, build={"affinity": affinity})
    operator.cluster.do("create", "-f", "-", given=image)
    stalled = operator.image_with(namespace, "Stalled", "True/InvalidSpec")
    told = json.dumps(stalled["status"]["conditions"])
    assert "the build's Job is refused" in told
    assert words in told
    assert "Change what spec.build" in told


def test_a_request_sees_a_moved_source_at_once(operator: Operator, namespace: str) -> None:
    operator.cluster.do("create", "-f", "-", given=nix_image(namespace, interval="24h"))
    job = operator.job(namespace)
    operator.end_job(job, code=0, message=json.dumps(operator.publish(job)))
    operator.image_with(namespace, "Ready", "True/Succeeded")
    operator.git.commit("second")
    annotate(operator.cluster, namespace, f"{REQUESTED_AT}=one")
    operator.job(namespace, other_than=job["metadata"]["uid"])
    image = operator.image_with(namespace, "Outdated", "True/NewRevision")
    assert image["status"]["lastHandledReconcileAt"] == "one"
    assert conditions(image)["Ready"] == "True/Succeeded"


def test_force_builds_again_what_is_there(operator: Operator, namespace: str) -> None:
    operator.cluster.do("create", "-f", "-", given=nix_image(namespace))
    first = operator.job(namespace)
    operator.end_job(first, code=0, message=json.dumps(operator.publish(first)))
    operator.image_with(namespace, "Ready", "True/Succeeded")
    annotate(operator.cluster, namespace, f"{REQUESTED_AT}=x", f"{FORCE_AT}=x")
    second = operator.job(namespace, other_than=first["metadata"]["uid"])
    assert second["metadata"]["name"] == first["metadata"]["name"]
    operator.end_job(second, code=0, message=json.dumps(operator.publish(second)))

    def told_both(image: dict[str, object]) -> bool:
        status = image["status"]
        assert isinstance(status, dict)
        return len(status.get("history", [])) == 2 and "currentBuild" not in status

    image = operator.image(namespace, told_both)
    assert image["status"]["lastHandledForceAt"] == "x"
    assert conditions(image)["Ready"] == "True/Succeeded"


def test_another_digest_than_the_expected_one_stalls(operator: Operator, namespace: str) -> None:
    expected = {"expectedDigest": f"sha256:{'e' * 64}"}
    operator.cluster.do("create", "-f", "-", given=nix_image(namespace, output=expected))
    job = operator.job(namespace)
    result = operator.publish(job)
    operator.end_job(job, code=0, message=json.dumps(result))
    image = operator.image_with(namespace, "Stalled", "True/DigestMismatch")
    assert "image" not in image["status"]
    expected = {"expectedDigest": result["digest"]}
    operator.cluster.do("apply", "-f", "-", given=nix_image(namespace, output=expected))
    image = operator.image_with(namespace, "Ready", "True/Succeeded")
    assert image["status"]["digest"] == result["digest"]


def test_builds_are_given_up_after_their_limit(operator: Operator, namespace: str) -> None:
    build = {"retry": {"limit": 1, "minBackoff": "1s"}}
    operator.cluster.do("create", "-f", "-", given=nix_image(namespace, build=build))
    first = operator.job(namespace)
    operator.end_job(first, code=75, message=interrupted())
    second = operator.job(namespace, other_than=first["metadata"]["uid"])
    operator.end_job(second, code=75, message=interrupted())
    image = operator.image_with(namespace, "Stalled", "True/BuildInterrupted")
    assert [build["result"] for build in image["status"]["history"]] == ["Failed", "Failed"]
    annotate(operator.cluster, namespace, f"{REQUESTED_AT}=again")
    third = operator.job(namespace, other_than=second["metadata"]["uid"])
    assert third["metadata"]["annotations"]["niximage.dev/attempt"] == "3"


def test_caps_hold_and_the_next_starts_when_one_ends(operator: Operator, namespace: str) -> None:
    operator.stop()
    operator.environment["NIXIMAGE_MAX_BUILDS_PER_NAMESPACE"] = "1"
    operator.start()
    names = ["one", "two"]
    for name in names:
        image = nix_image(namespace, name, packages=[name])
        operator.cluster.do("create", "-f", "-", given=image)

    def states() -> dict[str, str]:
        images = [operator.cluster.get("niximage", name, namespace) for name in names]
        return {n: conditions(i).get("Reconciling", "") for n, i in zip(names, images, strict=True)}

    def one_waits() -> dict[str, str] | None:
        found = states()
        return found if sorted(found.values()) == ["True/Building", "True/Queued"] else None

    found = eventually("one builds and one waits", one_waits, log=operator.log)
    (queued,) = [name for name, state in found.items() if state == "True/Queued"]
    jobs = operator.cluster.list("jobs", namespace)
    assert len(jobs) == 1
    operator.end_job(jobs[0], code=0, message=json.dumps(operator.publish(jobs[0])))
    started = lambda: states()[queued] == "True/Building"  # noqa: E731 (one use)
    eventually("the other starts", started, log=operator.log)


def test_equal_images_of_one_namespace_build_once(operator: Operator, namespace: str) -> None:
    for name in ("web", "shop"):
        operator.cluster.do("create", "-f", "-", given=nix_image(namespace, name))
    job = operator.job(namespace)
    other = "shop" if job["metadata"]["labels"]["niximage.dev/image"] == "web" else "web"
    operator.image(namespace, lambda i: conditions(i).get("Reconciling") == "True/Queued", other)
    operator.end_job(job, code=0, message=json.dumps(operator.publish(job)))
    shared = operator.image(
        namespace, lambda i: conditions(i).get("Ready") == "True/Succeeded", other
    )
    assert shared["status"]["image"].partition("@")[0].endswith(f"{namespace}/{other}")
    assert len(operator.cluster.list("jobs", namespace)) == 1


def test_events_tell_of_each_transition_once(operator: Operator, namespace: str) -> None:
    operator.cluster.do("create", "-f", "-", given=nix_image(namespace))
    job = operator.job(namespace)
    operator.end_job(job, code=0, message=json.dumps(operator.publish(job)))
    operator.image_with(namespace, "Ready", "True/Succeeded")
    reasons = ["BuildStarted", "ImagePublished"]

    def told() -> list[str]:
        events = operator.cluster.list("events.events.k8s.io", namespace)
        return sorted(e["reason"] for e in events if e["regarding"]["kind"] == "NixImage")

    eventually("all Events", lambda: told() == reasons, log=operator.log)
    operator.stop()
    operator.start()
    operator.cluster.do("create", "-f", "-", given=nix_image(namespace, "later"))
    operator.image(namespace, lambda i: conditions(i).get("Ready") == "True/Succeeded", "later")
    described = operator.cluster.do("describe", "niximage", "web", "-n", namespace)
    assert described.count("ImagePublished") == 1


def test_tags_name_the_image_that_the_status_tells(operator: Operator, namespace: str) -> None:
    image = nix_image(namespace, output={"tags": ["stable"]})
    operator.cluster.do("create", "-f", "-", given=image)
    job = operator.job(namespace)
    result = operator.publish(job)
    operator.end_job(job, code=0, message=json.dumps(result))
    operator.image_with(namespace, "Ready", "True/Succeeded")
    store = open_store(operator.bucket)
    try:
        assert resolve_tag(store, f"{namespace}/web", "stable") == result["digest"]
    finally:
        store.close()
