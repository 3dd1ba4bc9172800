"""The pod of a build Job: its steps, the Restricted profile, no token.

`build` runs what tenants wrote, so it gets no credentials; `publish` starts when it has
ended, and shares with it the Nix store and one folder for the outputs, nothing else: each
step has a home and a temporary folder of its own. What opens a private source, and a volume with
one, is for a step before these, `fetch`, which leaves the source where `build` can read it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from niximage.api.base import seconds
from niximage.api.build_class import NixBuildClassSpec
from niximage.api.image import NixImage
from niximage.api.placement import ResourceList, amount
from niximage.api.placement import Resources as ClassResources
from niximage.controller.builds.federation import FOLDER as FEDERATION
from niximage.controller.settings import Settings
from niximage.controller.steps import CreateJob

USER: Final = 1000  # as the Containerfile makes it
HOME: Final = "/home/niximage"
WORK: Final = "/build"
HOME_LIMIT: Final = "1Gi"  # Nix's caches of evaluations
FETCHED: Final = "/fetched"
CREDENTIALS: Final = "/credentials"
VOLUME: Final = "/volume"
SOURCE_LIMIT: Final = "8Gi"  # of a fetched source, with what Git needs meanwhile
LAST_WORDS: Final = 30  # seconds, at most, between a build's end and its Job's
FETCH: Final = "fetch"
BUILD: Final = "build"
PUBLISH: Final = "publish"
REQUEST: Final = "NIXIMAGE_REQUEST"

Json = dict[str, Any]

_OF_STORE: Final = (
    {"name": "nix", "mountPath": "/nix"},
    {"name": "work", "mountPath": WORK},
)


_FETCH_VOLUMES: Final = (
    {"name": "fetched", "emptyDir": {"sizeLimit": SOURCE_LIMIT}},
    {"name": f"home-{FETCH}", "emptyDir": {"sizeLimit": "16Mi"}},
    # Git finds keys in a temporary folder: they touch no disk.
    {"name": f"tmp-{FETCH}", "emptyDir": {"medium": "Memory", "sizeLimit": "16Mi"}},
)


@dataclass(frozen=True, slots=True)
class _Fetch:
    """What the step `fetch` is given, and the volumes for it."""

    environment: dict[str, str]
    mounts: list[Json]
    volumes: list[Json]


def pod(image: NixImage, create: CreateJob, settings: Settings) -> Json:
    """The pod of a build Job.

    Args:
        image: the NixImage, which may ask for resources and nodes.
        create: the request.
        settings: the operator's, with what the image's class says.

    Raises:
        Terminal: the spec is too large for a build.
    """
    environment = {
        "HOME": HOME,
        REQUEST: create.request.to_variable(),
        "NIXIMAGE_WORK": WORK,
        "NIXIMAGE_SUBSTITUTERS": " ".join(settings.substituters),
        "NIXIMAGE_TRUSTED_PUBLIC_KEYS": " ".join(settings.trusted_public_keys),
        "NIXIMAGE_LOCAL_BUILDS": "Allowed" if settings.local_builds else "Forbidden",
        "NIXIMAGE_SANDBOX": "Required" if settings.sandbox else "Preferred",
    }
    publish = {**environment, "NIXIMAGE_BUCKET": settings.bucket, **settings.publish_environment}
    if settings.popularity_url:
        publish["NIXIMAGE_POPULARITY_URL"] = settings.popularity_url
    bucket_mounts: list[Json] = []
    bucket_volumes: list[Json] = []
    if settings.federation is not None:
        publish |= settings.federation.environment
        bucket_mounts = [{"name": "federation", "mountPath": FEDERATION, "readOnly": True}]
        bucket_volumes = [settings.federation.volume("federation")]
    if settings.bucket_claim:
        bucket_mounts.append({"name": "bucket", "mountPath": urlsplit(settings.bucket).path})
        claim = {"claimName": settings.bucket_claim}
        bucket_volumes.append({"name": "bucket", "persistentVolumeClaim": claim})
    resources = _resources(image, settings)
    fetch = _fetch(image)
    build = {**environment, "NIXIMAGE_BUILD_TIMEOUT": str(_time_of(image))}
    steps: list[Json] = []
    build_mounts: list[Json] = []
    if fetch is not None:
        fetching = {**environment, **fetch.environment, "NIXIMAGE_FETCHED": FETCHED}
        mounts = [{"name": "fetched", "mountPath": FETCHED}, *fetch.mounts]
        steps = [_container(FETCH, fetching, mounts, resources, settings)]
        build["NIXIMAGE_FETCHED"] = FETCHED
        build_mounts = [{"name": "fetched", "mountPath": FETCHED, "readOnly": True}]
    return {
        "restartPolicy": "Never",
        "serviceAccountName": image.spec.build.service_account_name or settings.service_account,
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
        "initContainers": [
            *steps,
            _container(BUILD, build, [*_OF_STORE, *build_mounts], resources, settings),
        ],
        "containers": [
            _container(PUBLISH, publish, [*_OF_STORE, *bucket_mounts], resources, settings)
        ],
        "volumes": [
            *(fetch.volumes if fetch is not None else ()),
            {"name": "nix", **_store(settings)},
            {"name": "work", "emptyDir": {"sizeLimit": "16Mi"}},
            *(
                {"name": f"{kind}-{step}", "emptyDir": {"sizeLimit": limit}}
                for step in (BUILD, PUBLISH)
                for kind, limit in (("home", HOME_LIMIT), ("tmp", settings.resources.scratch_limit))
            ),
            *bucket_volumes,
        ],
        **_placement(image, settings),
    }


def _time_of(image: NixImage) -> int:
    """Seconds of the step `build`: it ends before its Job does, for then its words go with it."""
    whole = int(seconds(image.spec.timeout))
    return whole - min(whole // 5, LAST_WORDS)


def _fetch(image: NixImage) -> _Fetch | None:
    """The step that fetches the source, where `build` may not do that itself."""
    if image.spec.source.volume is not None:
        return _from_volume(image.spec.source.volume.claim_name)
    secret = image.spec.source.secret
    if secret is None:
        return None
    # A Secret that is not there yet must be told of, not waited for without a word.
    credentials = {"secretName": secret, "defaultMode": 0o440, "optional": True}
    return _Fetch(
        environment={"NIXIMAGE_CREDENTIALS": CREDENTIALS, "NIXIMAGE_SECRET": secret},
        mounts=[{"name": "credentials", "mountPath": CREDENTIALS, "readOnly": True}],
        volumes=[
            {"name": "credentials", "secret": credentials},
            *_FETCH_VOLUMES,
        ],
    )


def _from_volume(claim: str) -> _Fetch:
    mounted = {"claimName": claim, "readOnly": True}
    return _Fetch(
        environment={"NIXIMAGE_VOLUME": VOLUME},
        mounts=[{"name": "volume", "mountPath": VOLUME, "readOnly": True}],
        volumes=[{"name": "volume", "persistentVolumeClaim": mounted}, *_FETCH_VOLUMES],
    )


def _placement(image: NixImage, settings: Settings) -> Json:
    """Which nodes the pod may go to; what the class says comes before what the image says."""
    asked = image.spec.build
    given = settings.build_class.spec if settings.build_class is not None else NixBuildClassSpec()
    placement = {
        "nodeSelector": {**asked.node_selector, **given.node_selector},
        "tolerations": [t.to_json() for t in (*asked.tolerations, *given.tolerations)],
        "affinity": {**asked.affinity.to_json(), **given.affinity.to_json()},
        "priorityClassName": asked.priority_class_name or given.priority_class_name,
        "runtimeClassName": given.runtime_class_name,
    }
    return {name: value for name, value in placement.items() if value}


def _resources(image: NixImage, settings: Settings) -> Json:
    """What a step asks for: the image's word, else its class's, else the operator's.

    Nothing exceeds what the class allows: more than that was refused before, where the image
    itself asked for it, and what nobody asked for gives way.
    """
    own = settings.resources
    levels = [image.spec.build.resources]
    most = ResourceList()
    if settings.build_class is not None:
        levels.append(settings.build_class.spec.resources)
        most = settings.build_class.spec.max_resources
    default = ClassResources(
        requests=ResourceList(cpu=own.cpu_request, memory=own.memory_request),
        limits=ResourceList(memory=own.memory_limit),
    )
    merged: dict[str, dict[str, str]] = {"requests": {}, "limits": {}}
    for field in ("cpu", "memory", "ephemeral_storage"):
        spelled = field.replace("_", "-")
        limit = _first([*levels, default], "limits", field)
        limit = _least(limit, getattr(most, field))
        request = _first([*levels, default], "requests", field)
        if request and limit:
            request = _least(request, limit)
        if request:
            merged["requests"][spelled] = request
        if limit:
            merged["limits"][spelled] = limit
    return merged


def _first(levels: Sequence[ClassResources], kind: str, field: str) -> str | None:
    found = (getattr(getattr(level, kind), field) for level in levels)
    return next((quantity for quantity in found if quantity is not None), None)


def _least(one: str | None, other: str | None) -> str | None:
    if one is None or other is None:
        return one or other
    return min(one, other, key=amount)


def _store(settings: Settings) -> Json:
    """The volume that the Nix store lies on."""
    store = settings.build_class.spec.store if settings.build_class is not None else None
    if store is not None and store.ephemeral is not None:
        claim: Json = {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": store.ephemeral.size}},
        }
        if store.ephemeral.storage_class_name:
            claim["storageClassName"] = store.ephemeral.storage_class_name
        return {"ephemeral": {"volumeClaimTemplate": {"spec": claim}}}
    limit = store.empty_dir.size_limit if store and store.empty_dir else None
    return {"emptyDir": {"sizeLimit": limit or settings.resources.store_limit}}


def _container(
    step: str,
    environment: dict[str, str],
    mounts: Sequence[Json],
    resources: Json,
    settings: Settings,
) -> Json:
    return {
        "name": step,
        "image": settings.builder_image,
        "imagePullPolicy": "IfNotPresent",
        "args": ["builder", step],
        "env": [{"name": name, "value": value} for name, value in sorted(environment.items())],
        "resources": resources,
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        "terminationMessagePolicy": "File",
        "volumeMounts": [
            {"name": f"home-{step}", "mountPath": HOME},
            {"name": f"tmp-{step}", "mountPath": "/tmp"},  # noqa: S108 (a volume of its own)
            *mounts,
        ],
    }
