"""A whole node with the operator, a Git server and a bucket, as `make demo` installs them."""

import itertools
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from support.kubernetes import Cluster, Json, conditions, eventually, nix_image

IMAGE_LABEL = "niximage.dev/image"
PROJECT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Node:
    """The node, and where its registry answers."""

    cluster: Cluster
    registry: str

    def apply(self, document: Json) -> None:
        """Kubectl apply."""
        self.cluster.do("apply", "-f", "-", given=document)

    def image(
        self,
        namespace: str,
        wanted: Callable[[Json], object],
        name: str = "web",
        within: float = 150,
    ) -> Json:
        """The NixImage, once it is as wanted; with the operator's log when it is not."""

        def look() -> Json | None:
            found = self.cluster.get("niximage", name, namespace)
            return found if found is not None and wanted(found) else None

        try:
            return eventually("the wanted status", look, within=within)
        except pytest.fail.Exception as failure:
            status = (self.cluster.get("niximage", name, namespace) or {}).get("status")
            log = self.cluster.run(
                *("logs", "deploy/niximage-operator", "-n", "niximage-system", "--tail=40")
            )
            pytest.fail(f"{failure}\n{json.dumps(status, indent=2)}\n{log.stdout}")

    def image_with(
        self, namespace: str, kind: str, value: str, name: str = "web", within: float = 150
    ) -> Json:
        """The NixImage, once a condition has `status/reason`."""
        return self.image(namespace, lambda i: conditions(i).get(kind) == value, name, within)

    def ready(self, namespace: str, name: str = "web", within: float = 150) -> Json:
        """The NixImage, once it is Ready."""
        return self.image_with(namespace, "Ready", "True/Succeeded", name, within)

    def building(self, namespace: str, name: str = "web", *packages: str, **spec: Any) -> Json:
        """Apply a NixImage that is slow to build; its pod, once the first step runs."""
        self.apply(nix_image(namespace, name, packages=["slow", *packages], **spec))

        def look() -> Json | None:
            for pod in self.cluster.list("pods", namespace):
                if pod["metadata"].get("labels", {}).get(IMAGE_LABEL) != name:
                    continue
                for status in pod["status"].get("initContainerStatuses", []):
                    if "running" in status["state"]:
                        return pod
            return None

        return eventually("the build runs", look, within=60)

    def output(self, namespace: str, image: str, *command: str, user: int = 1000) -> str:
        """What a container of an image prints."""
        name = self.run(namespace, image, *command, user=user)

        def ended() -> str | None:
            pod: Any = self.cluster.get("pod", name, namespace)
            phase = pod["status"].get("phase")
            return phase if phase in ("Succeeded", "Failed") else None

        phase = eventually("the pod ends", ended, within=60)
        log = self.cluster.do("logs", name, "-n", namespace)
        assert phase == "Succeeded", log
        return log

    def run(self, namespace: str, image: str, *command: str, user: int = 1000) -> str:
        """Start a container of an image: a pod of the Restricted profile, unless root's.

        Returns:
            The pod's name.
        """
        container: Json = {"name": "run", "image": image}
        if user:
            container["securityContext"] = {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
            }
        if command:
            container["command"] = list(command)
        name = f"run-{next(_numbers)}"
        self.apply(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": name, "namespace": namespace},
                "spec": {
                    "restartPolicy": "Never",
                    "automountServiceAccountToken": False,
                    "securityContext": {
                        "runAsNonRoot": bool(user),
                        "runAsUser": user,
                        "seccompProfile": {"type": "RuntimeDefault"},
                    },
                    "containers": [container],
                },
            }
        )
        return name


_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def node() -> Iterator[Node]:
    """A node of this test session, with everything installed."""
    folder = Path(tempfile.mkdtemp(prefix="niximage-e2e-"))  # sockets want a short path
    state = folder / "state"
    try:
        done = subprocess.run(
            [sys.executable, str(PROJECT / "demo"), "install", "--state", str(state)],
            capture_output=True,
            text=True,
            timeout=280,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        tools = _said("cluster", "tools", "kubectl")
        status = json.loads(_said("cluster", "status", "--json", "--state", str(state)))
        cluster = Cluster(Path(tools.strip()) / "kubectl", state / "kubeconfig")
        yield Node(cluster, f"127.0.0.1:{status['registryPort']}")
    finally:
        _said("cluster", "down", "--state", str(state))
        shutil.rmtree(folder, ignore_errors=True)


def _said(program: str, *args: str) -> str:
    return subprocess.run(
        [sys.executable, str(PROJECT / program), *args],
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
    ).stdout


@contextmanager
def restricted_namespace(node: Node, name: str) -> Iterator[str]:
    """A new namespace that takes Restricted pods only."""
    node.apply(
        {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {
                "name": name,
                "labels": {"pod-security.kubernetes.io/enforce": "restricted"},
            },
        }
    )
    try:
        yield name
    finally:
        node.cluster.do("delete", "namespace", name, "--wait=false")


@pytest.fixture
def namespace(node: Node) -> Iterator[str]:
    """A new namespace of this test alone."""
    with restricted_namespace(node, f"team-{next(_numbers)}") as name:
        yield name
