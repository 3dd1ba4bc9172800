"""The manifest of a build Job: one pod, two steps, the Restricted profile, no token.

`build` runs what tenants wrote, so it gets no credentials; `publish` starts when it has
ended, and shares with it the Nix store and one folder for the outputs, nothing else: each
step has a home and a temporary folder of its own.
"""

from typing import Any, Final
from urllib.parse import urlsplit

from niximage.api.base import API_VERSION, seconds
from niximage.api.image import KIND, NixImage
from niximage.controller.settings import Settings
from niximage.controller.views import (
    ATTEMPT,
    IMAGE_LABEL,
    INPUT_HASH,
    MANAGED_BY,
    MANAGER,
    CreateJob,
)

USER: Final = 1000  # as the Containerfile makes it
HOME: Final = "/home/niximage"
WORK: Final = "/build"
BUILD: Final = "build"
PUBLISH: Final = "publish"

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
    annotations = {INPUT_HASH: create.request.input_hash, ATTEMPT: str(create.attempt)}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": create.name,
            "namespace": image.metadata.namespace,
            "labels": labels,
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
                "metadata": {"labels": labels, "annotations": annotations},
                "spec": _pod(create, settings),
            },
        },
    }


def _pod(create: CreateJob, settings: Settings) -> Json:
    environment = {
        "HOME": HOME,
        "NIXIMAGE_REQUEST": create.request.to_variable(),
        "NIXIMAGE_WORK": WORK,
        "NIXIMAGE_SUBSTITUTERS": " ".join(settings.substituters),
        "NIXIMAGE_TRUSTED_PUBLIC_KEYS": " ".join(settings.trusted_public_keys),
        "NIXIMAGE_LOCAL_BUILDS": "Allowed" if settings.local_builds else "Forbidden",
    }
    publish = {**environment, "NIXIMAGE_BUCKET": settings.bucket, **settings.publish_environment}
    bucket_mounts: list[Json] = []
    bucket_volumes: list[Json] = []
    if settings.bucket_claim:
        bucket_mounts = [{"name": "bucket", "mountPath": urlsplit(settings.bucket).path}]
        bucket_volumes = [
            {"name": "bucket", "persistentVolumeClaim": {"claimName": settings.bucket_claim}}
        ]
    return {
        "restartPolicy": "Never",
        "serviceAccountName": settings.service_account,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 5,  # nothing to save: all writes are safe to cut
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "initContainers": [_container(BUILD, environment, [], settings)],
        "containers": [_container(PUBLISH, publish, bucket_mounts, settings)],
        "volumes": [
            {"name": "nix", "emptyDir": {"sizeLimit": settings.resources.store_limit}},
            {"name": "work", "emptyDir": {"sizeLimit": "16Mi"}},
            *(
                {"name": f"{kind}-{step}", "emptyDir": {}}
                for step in (BUILD, PUBLISH)
                for kind in ("home", "tmp")
            ),
            *bucket_volumes,
        ],
    }


def _container(
    step: str, environment: dict[str, str], mounts: list[Json], settings: Settings
) -> Json:
    resources = settings.resources
    return {
        "name": step,
        "image": settings.builder_image,
        "imagePullPolicy": "IfNotPresent",
        "args": ["builder", step],
        "env": [{"name": name, "value": value} for name, value in sorted(environment.items())],
        "resources": {
            "requests": {"cpu": resources.cpu_request, "memory": resources.memory_request},
            "limits": {"memory": resources.memory_limit},
        },
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        "terminationMessagePolicy": "File",
        "volumeMounts": [
            {"name": "nix", "mountPath": "/nix"},
            {"name": "work", "mountPath": WORK},
            {"name": f"home-{step}", "mountPath": HOME},
            {"name": f"tmp-{step}", "mountPath": "/tmp"},  # noqa: S108 (a volume of its own)
            *mounts,
        ],
    }
