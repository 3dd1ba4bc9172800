"""The chart's defaults in an empty cluster: what the quick start and the notes say ends in a pod.

All is run word for word, from the push of the image to the removal as the chart's page has it. What
this cluster lacks is given: a registry, a free port, and a Git server in place of the world's. The
namespace takes Restricted pods only, and denies all traffic by default.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.conftest import PROJECT, Node
from e2e.user import Shell
from integration.debian_registry import debian_registry, public_folder
from support.documented import Place, Shown, script, shown
from support.kubernetes import Json

pytestmark = pytest.mark.timeout(600)  # releases come and go
RELEASE = ("niximage", "--namespace", "niximage-system")
NAMESPACE = "default"  # as the notes have it
ENFORCE = "pod-security.kubernetes.io/enforce"
PACKAGES = {"matchLabels": {"kubernetes.io/metadata.name": "niximage-demo"}}
DENY = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "NetworkPolicy",
    "metadata": {"name": "deny", "namespace": NAMESPACE},
    "spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]},
}


@pytest.fixture
def values(node: Node) -> Json:
    """What this cluster lacks, but for the image."""
    packages = node.cluster.get("service", "packages", "niximage-demo")
    assert packages is not None
    address = f"{packages['spec']['clusterIP']}:{packages['spec']['ports'][0]['port']}"
    return {
        "builds": {"nixpkgsUrl": f"http://{address}/demo.git", "substituters": []},
        "gateway": {"hostPort": int(node.registry.rpartition(":")[2])},
        # not the machine's own folder, which would outlast this cluster
        "bucket": {"folder": {"path": str(node.cluster.kubeconfig.parent / "bucket")}},
        # the world's Git servers are not within a cluster
        "networkPolicies": {"extraEgress": [{"to": [{"namespaceSelector": PACKAGES}]}]},
    }


@pytest.fixture
def shell(node: Node, values: Json) -> Iterator[Shell]:
    """An empty cluster; afterwards the release of the other tests is there again."""
    run = Shell(node, PROJECT)
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
        crds = "niximages.niximage.dev nixbuildclasses.niximage.dev"
        run(f"kubectl delete crd {crds} --ignore-not-found")
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


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[str]:
    """Where the operator's image is pushed to, and pulled from by the node."""
    with (
        public_folder() as bucket,
        debian_registry(bucket, {}, tmp_path, is_writable=True) as url,
    ):
        yield url.removeprefix("http://")


def documented(page: str) -> list[Shown]:
    """The commands of a page that are for an empty cluster."""
    return [each for each in shown(PROJECT / page) if each.place is Place.EMPTY]


def test_the_quick_start_and_the_notes_end_in_a_pod(
    node: Node, shell: Shell, values: Json, registry: str, tmp_path: Path
) -> None:
    file = tmp_path / "values.json"
    file.write_text(json.dumps(values))
    given = {"registry.example": registry, "--wait": f"--wait --timeout 3m --values {file}"}
    notes = shell(script(documented("docs/quickstart.md"), given))
    apply, run = scripts(notes)
    assert "kind: NixImage" in apply
    shell(apply)
    assert shell(run).splitlines()[-1] == "Hello from Nix on Kubernetes!"
    table = shell(f"kubectl get niximg -n {NAMESPACE}").splitlines()
    shown_ = [line.split() for line in notes.splitlines() if line.split()[:2] == ["NAME", "READY"]]
    assert [table[0].split()] == shown_
    assert table[1].split()[:3] == ["hello", "True", "Succeeded"]
    policies = {each["metadata"]["name"] for each in node.cluster.list("networkpolicy", NAMESPACE)}
    assert policies == {"deny", "niximage-builds"}
    (job,) = node.cluster.list("jobs", NAMESPACE)
    assert job["status"]["succeeded"] == 1
    page = documented("charts/niximage-operator/README.md")
    upgrade, *removal = (each for each in page if each.text.startswith(("helm u", "kubectl")))
    assert "REVISION: 3" in shell(script([*documented("docs/operating.md"), upgrade], {}))
    assert node.cluster.get("cronjob", "niximage-gc", "niximage-system") is not None
    assert node.cluster.get("niximage", "hello", NAMESPACE) is not None
    shell(script(removal, {}))
    assert node.cluster.run("get", "crd", "niximages.niximage.dev").returncode != 0
