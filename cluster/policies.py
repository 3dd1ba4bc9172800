"""What Calico's agent, which enforces NetworkPolicies, must find in the API before it starts."""

from __future__ import annotations

import json

from binaries import crds_folder
from console import run
from instance import Instance

_READY = {
    "apiVersion": "crd.projectcalico.org/v1",
    "kind": "ClusterInformation",
    "metadata": {"name": "default"},
    "spec": {"datastoreReady": True},
}


def install(instance: Instance) -> None:
    """Make Calico's kinds known, and say that they may be used."""
    kubectl = [str(instance.binaries / "kubectl"), f"--kubeconfig={instance.kubeconfig}"]
    folder = str(crds_folder(instance.binaries, "calico-felix"))
    run([*kubectl, "create", "--filename", folder])
    run([*kubectl, "wait", "--for=condition=Established", "--timeout=60s", "--filename", folder])
    run([*kubectl, "create", "--filename", "-"], stdin=json.dumps(_READY))
