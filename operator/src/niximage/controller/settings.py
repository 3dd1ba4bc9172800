"""What an admin decides about the operator as a whole."""

from dataclasses import dataclass, field
from typing import Final

from niximage.api.build_class import NixBuildClass
from niximage.controller.builds.federation import Federation

EMULATOR: Final = "STORAGE_EMULATOR_HOST"
"""Where a stand-in for Google's storage answers."""
PASSED_ON: Final = frozenset({EMULATOR, "NIXIMAGE_INSECURE_REGISTRIES", "NIXIMAGE_BUCKET_PATIENCE"})
"""Variables of the operator's own environment that the publish step gets, too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What a build pod asks of the cluster, in Kubernetes quantities."""

    cpu_request: str = "250m"
    memory_request: str = "512Mi"
    memory_limit: str = "4Gi"
    store_limit: str = "20Gi"
    scratch_limit: str = "20Gi"  # of each step: sources and what builds; layers on their way


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How the operator builds and where images go.

    Attributes:
        bucket: the bucket's URL, `gs://…` or `file://…`.
        bucket_claim: for `file://`: the PersistentVolumeClaim, in each image's namespace, that
            is mounted at the bucket's path in the publish step.
        registry: host and port that nodes pull from; the first part of `status.image`.
        nixpkgs_url: the Git repository that `source.nixpkgs` means.
        builder_image: the image of the build Job's containers.
        substituters: binary caches, by URL.
        trusted_public_keys: the keys that signed what substituters give.
        local_builds: whether build pods may build what no binary cache has.
        sandbox: whether builds must run in Nix's own sandbox.
        popularity_url: where the data is that the layering strategy Popularity wants; "" where
            there is none.
        service_account: the ServiceAccount of build pods, in each image's namespace.
        publish_environment: more environment for the publish step, which holds credentials.
        federation: how the publish step gets at the bucket without a metadata server.
        workers: how many images are reconciled at once.
        resync_interval: seconds between full lists that repair what a watch missed.
        retry_delay: seconds before the first retry; each further one waits twice as long.
        retry_delay_limit: the longest wait in seconds.
        max_builds: how many builds may run at once.
        max_builds_per_namespace: how many of them in one namespace.
        job_ttl: seconds that a finished Job and its log are kept.
        namespaces: the only ones to look into; none for all.
        lease: the Lease to hold while acting, `namespace/name`; "" acts without one.
        build_class: the class that these settings are of, once one was chosen.
        resources: what a build pod asks for.
    """

    bucket: str
    registry: str
    nixpkgs_url: str
    builder_image: str
    bucket_claim: str = ""
    substituters: tuple[str, ...] = ()
    trusted_public_keys: tuple[str, ...] = ()
    local_builds: bool = True
    sandbox: bool = False
    popularity_url: str = ""
    service_account: str = "default"
    publish_environment: dict[str, str] = field(default_factory=dict)
    federation: Federation | None = None
    workers: int = 8
    resync_interval: float = 600.0
    retry_delay: float = 15.0
    retry_delay_limit: float = 900.0
    max_builds: int = 20
    max_builds_per_namespace: int = 5
    job_ttl: int = 3600
    resources: Resources = field(default_factory=Resources)
    namespaces: tuple[str, ...] = ()
    lease: str = ""
    build_class: NixBuildClass | None = None
