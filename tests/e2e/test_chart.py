"""The chart's defaults in an empty cluster: what its notes say, word for word, ends in a pod.

What this cluster lacks is given: the operator's image, a free port, and a Git server in place of
the world's. The namespace takes Restricted pods only, and denies all traffic by default.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.conftest import PROJECT, Node
from support.kubernetes import Json

pytestmark = pytest.mark.timeout(600)  # releases come and go
RELEASE = ("niximage", "--namespace", "niximage-system")
NAMESPACE = "default"  # as the notes have it
ENFORCE = "pod-security.kubernetes.io/enforce"
DENY = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "NetworkPolicy",
    "metadata": {"name": "deny", "namespace": NAMESPACE},
    "spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]},
}


class Shell:
    """What a user has in hand: kubectl and helm, for this cluster."""

    def __init__(self, node: Node) -> None:
        self._environment = {
            **os.environ,
            "KUBECONFIG": str(node.cluster.kubeconfig),
            "PATH": f"{node.cluster.programs}:{os.environ['PATH']}",
        }

    def __call__(self, script: str, given: Json | None = None) -> str:
        """Run a script, which must succeed."""
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            env=self._environment,
            input=json.dumps(given) if given is not None else None,
            capture_output=True,
            text=True,
            timeout=280,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture
def values(node: Node) -> Json:
    """What this cluster lacks."""
    deployment = node.cluster.get("deployment", "niximage-operator", "niximage-system")
    packages = node.cluster.get("service", "packages", "niximage-demo")
    assert deployment is not None
    assert packages is not None
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    repository, _, tag = container["image"].rpartition(":")
    address = f"{packages['spec']['clusterIP']}:{packages['spec']['ports'][0]['port']}"
    return {
        "image": {"repository": repository, "tag": tag},
        "builds": {"nixpkgsUrl": f"http://{address}/demo.git", "substituters": []},
        "gateway": {"hostPort": int(node.registry.rpartition(":")[2])},
        # not the machine's own folder, which would outlast this cluster
        "bucket": {"folder": {"path": str(node.cluster.kubeconfig.parent / "bucket")}},
    }


@pytest.fixture
def shell(node: Node, values: Json) -> Iterator[Shell]:
    """An empty cluster; afterwards the release of the other tests is there again."""
    run = Shell(node)
    run("kubectl delete niximages --all --all-namespaces --timeout=60s")  # while somebody cleans up
    run(f"helm uninstall {' '.join(RELEASE)} --wait")
    assert node.cluster.run("get", "crd", "niximages.niximage.dev").returncode != 0
    node.cluster.do("label", "namespace", NAMESPACE, f"{ENFORCE}=restricted")
    node.apply(DENY)
    try:
        yield run
    finally:
        node.cluster.run("delete", "pod,niximage,networkpolicy", "--all", "-n", NAMESPACE)
        node.cluster.do("label", "namespace", NAMESPACE, f"{ENFORCE}-")
        run(f"helm uninstall {' '.join(RELEASE)} --ignore-not-found --wait")
        run("kubectl delete crd niximages.niximage.dev nixbuildclasses.niximage.dev --wait")
        state = node.cluster.kubeconfig.parent
        command = [sys.executable, str(PROJECT / "demo"), "install", "--state", str(state)]
        subprocess.run(command, check=True, capture_output=True, timeout=280)


def scripts(notes: str) -> list[str]:
    """The commands that notes have: indented paragraphs, but for what shows an output."""
    paragraphs = notes[notes.index("NOTES:") :].split("\n\n")
    return [
        "\n".join(line.removeprefix("  ") for line in paragraph.splitlines())
        for paragraph in paragraphs
        if paragraph.startswith("  ") and not paragraph.startswith("  $")
    ]


def test_the_notes_of_the_chart_end_in_a_pod(node: Node, shell: Shell, values: Json) -> None:
    chart = Path("charts") / "niximage-operator"
    command = f"helm install {' '.join(RELEASE)} {PROJECT / chart} --create-namespace --values -"
    notes = shell(f"{command} --wait --timeout 3m", given=values)
    apply, run = scripts(notes)
    assert "kind: NixImage" in apply
    shell(apply)
    assert shell(run).splitlines()[-1] == "Hello from Nix on Kubernetes!"
    table = shell(f"kubectl get niximg -n {NAMESPACE}").splitlines()
    shown = [line.split() for line in notes.splitlines() if line.split()[:2] == ["NAME", "READY"]]
    assert [table[0].split()] == shown
    assert table[1].split()[:3] == ["hello", "True", "Succeeded"]
    policies = {each["metadata"]["name"] for each in node.cluster.list("networkpolicy", NAMESPACE)}
    assert policies == {"deny", "niximage-builds"}
    (job,) = node.cluster.list("jobs", NAMESPACE)
    assert job["status"]["succeeded"] == 1
