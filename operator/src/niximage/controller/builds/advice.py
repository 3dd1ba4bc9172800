"""What to do about a pod that does not start: the cluster says what it lacks, not whose it is.

A missing claim may be the source of the image, the operator's bucket or the class's store: three
people who could mend it. Pure.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

_MISSING_CLAIM: Final = re.compile(r'persistentvolumeclaim "([^"\s]{1,253})"')
_PULLS: Final = frozenset(
    {"ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName"}
)
_OF_NODES: Final = (
    (
        "unbound immediate PersistentVolumeClaims",
        "See kubectl get pvc -n {namespace}: a claim waits for its volume, or its StorageClass",
    ),
    (
        "Insufficient ",
        "Lower spec.build.resources, or wait for room on the nodes",
    ),
    (
        "node affinity/selector",
        "Change spec.build.nodeSelector or affinity, or those of the NixBuildClass",
    ),
    (
        "untolerated taint",
        "Add spec.build.tolerations, or ask for a NixBuildClass with them",
    ),
)
_OF_CLAIMS: Final = {
    "volume": "Create the claim {claim} in the namespace {namespace}, or correct "
    "spec.source.volume.claimName",
    "bucket": "Create the claim {claim}, which has the bucket, in the namespace {namespace}: the "
    "operator's admin does, for a folder of the node by buildNamespaces of the chart",
    "nix": "The NixBuildClass's store makes the claim {claim}; if it stays away, see kubectl "
    "describe pvc {claim} -n {namespace}",
}


_REFUSALS: Final = (
    (
        "exceeded quota",
        "Lower spec.build.resources, or ask for more room in the ResourceQuota of {namespace}",
    ),
    (
        "must specify",
        "Set them in spec.build.resources, or in the NixBuildClass: a ResourceQuota wants them",
    ),
    (
        "usage per ",
        "Keep spec.build.resources within the LimitRange of {namespace}, or have that changed",
    ),
    ("serviceaccount", "Create it in {namespace}, or correct spec.build.serviceAccountName"),
    ("PriorityClass", "Correct spec.build.priorityClassName, or that of the NixBuildClass"),
    ("RuntimeClass", "The NixBuildClass names it in runtimeClassName: ask who owns the class"),
    (
        "violates PodSecurity",
        "Build pods pass the profile restricted: see which webhook or NixBuildClass adds to them",
    ),
)


def without_pod(message: str, namespace: str) -> str:
    """What to do next where the cluster lets a Job make no pod; "" where nobody knows.

    Args:
        message: the cluster's sentence about it.
        namespace: the Job's.
    """
    found = (todo for said, todo in _REFUSALS if said in message)
    return next(found, "").format(namespace=namespace)


def advice(pod: Mapping[str, Any], reason: str, message: str) -> str:
    """What to do next about a pod that does not start, one sentence; "" where nobody knows.

    Args:
        pod: the build's pod, as the API server gives it.
        reason: the cluster's word for what keeps it, for example Unschedulable.
        message: the cluster's sentence about it.
    """
    metadata = pod.get("metadata") or {}
    namespace = str(metadata.get("namespace") or "")
    if missing := _MISSING_CLAIM.search(message):
        return _about_claim(pod, missing[1], namespace)
    if reason == "Unschedulable":
        found = (words for said, words in _OF_NODES if said in message)
        return next(found, "").format(namespace=namespace)
    if reason in _PULLS:
        return (
            "Nodes must be able to pull the builder's image, which the operator's settings or the "
            "NixBuildClass name"
        )
    if reason == "CreateContainerConfigError":
        return f"Create what is missing in the namespace {namespace}: the pod goes on by itself"
    return ""


def _about_claim(pod: Mapping[str, Any], claim: str, namespace: str) -> str:
    """What to do about a claim, by what the pod has it for."""
    name = str((pod.get("metadata") or {}).get("name") or "")
    for volume in (pod.get("spec") or {}).get("volumes") or ():
        named = (volume.get("persistentVolumeClaim") or {}).get("claimName")
        if volume.get("ephemeral"):
            named = f"{name}-{volume.get('name')}"  # as Kubernetes makes it
        if named == claim:
            words = _OF_CLAIMS.get(str(volume.get("name")), _OF_CLAIMS["bucket"])
            return words.format(claim=claim, namespace=namespace)
    return f"Create the claim {claim} in the namespace {namespace}"
