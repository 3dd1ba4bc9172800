"""What scheduler and kubelet do to the pods of builds: what users read of it, and what heals it.

The time of a stuck build runs out while the other tests go on.
"""

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from e2e.conftest import Node
from support.kubernetes import Json, conditions, eventually, nix_image

OPERATOR = ("deploy/niximage-operator", "-n", "niximage-system")
IMAGE = "NIXIMAGE_BUILDER_IMAGE"
NOWHERE: Json = {"nodeSelector": {"disk": "ssd"}, "retry": {"limit": 0}}
# Who is to go at once where its node is lost; others stay for five minutes.
HASTY: Json = {
    "tolerations": [
        {
            "key": "node.kubernetes.io/unreachable",
            "operator": "Exists",
            "effect": "NoExecute",
            "tolerationSeconds": 0,
        }
    ]
}


def message(image: Json, kind: str = "Ready") -> str:
    """What a condition says."""
    (found,) = (c for c in image["status"]["conditions"] if c["type"] == kind)
    return str(found["message"])


def set_builder(node: Node, image: str) -> None:
    """Have the operator run another image in build pods."""
    node.cluster.do("set", "env", *OPERATOR, f"{IMAGE}={image}")
    node.cluster.do("rollout", "status", *OPERATOR, "--timeout=50s")


@contextmanager
def missing_builder(node: Node) -> Iterator[None]:
    """Meanwhile the operator names an image that is nowhere."""
    deployment = node.cluster.get("deployment", "niximage-operator", "niximage-system")
    assert deployment is not None
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    (image,) = (each["value"] for each in container["env"] if each["name"] == IMAGE)
    set_builder(node, f"{image}-of-another-day")
    try:
        yield
    finally:
        set_builder(node, image)


def test_an_image_that_cannot_be_pulled_is_told_and_the_right_one_is_taken_at_once(
    node: Node, namespace: str
) -> None:
    with missing_builder(node):
        node.apply(nix_image(namespace))
        image = node.image_with(namespace, "Ready", "Unknown/PodPending", within=60)
        assert conditions(image)["Reconciling"] == "True/PodPending"
        assert "of-another-day" in message(image)
        assert "PodPending" in node.cluster.do("get", "niximg", "-n", namespace)
    node.ready(namespace)


@pytest.fixture(scope="module")
def stuck(node: Node) -> Iterator[str]:
    """The namespace of an image whose build has half a minute, and no node to go to."""
    name = "team-stuck"
    node.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    node.apply(nix_image(name, build=NOWHERE, timeout="30s"))
    yield name
    node.cluster.do("delete", "namespace", name, "--wait=false")


def test_a_pod_without_a_node_is_told_in_the_scheduler_s_words_until_the_spec_is_changed(
    node: Node, stuck: str
) -> None:
    other = {"packages": ["cowsay"]}  # or it would wait for the same build
    node.apply(nix_image(stuck, "changed", build=NOWHERE, **other))
    nobody = {"serviceAccountName": "nobody"}
    node.apply(nix_image(stuck, "account", build=nobody, packages=["banner"]))
    image = node.image_with(stuck, "Reconciling", "True/PodPending", "web", within=60)
    assert "didn't match Pod's node affinity/selector" in message(image)
    node.apply(nix_image(stuck, "twin"))
    image = node.image_with(stuck, "Reconciling", "True/Queued", "twin", within=60)
    assert "builds the same inputs; its pod does not run: Unschedulable" in message(image)
    image = node.image_with(stuck, "Reconciling", "True/PodPending", "changed", within=60)
    assert "didn't match Pod's node affinity/selector" in message(image)
    image = node.image_with(stuck, "Reconciling", "True/PodPending", "account", within=60)
    assert message(image).endswith(
        'serviceaccount "nobody" not found. Create it in team-stuck, or correct '
        "spec.build.serviceAccountName"
    )
    node.apply(nix_image(stuck, "changed", build={"nodeSelector": {}}, **other))
    node.ready(stuck, "changed")


def kubelet(node: Node, given: signal.Signals) -> None:
    """Send a signal to the node's kubelet."""
    state = json.loads((node.cluster.kubeconfig.parent / "cluster.json").read_text())
    os.kill(state["processes"]["kubelet"], given)


@contextmanager
def silent_kubelet(node: Node) -> Iterator[None]:
    """Meanwhile the node does not answer."""
    kubelet(node, signal.SIGSTOP)
    try:
        yield
    finally:
        kubelet(node, signal.SIGCONT)


@pytest.fixture
def another_node(node: Node) -> Iterator[None]:
    """A node without room: a control plane that has lost all nodes blames itself, and waits."""
    ready = {"type": "Ready", "status": "True", "reason": "KubeletReady"}
    node.apply(
        {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": "another"},
            "status": {"conditions": [ready]},
        }
    )
    yield
    node.cluster.do("delete", "node", "another")


def give_up(node: Node, machine: str) -> None:
    """Have the control plane notice now, and not after its grace of most of a minute."""
    silent = {"type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown"}
    patch = json.dumps({"status": {"conditions": [silent]}})
    node.cluster.do("patch", "node", machine, "--subresource", "status", "-p", patch)


@pytest.mark.usefixtures("another_node")
def test_a_lost_node_is_told_and_its_build_begins_anew_and_never_twice(
    node: Node, namespace: str
) -> None:
    def placed() -> Json | None:
        pods = node.cluster.list("pods", namespace)
        return pods[0] if pods and "nodeName" in pods[0]["spec"] else None

    with silent_kubelet(node):
        node.apply(nix_image(namespace, build=HASTY))
        pod = eventually("the build's pod has its node", placed)
        (job,) = node.cluster.list("jobs", namespace)
        give_up(node, pod["spec"]["nodeName"])
        image = node.image_with(namespace, "Reconciling", "True/BuildInterrupted", within=60)
        assert f"its node {pod['spec']['nodeName']} does not answer" in message(image)
        assert "Taint manager" in message(image)
        (same,) = node.cluster.list("pods", namespace)
        assert same["metadata"]["uid"] == pod["metadata"]["uid"], "it may still run"
    node.ready(namespace)
    (after,) = node.cluster.list("jobs", namespace)
    assert after["metadata"]["uid"] == job["metadata"]["uid"]


def test_time_that_runs_out_before_the_pod_starts_is_told_with_the_reason(
    node: Node, stuck: str
) -> None:
    image = node.image_with(stuck, "Stalled", "True/BuildTimeout", within=60)
    assert "did not run within spec.timeout, 30s" in message(image)
    assert "didn't match Pod's node affinity/selector" in message(image)
