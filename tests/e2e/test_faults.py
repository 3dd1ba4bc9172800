"""What goes wrong on a real node, and how the user learns of it."""

import json

import pytest

from e2e.conftest import Node
from support.kubernetes import Json, conditions, eventually, nix_image


def failed(node: Node, namespace: str, reason: str, *packages: str) -> Json:
    """The failure of an image of these packages, which stalls for the reason."""
    node.apply(nix_image(namespace, packages=list(packages)))
    image = node.image_with(namespace, "Stalled", f"True/{reason}")
    assert conditions(image)["Ready"] == f"False/{reason}"
    assert "Reconciling" not in conditions(image)
    failure: Json = image["status"]["failure"]
    return failure


def test_all_unknown_packages_are_named_with_near_names(node: Node, namespace: str) -> None:
    failure = failed(node, namespace, "PackageNotFound", "helo", "hello", "tools.uper", "nothing")
    for words in (
        "helo: there is no",
        "near names: hello",
        "tools.uper",
        "near names: tools.upper",
        "nothing",
    ):
        assert words in failure["message"]


def test_an_evaluation_that_throws_stalls_with_its_message(node: Node, namespace: str) -> None:
    failure = failed(node, namespace, "EvaluationFailed", "throws")
    assert "throws" in failure["message"]


def test_an_unfree_package_is_told_apart(node: Node, namespace: str) -> None:
    failure = failed(node, namespace, "UnfreeOrInsecure", "unfree-tool")
    assert "unfree-tool" in failure["message"]


def test_a_build_that_fails_gives_derivation_and_log(node: Node, namespace: str) -> None:
    failure = failed(node, namespace, "BuildFailed", "broken-build")
    assert failure["derivation"].startswith("/nix/store/")
    assert failure["derivation"].endswith(".drv")
    assert failure["logTail"].strip()


def test_an_image_deleted_during_its_build_takes_job_and_pod_with_it(
    node: Node, namespace: str
) -> None:
    node.building(namespace)
    node.cluster.do("delete", "niximage", "web", "-n", namespace)

    def gone() -> bool:
        return not node.cluster.list("jobs", namespace) + node.cluster.list("pods", namespace)

    eventually("Job and pod are gone", gone, within=60)


def test_a_bucket_that_goes_away_during_a_build_is_waited_for(node: Node, namespace: str) -> None:
    node.building(namespace, build={"retry": {"minBackoff": "1s"}})
    scale = ("scale", "deploy/bucket", "-n", "niximage-demo")
    try:
        node.cluster.do(*scale, "--replicas=0")
        image = node.image_with(namespace, "Ready", "False/BucketUnavailable")
        assert conditions(image)["Reconciling"] == "True/ProgressingWithRetry"
        assert "bucket" in json.dumps(image["status"]["failure"]).lower()
    finally:
        node.cluster.do(*scale, "--replicas=1")
        node.cluster.do("rollout", "status", "deploy/bucket", "-n", "niximage-demo")
    node.ready(namespace)


@pytest.mark.parametrize("package", ["hello; builtins.abort", '"${x}"'])
def test_a_package_name_with_nix_code_is_refused(node: Node, namespace: str, package: str) -> None:
    done = node.cluster.run("apply", "-f", "-", given=nix_image(namespace, packages=[package]))
    assert done.returncode != 0
    assert "spec.packages[0]" in done.stderr
