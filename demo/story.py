"""What the demo shows: a NixImage becomes an image, a pod runs it, a second one reuses it."""

from __future__ import annotations

import json
import time
from contextlib import closing
from pathlib import Path

from clock import Clock
from console import ClusterError, last_lines, say
from install import EXAMPLES as TEAM
from install import SYSTEM, explain_pods
from kubectl import Json, Kubectl
from programs import ROOT
from target import Target

LABEL = "niximage.dev/image"  # on build Jobs
READY_SECONDS = 300
POD_SECONDS = 60
FILES = (ROOT / "examples" / "hello.yaml", ROOT / "examples" / "cowsay.yaml")


def tell(place: Target, clock: Clock) -> None:
    """Apply the examples one after the other; run each; show what the second one reused."""
    kubectl = place.kubectl
    _begin_anew(kubectl)
    for example in FILES:
        name = example.stem
        with clock.step(f"kubectl apply -f examples/{example.name}, until it is Ready"):
            image = _apply_and_follow(kubectl, example, name)
        _say_what_was_reused(kubectl, image)
        with clock.step(f"a pod runs {name} by its digest"):
            print(_run_pod(kubectl, name, image["status"]["image"]), end="", flush=True)
    print(f"\n$ kubectl get niximg -A\n{kubectl('get', 'niximg', '-A')}", end="", flush=True)


def _begin_anew(kubectl: Kubectl) -> None:
    """A namespace as strict as can be, without the NixImages and pods of an earlier run."""
    namespace = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {
            "name": TEAM,
            "labels": {"pod-security.kubernetes.io/enforce": "restricted"},
        },
    }
    kubectl.apply(json.dumps(namespace))
    scope = ["--namespace", TEAM, "--ignore-not-found", "--timeout=60s"]
    names = [example.stem for example in FILES]
    kubectl("delete", "niximages", *names, *scope, seconds=90)
    kubectl("delete", "pods", *names, *scope, "--grace-period=1", seconds=90)


def _apply_and_follow(kubectl: Kubectl, example: Path, name: str) -> Json:
    """Apply a NixImage and print each change of its conditions until it is Ready."""
    began = time.monotonic()
    kubectl.apply(example.read_text(), namespace=TEAM)
    told: dict[str, tuple[str, str, str]] = {}
    last: Json = {}
    changes = kubectl.watch("niximages", name, namespace=TEAM, seconds=READY_SECONDS)
    try:
        with closing(changes):
            for last in changes:
                for condition in last.get("status", {}).get("conditions", []):
                    words = (condition["status"], condition["reason"], condition["message"])
                    if told.get(condition["type"]) != words:
                        told[condition["type"]] = words
                        _say_condition(time.monotonic() - began, condition)
                if _is_true(last, "Ready") or _is_true(last, "Stalled"):
                    break
    except ClusterError as error:
        raise ClusterError(f"{error}\n{_explain(kubectl, last)}") from None
    if _is_true(last, "Stalled"):
        raise ClusterError(f"NixImage {TEAM}/{name} is stalled\n{_explain(kubectl, last)}")
    return last


def _say_condition(elapsed: float, condition: Json) -> None:
    name = f"{condition['type']}={condition['status']}"
    say(f"    {elapsed:5.1f} s  {name:<20} {condition['reason']}: {condition['message']}")


def _is_true(image: Json, kind: str) -> bool:
    """Whether a condition is True, and of the object as it is now."""
    status = image.get("status", {})
    return status.get("observedGeneration") == image["metadata"]["generation"] and any(
        c["type"] == kind and c["status"] == "True" for c in status.get("conditions", [])
    )


def _say_what_was_reused(kubectl: Kubectl, image: Json) -> None:
    status, name = image["status"], image["metadata"]["name"]
    say(f"    {status['image']}")
    jobs = kubectl(
        "get", "jobs", "--namespace", TEAM, f"--selector={LABEL}={name}", "--output=name"
    )
    if not jobs:
        say("    no build was needed: the bucket had it from an earlier run")
    artifact = status["artifact"]
    if artifact["reusedLayers"]:
        say(
            f"    {artifact['reusedLayers']} of {artifact['layers']} layers, "
            f"{artifact['reusedSize']:,} of {artifact['size']:,} bytes, were there already"
        )


def _run_pod(kubectl: Kubectl, name: str, image: str) -> str:
    """Run an image's own command in a Restricted pod; returns what it printed."""
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 1000,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [
                {
                    "name": name,
                    "image": image,
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "readOnlyRootFilesystem": True,
                        "capabilities": {"drop": ["ALL"]},
                    },
                }
            ],
        },
    }
    kubectl.apply(json.dumps(pod), namespace=TEAM)
    changes = kubectl.watch("pods", name, namespace=TEAM, seconds=POD_SECONDS)
    try:
        with closing(changes):
            phases = (seen.get("status", {}).get("phase") for seen in changes)
            phase = next(phase for phase in phases if phase in {"Succeeded", "Failed"})
    except ClusterError as error:
        raise ClusterError(f"{error}\n{explain_pods(kubectl, TEAM)}") from None
    if phase == "Failed":
        raise ClusterError(f"pod {TEAM}/{name} failed\n{explain_pods(kubectl, TEAM)}")
    return kubectl("logs", name, "--namespace", TEAM)


def _explain(kubectl: Kubectl, image: Json) -> str:
    """Why a NixImage did not become Ready: its conditions, its pods, the operator's last words."""
    status = image.get("status", {})
    parts = ["its conditions:"]
    parts += [
        f"    {c['type']}={c['status']} {c['reason']}: {c['message']}"
        for c in status.get("conditions", [])
    ]
    if failure := status.get("failure"):
        parts += ["its failure:", last_lines(json.dumps(failure, indent=2), 40)]
    parts += ["its namespace:", explain_pods(kubectl, TEAM)]
    scope = ["--namespace", SYSTEM, "--tail=30"]
    parts += ["the operator's log:", kubectl("logs", "deployment/niximage-operator", *scope)]
    return "\n".join(parts)
