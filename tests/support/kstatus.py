"""What tools of others make of an object: kstatus' and kubectl wait's rules, line by line.

From sigs.k8s.io/cli-utils `pkg/kstatus/status` (Compute for a kind without rules of its own) and
k8s.io/kubectl `pkg/cmd/wait`.
"""

from typing import Any

Json = dict[str, Any]


def kstatus(image: Json) -> str:
    """What Flux' `wait: true` and health checks see: Current, InProgress, Failed, Terminating."""
    if image["metadata"].get("deletionTimestamp"):
        return "Terminating"
    status = image.get("status") or {}
    observed = status.get("observedGeneration")
    if observed is not None and observed != image["metadata"]["generation"]:
        return "InProgress"
    conditions = status.get("conditions") or []
    for condition in conditions:
        if condition["type"] == "Reconciling" and condition["status"] == "True":
            return "InProgress"
        if condition["type"] == "Stalled" and condition["status"] == "True":
            return "Failed"
    for condition in conditions:
        if condition["type"] == "Ready":
            return "Current" if condition["status"] == "True" else "InProgress"
    return "Current"


def is_met(image: Json, kind: str = "Ready") -> bool:
    """Whether `kubectl wait --for=condition=Ready` ends at once."""
    generation = image["metadata"]["generation"]
    for condition in (image.get("status") or {}).get("conditions") or []:
        if condition["type"] != kind:
            continue
        observed = condition.get("observedGeneration") or image["status"].get("observedGeneration")
        if observed is not None and observed < generation:
            return False
        return str(condition["status"]).lower() == "true"
    return False
