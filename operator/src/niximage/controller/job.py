"""The manifest of a build Job: whose it is, how long it may take, and when it starts."""

from typing import Any

from niximage.api.base import API_VERSION, seconds
from niximage.api.image import KIND, NixImage
from niximage.controller.federation import ANNOTATION as CREDENTIALS
from niximage.controller.pod import pod
from niximage.controller.settings import Settings
from niximage.controller.views import (
    ATTEMPT,
    CLASS_LABEL,
    FORCE,
    IMAGE_LABEL,
    INPUT_HASH,
    MANAGED_BY,
    MANAGER,
    QUEUE_LABEL,
    CreateJob,
)

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
        labels[CLASS_LABEL] = settings.build_class.metadata.name[:63]
    annotations = {INPUT_HASH: create.request.input_hash, ATTEMPT: str(create.attempt)}
    if create.force:
        annotations[FORCE] = create.force
    of_pod = annotations
    if settings.federation is not None:
        of_pod = {**annotations, CREDENTIALS: settings.federation.configuration}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": create.name,
            "namespace": image.metadata.namespace,
            "labels": {**labels, QUEUE_LABEL: queue} if queue else labels,
            "annotations": annotations,
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
            "activeDeadlineSeconds": int(seconds(image.spec.timeout)),
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
                "spec": pod(image, create, settings),
            },
        },
    }
