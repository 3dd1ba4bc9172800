"""The files of examples/, before a real API server and through kustomize."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.kubernetes import Cluster

EXAMPLES = Path(__file__).parents[3] / "examples"
IMAGES = [
    file
    for file in sorted(EXAMPLES.rglob("*.yaml"))
    if any(d and d.get("kind") == "NixImage" for d in yaml.safe_load_all(file.read_text()))
]


def kustomized(cluster: Cluster, folder: Path) -> dict[str, dict[str, Any]]:
    """What kustomize makes of a folder, as `Kind/name`."""
    built = yaml.safe_load_all(cluster.do("kustomize", str(folder)))
    return {f"{each['kind']}/{each['metadata']['name']}": each for each in built}


@pytest.mark.parametrize("file", IMAGES, ids=lambda file: str(file.relative_to(EXAMPLES)))
def test_the_api_server_takes_each_niximage(cluster: Cluster, namespace: str, file: Path) -> None:
    strictly = ("create", "--dry-run=server", "--validate=strict")
    cluster.do(*strictly, "-n", namespace, "-f", str(file))


def test_kustomize_brings_the_image_to_the_deployment(cluster: Cluster, tmp_path: Path) -> None:
    folder = tmp_path / "kustomize"
    shutil.copytree(EXAMPLES / "kustomize", folder)
    image = "127.0.0.1:5000/staging/staging-greeting@sha256:" + "a" * 64
    kubectl = tmp_path / "kubectl"
    kubectl.write_text(f'#!/bin/sh\n[ "$1" != get ] || echo "{image}"\n')
    kubectl.chmod(0o755)
    updated = subprocess.run(
        [folder / "update", "staging"],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
        check=True,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert updated.stdout.strip() == image
    built = kustomized(cluster, folder)
    (container,) = built["Deployment/staging-greeting"]["spec"]["template"]["spec"]["containers"]
    assert container["image"] == image
    assert not any(name.startswith("ConfigMap/") for name in built), "it is for kustomize alone"


def test_kustomize_follows_the_names_of_niximages(cluster: Cluster, namespace: str) -> None:
    built = kustomized(cluster, EXAMPLES / "kustomize")
    image = built["NixImage/staging-greeting"]
    assert image["spec"]["base"] == {"niximage": {"name": "staging-tools"}}
    everything = {"apiVersion": "v1", "kind": "List", "items": list(built.values())}
    cluster.do("create", "--dry-run=server", "-n", namespace, "-f", "-", given=everything)


def test_kustomize_follows_the_names_of_generated_secrets(cluster: Cluster, tmp_path: Path) -> None:
    folder = tmp_path / "kustomize"
    shutil.copytree(EXAMPLES / "kustomize", folder)
    file = folder / "kustomization.yaml"
    document = yaml.safe_load(file.read_text())
    document["secretGenerator"] = [{"name": "git", "literals": ["username=u", "password=p"]}]
    git = {
        "url": "https://example.org/set",
        "ref": {"branch": "main"},
        "secretRef": {"name": "git"},
    }
    change = [{"op": "replace", "path": "/spec/source", "value": {"git": git}}]
    document["patches"] = [{"target": {"kind": "NixImage"}, "patch": json.dumps(change)}]
    file.write_text(yaml.safe_dump(document))
    built = kustomized(cluster, folder)
    (secret,) = (each for name, each in built.items() if name.startswith("Secret/"))
    assert secret["metadata"]["name"] != "staging-git", "it has a hash"
    source = built["NixImage/staging-tools"]["spec"]["source"]
    assert source["git"]["secretRef"]["name"] == secret["metadata"]["name"]


def test_argo_syncs_images_before_what_runs_them(cluster: Cluster) -> None:
    wave = "argocd.argoproj.io/sync-wave"
    built = kustomized(cluster, EXAMPLES / "kustomize")
    waves = {
        name: int(each["metadata"].get("annotations", {}).get(wave, 0))
        for name, each in built.items()
    }
    order = ["NixImage/staging-tools", "NixImage/staging-greeting", "Deployment/staging-greeting"]
    assert sorted(waves, key=lambda name: waves[name]) == order
    assert len(set(waves.values())) == len(order), json.dumps(waves)


def test_argo_s_configuration_is_patched(cluster: Cluster, namespace: str) -> None:
    """As docs/gitops.md says, but for the namespace."""
    cluster.do("create", "configmap", "argocd-cm", "-n", namespace, "--from-literal=own=kept")
    patch = ("--patch-file", str(EXAMPLES / "argocd" / "argocd-cm.yaml"))
    cluster.do("patch", "configmap", "argocd-cm", "-n", namespace, *patch)
    found = cluster.get("configmap", "argocd-cm", namespace)
    assert found is not None
    assert found["data"].pop("own") == "kept"
    assert {name.rpartition(".")[2] for name in found["data"]} == {"dev_NixImage"}


def test_argo_s_application_is_of_what_is_there(cluster: Cluster) -> None:
    application = yaml.safe_load((EXAMPLES / "argocd" / "application.yaml").read_text())
    (ignored,) = application["spec"]["ignoreDifferences"]
    group = cluster.do("get", "crd", "niximages.niximage.dev", "-o", "jsonpath={.spec.group}")
    assert (ignored["group"], ignored["kind"]) == (group, "NixImage")


def test_kubectl_brings_the_image_to_a_deployment(cluster: Cluster, namespace: str) -> None:
    scope = ("-n", namespace)
    image = f"127.0.0.1:5000/{namespace}/greeting@sha256:{'a' * 64}"
    file = EXAMPLES / "flux" / "repository"
    cluster.do("apply", *scope, "-f", str(file / "images" / "greeting.yaml"))
    cluster.do("apply", *scope, "-f", str(file / "app" / "deployment.yaml"))
    ready: dict[str, Any] = {"type": "Ready", "status": "True", "reason": "Succeeded"}
    ready |= {"message": "", "observedGeneration": 1}
    ready |= {"lastTransitionTime": "2026-05-04T12:00:00Z"}
    status = {"image": image, "observedGeneration": 1, "conditions": [ready]}
    cluster.set_status("niximage", "greeting", namespace, status)
    cluster.do("wait", "--for=condition=Ready", "niximage/greeting", *scope, "--timeout=10s")
    said = cluster.do("get", "niximage", "greeting", *scope, "-o", "jsonpath={.status.image}")
    cluster.do("set", "image", "deployment/greeting", f"greeting={said}", *scope)
    found = cluster.get("deployment", "greeting", namespace)
    assert found is not None
    assert found["spec"]["template"]["spec"]["containers"][0]["image"] == image
