"""A package set on a volume before a real API server: built once per revision, or when forced."""

import json

from integration.controller.conftest import Operator
from support.kubernetes import eventually, nix_build_class, nix_image


def test_a_revision_is_built_once_and_again_when_that_is_asked_for(
    operator: Operator, namespace: str
) -> None:
    cluster = operator.cluster
    cluster.do("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted")
    source = {"volume": {"claimName": "packages", "path": "set"}}
    cluster.do("apply", "-f", "-", given=nix_image(namespace, source=source))
    first = operator.job(namespace)
    steps = [c["name"] for c in first["spec"]["template"]["spec"]["initContainers"]]
    assert steps == ["fetch", "build"]
    operator.end_job(first, code=0, message=json.dumps(operator.publish(first)))
    image = operator.image_with(namespace, "Ready", "True/Succeeded")
    assert image["status"]["source"]["ref"] == "PersistentVolumeClaim/packages"
    assert image["status"]["source"]["shortRevision"] == "0"
    # The content changed, and is still called the same: only who asks for it gets it built.
    cluster.do(
        *("annotate", "niximg", "web", "-n", namespace),
        *("reconcile.fluxcd.io/requestedAt=1", "reconcile.fluxcd.io/forceAt=1"),
    )
    second = operator.job(namespace, other_than=first["metadata"]["uid"])
    assert second["metadata"]["name"] == first["metadata"]["name"]
    result = operator.publish(second, content=b"another\n")
    operator.end_job(second, code=0, message=json.dumps(result))
    operator.image(namespace, lambda i: i["status"].get("digest") == result["digest"])
    source["volume"] = {**source["volume"], "revision": "1"}
    cluster.do("apply", "-f", "-", given=nix_image(namespace, source=source))
    third = operator.job(namespace, other_than=second["metadata"]["uid"])
    assert third["metadata"]["name"] != first["metadata"]["name"]


def test_a_claim_that_is_not_there_is_named_within_seconds(
    operator: Operator, namespace: str
) -> None:
    source = {"volume": {"claimName": "packages"}}
    operator.cluster.do("create", "-f", "-", given=nix_image(namespace, source=source))
    operator.job(namespace)
    there = lambda: operator.cluster.list("pods", namespace) or None  # noqa: E731 (one use)
    (pod,) = eventually("the Job's pod", there)
    condition = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",  # in the words of kube-scheduler 1.34
        "message": '0/1 nodes are available: persistentvolumeclaim "packages" not found. not found',
    }
    status = {"phase": "Pending", "conditions": [condition]}
    operator.cluster.set_status("pod", pod["metadata"]["name"], namespace, status)
    image = operator.image_with(namespace, "Reconciling", "True/PodPending")
    for kind in ("Ready", "Reconciling"):
        (told,) = (c for c in image["status"]["conditions"] if c["type"] == kind)
        assert 'persistentvolumeclaim "packages" not found' in told["message"]
        assert f"Create the claim packages in the namespace {namespace}" in told["message"]


def test_a_class_that_names_sources_allows_no_volume(operator: Operator, namespace: str) -> None:
    name = f"strict-{namespace}"
    allowed = nix_build_class(name, allowedSources=["https://git.example.org/"])
    operator.cluster.do("create", "-f", "-", given=allowed)
    try:
        source = {"volume": {"claimName": "packages"}}
        image = nix_image(namespace, source=source, build={"className": name})
        operator.cluster.do("create", "-f", "-", given=image)
        found = operator.image_with(namespace, "Stalled", "True/PolicyDenied")
        assert "none on volumes" in found["status"]["failure"]["message"]
    finally:
        operator.cluster.do("delete", "nixbuildclass", name)
