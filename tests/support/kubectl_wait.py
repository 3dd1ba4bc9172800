"""What `kubectl wait` makes of an object: its rules, from k8s.io/kubectl `pkg/cmd/wait`."""

from typing import Any

Json = dict[str, Any]


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
