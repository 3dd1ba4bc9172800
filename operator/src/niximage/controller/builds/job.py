"""The manifest of a build Job: whose it is, how long it may take, and when it starts."""

import copy
from typing import Any

from niximage.api.base import API_VERSION, seconds
from niximage.api.build_class import NixBuildClass
from niximage.api.canonical import canonical_hash
from niximage.api.image import KIND, NixImage
from niximage.controller.builds.federation import ANNOTATION as CREDENTIALS
from niximage.controller.builds.pod import REQUEST, pod
from niximage.controller.job_view import (
    ATTEMPT,
    CLASS_LABEL,
    FORCE,
    IMAGE_LABEL,
    INPUT_HASH,
    MANAGED_BY,
    MANAGER,
    QUEUE_LABEL,
    TEMPLATE,
)
from niximage.controller.settings import Settings
from niximage.controller.steps import CreateJob

Json = dict[str, Any]


def job_manifest(image: NixImage, create: CreateJob, settings: Settings) -> Json:
    """The Job that builds and publishes one image.

    Args:
        image: the NixImage; it owns the Job.
        create: name, request and attempt.
        settings: the operator's.

    Raises:
        Terminal: the spec is too large for a build.
    """
    labels = {
        MANAGED_BY: MANAGER,
        "app.kubernetes.io/component": "builder",
        IMAGE_LABEL: image.metadata.name,
    }
    queue = image.spec.build.queue_name
    if settings.build_class is not None:
        labels[CLASS_LABEL] = class_label(settings.build_class)
    annotations = {INPUT_HASH: create.request.input_hash, ATTEMPT: str(create.attempt)}
    if create.force:
        annotations[FORCE] = create.force
    of_pod = annotations
    if settings.federation is not None:
        of_pod = {**annotations, CREDENTIALS: settings.federation.configuration}
    deadline = int(seconds(image.spec.timeout))
    of_pods = pod(image, create, settings)
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": create.name,
            "namespace": image.metadata.namespace,
            "labels": {**labels, QUEUE_LABEL: queue} if queue else labels,
            "annotations": {**annotations, TEMPLATE: _template(of_pods, deadline)},
            "ownerReferences": [
                {
                    "apiVersion": API_VERSION,
                    "kind": KIND,
                    "name": image.metadata.name,
                    "uid": image.metadata.uid,
                    "controller": True,
                    "blockOwnerDeletion": True,
                }
            ],
        },
        "spec": {
            "suspend": bool(queue),  # Kueue lets it run when its turn has come
            "backoffLimit": 0,  # retries are the operator's: it tells input from infrastructure
            "activeDeadlineSeconds": deadline,
            "ttlSecondsAfterFinished": settings.job_ttl,
            "podReplacementPolicy": "Failed",
            "podFailurePolicy": {
                # A drained node is nobody's failure: the Job makes the pod anew.
                "rules": [
                    {
                        "action": "Ignore",
                        "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}],
                    }
                ]
            },
            "template": {
                "metadata": {"labels": labels, "annotations": of_pod},
                "spec": of_pods,
            },
        },
    }


def class_label(build_class: NixBuildClass) -> str:
    """What the label of a build says of its class: a value has 63 characters, and a sound end."""
    return build_class.metadata.name[:63].rstrip("-.")


def template(image: NixImage, create: CreateJob, settings: Settings) -> str:
    """What a Job's annotation says if it would be made today as it was. Pure.

    Raises:
        Terminal: the spec is too large for a build.
    """
    return _template(pod(image, create, settings), int(seconds(image.spec.timeout)))


def _template(of_pods: Json, deadline: int) -> str:
    """A hash of where, as what and how long a build runs: not of what it builds."""
    bare = copy.deepcopy(of_pods)
    for step in (*bare["initContainers"], *bare["containers"]):
        step["env"] = [each for each in step["env"] if each["name"] != REQUEST]
    return canonical_hash({"pod": bare, "deadline": deadline})[:16]
