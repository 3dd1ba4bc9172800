"""Everything that must be there before the first NixImage: cluster, images, services, operator."""

from __future__ import annotations

import json
import string
from pathlib import Path

from clock import Clock
from console import ClusterError, say
from helm import Helm
from kubectl import Json, Kubectl
from programs import ROOT, ours
from target import Image, Target

HERE = Path(__file__).resolve().parent
CHART = ROOT / "charts" / "niximage-operator"
RELEASE = "niximage"
SYSTEM = "niximage-system"
SERVICES = "niximage-demo"
EXAMPLES = "team-a"
BUCKET = "niximage"
CRD = "niximages.niximage.dev"
ROLLOUT_SECONDS = 180
REMOVAL_SECONDS = 120


def everything(place: Target, clock: Clock) -> None:
    """Set everything up; what is there already is left as it is."""
    with clock.step("cluster"):
        place.start()
    with clock.step("images"):
        images = build_images()
    with clock.step("images to the cluster"):
        operator, demo = place.deliver(images)
    with clock.step("Git server, bucket, operator, gateway"):
        kubectl = place.kubectl
        addresses = start_services(kubectl, demo)
        install_operator(place.helm, operator, place.registry_port, addresses)
        _wait_for_rollouts(kubectl)


def build_images() -> list[Image]:
    """The operator's image and the demo's, in this order."""
    lines = ours("images", "build", "operator", "demo").splitlines()
    return [Image(name, Path(path)) for name, path in (line.split(" ", 1) for line in lines)]


def start_services(kubectl: Kubectl, image: str) -> dict[str, str]:
    """Start Git server and bucket; returns the address of each, `packages` and `bucket`."""
    kubectl.apply((HERE / "services.yaml").read_text())
    found = kubectl.get("services", namespace=SERVICES)["items"]
    addresses = {
        service["metadata"]["name"]: f"{service['spec']['clusterIP']}:{port['port']}"
        for service in found
        for port in service["spec"]["ports"]
    }
    servers = string.Template((HERE / "servers.yaml").read_text())
    kubectl.apply(servers.substitute(image=image, bucket=addresses["bucket"]))
    return addresses


def install_operator(helm: Helm, image: str, registry_port: int, addresses: dict[str, str]) -> None:
    """Install the chart with this cluster's settings."""
    repository, _, tag = image.rpartition(":")
    services = {"matchLabels": {"kubernetes.io/metadata.name": SERVICES}}
    values: Json = {
        "image": {"repository": repository, "tag": tag},
        "crds": {"keep": False},  # what the demo made, it removes
        "bucket": {"url": f"gs://{BUCKET}", "emulatorHost": f"http://{addresses['bucket']}"},
        "builds": {
            "nixpkgsUrl": f"http://{addresses['packages']}/demo.git",
            "substituters": [],  # the demo set is built from nothing
            "trustedPublicKeys": [],
        },
        # a bucket on the same machine answers soon or not at all
        "operator": {"extraEnv": [{"name": "NIXIMAGE_BUCKET_PATIENCE", "value": "15"}]},
        "gateway": {"hostPort": registry_port},
        "networkPolicies": {"extraEgress": [{"to": [{"namespaceSelector": services}]}]},
    }
    helm(
        *("upgrade", "--install", RELEASE, CHART, "--namespace", SYSTEM, "--create-namespace"),
        *("--values", "-"),
        stdin=json.dumps(values),
    )


def _wait_for_rollouts(kubectl: Kubectl) -> None:
    for namespace, workload in (
        (SERVICES, "deployment/packages"),
        (SERVICES, "deployment/bucket"),
        (SYSTEM, "daemonset/niximage-gateway"),
        (SYSTEM, "deployment/niximage-operator"),
    ):
        try:
            kubectl(
                "rollout", "status", workload, "--namespace", namespace,
                f"--timeout={ROLLOUT_SECONDS}s", seconds=ROLLOUT_SECONDS + 10,
            )  # fmt: skip
        except ClusterError as error:
            raise ClusterError(f"{error}\n{explain_pods(kubectl, namespace)}") from None
        say(f"    {workload} runs")


def explain_pods(kubectl: Kubectl, namespace: str) -> str:
    """The pods of a namespace that are not well: their states and the end of their logs."""
    parts = [kubectl("get", "pods", "--namespace", namespace, "--output=wide")]
    for pod in kubectl.get("pods", namespace=namespace)["items"]:
        if _is_well(pod):
            continue
        name = pod["metadata"]["name"]
        scope = ["--namespace", namespace]
        parts.append(kubectl("events", *scope, "--for", f"pod/{name}"))
        try:
            flags = ["--all-containers", "--prefix", "--tail=30"]
            parts.append(kubectl("logs", name, *scope, *flags))
        except ClusterError as error:  # a container that has not started has no log
            parts.append(str(error))
    return "\n".join(parts)


def _is_well(pod: Json) -> bool:
    conditions = {c["type"]: c["status"] for c in pod["status"].get("conditions", [])}
    return pod["status"]["phase"] == "Succeeded" or conditions.get("Ready") == "True"


def remove(place: Target) -> None:
    """Take away what was applied to a cluster that stays."""
    kubectl = place.kubectl
    say("removing the demo; the cluster stays")
    flags = ["--ignore-not-found", f"--timeout={REMOVAL_SECONDS}s"]
    kubectl("delete", "namespace", EXAMPLES, *flags, seconds=REMOVAL_SECONDS + 10)
    others = "" if not _knows_images(kubectl) else kubectl("get", "niximages", "-A", "-o", "name")
    if others:
        # with the CRD all of them would go
        raise ClusterError(f"the operator stays, for there are other NixImages: {others.split()}")
    kubectl("delete", "namespace", SERVICES, *flags, seconds=REMOVAL_SECONDS + 10)
    flags_of_helm = ["--namespace", SYSTEM, "--ignore-not-found", "--wait"]
    place.helm("uninstall", RELEASE, *flags_of_helm, seconds=REMOVAL_SECONDS + 10)
    kubectl("delete", "namespace", SYSTEM, *flags, seconds=REMOVAL_SECONDS + 10)


def _knows_images(kubectl: Kubectl) -> bool:
    return bool(kubectl("get", f"crd/{CRD}", "--ignore-not-found", "--output=name"))
