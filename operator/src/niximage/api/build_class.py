"""A NixBuildClass: what an admin decides about builds, as a StorageClass does about volumes.

It says which binary caches are trusted, which sources may be used, what a build pod is like
and how many may run. The class annotated as default serves images that name none; without
any class the operator's own settings do. What a class leaves out is as the operator is set up.
"""

from typing import Annotated, Final, Literal, Self
from urllib.parse import unquote, urlsplit

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from niximage.api.base import (
    API_VERSION,
    Duration,
    Model,
    cel,
    list_set,
    sound_url,
    worded,
)
from niximage.api.image import Metadata
from niximage.api.placement import (
    Affinity,
    NodeSelector,
    ObjectName,
    Quantity,
    ResourceList,
    Resources,
    Tolerations,
)

CLASS_KIND: Final = "NixBuildClass"
CLASS_PLURAL: Final = "nixbuildclasses"
DEFAULT_CLASS: Final = "niximage.dev/is-default-class"
"""The annotation that makes a class serve images that name none; its value is "true"."""

_ONE_STORE: Final = "set exactly one of emptyDir and ephemeral"

Url = Annotated[
    str,
    worded(
        r"^(https?|ssh|file|s3|gs)://[^\s'\"]+$",
        "write a URL with its scheme, for example https://cache.nixos.org",
    ),
    Field(max_length=1024),
    AfterValidator(sound_url),
]
HttpUrl = Annotated[
    str,
    worded(
        r"^https?://[^\s'\"?#@/]+(/[^\s'\"?#@/]+)+$",
        "write an https:// URL of a file, without credentials, query and fragment",
    ),
    Field(max_length=1024),
]
PublicKey = Annotated[
    str,
    worded(
        r"^[A-Za-z0-9._-]+:[A-Za-z0-9+/]{43}=$",
        "write a key as Nix does: its name, a colon, and 44 characters of base64",
    ),
    Field(max_length=192),
]


class EmptyDirStore(Model):
    """A store on the node's own disk."""

    size_limit: Quantity = "20Gi"


class EphemeralStore(Model):
    """A store on a volume that is made for each build and goes with it."""

    storage_class_name: ObjectName | None = None
    size: Quantity


class StoreVolume(Model):
    """Where a build's Nix store lies while it runs."""

    model_config = ConfigDict(
        json_schema_extra=cel(("has(self.emptyDir) != has(self.ephemeral)", _ONE_STORE))
    )

    empty_dir: EmptyDirStore | None = None
    ephemeral: EphemeralStore | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if (self.empty_dir is None) == (self.ephemeral is None):
            raise ValueError(_ONE_STORE)
        return self


class NixBuildClassSpec(Model):
    """What holds for every build of the class."""

    substituters: (
        Annotated[list[Url], Field(max_length=16, json_schema_extra=list_set())] | None
    ) = Field(default=None, description="Binary caches, by URL; an empty list for none.")
    trusted_public_keys: (
        Annotated[list[PublicKey], Field(max_length=32, json_schema_extra=list_set())] | None
    ) = Field(default=None, description="The keys that sign what binary caches give.")
    local_builds: Literal["Allowed", "Forbidden"] | None = Field(
        default=None,
        description="Whether builds may build what no binary cache has.",
    )
    sandbox: Literal["Preferred", "Required"] | None = Field(
        default=None,
        description="Whether builds must run in Nix's own sandbox, which a plain pod of the "
        "Restricted profile cannot make. `Required` wants a `runtimeClassName` whose pods can, and "
        "stalls images with `SandboxUnavailable` where they cannot. `Preferred` uses it where it "
        "can be had; else the pod, which is thrown away after the build, is the wall.",
    )
    nixpkgs_url: Url | None = Field(
        default=None,
        alias="nixpkgsURL",
        description="The Git repository that `source.nixpkgs` means.",
    )
    popularity_url: HttpUrl | None = Field(
        default=None,
        alias="popularityURL",
        description="Where the data is that `spec.layering.strategy: Popularity` wants: a JSON "
        "object of package names and counts, as Nixery has it, up to 16 MiB.",
    )
    allowed_sources: (
        Annotated[list[Url], Field(max_length=64, json_schema_extra=list_set())] | None
    ) = Field(
        default=None,
        description="The repositories that `source.git` may name: a URL that ends in a slash "
        "allows all below it. All are allowed by default; nixpkgs always is. Of `source.sourceRef` "
        "counts the URL that a GitRepository follows, or where an ExternalArtifact is. With this "
        "list no `source.volume` is allowed.",
    )
    builder_image: Annotated[str, Field(pattern=r"^[^\s]+$", max_length=512)] | None = Field(
        default=None, description="The image of build pods."
    )
    service_account_name: ObjectName | None = None
    resources: Resources = Field(
        default=Resources(), description="What builds get that ask for nothing themselves."
    )
    max_resources: ResourceList = Field(
        default=ResourceList(), description="The most that the limits of a build may be."
    )
    max_timeout: Duration | None = Field(
        default=None, description="The most that `spec.timeout` may be."
    )
    node_selector: NodeSelector = Field(
        default_factory=dict, description="Wins over the image's where both name a label."
    )
    tolerations: Tolerations = Field(
        default_factory=list, description="Added to those of the image."
    )
    affinity: Affinity = Field(
        default=Affinity(),
        description="As in a pod; of each kind that it names it comes in place of the image's.",
    )
    priority_class_name: ObjectName | None = None
    runtime_class_name: ObjectName | None = Field(
        default=None, description="For example that of gVisor or Kata Containers."
    )
    store: StoreVolume | None = None
    max_builds: Annotated[int, Field(ge=1, le=10000)] | None = Field(
        default=None, description="How many builds of this class may run at once."
    )
    max_builds_per_namespace: Annotated[int, Field(ge=1, le=10000)] | None = Field(
        default=None, description="How many of them in one namespace."
    )


class ClassMetadata(Metadata):
    """The metadata of an object that belongs to no namespace."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$", max_length=253)]


class NixBuildClass(Model):
    """How builds run, decided by an admin: caches, sources, pods, caps."""

    api_version: str = API_VERSION
    kind: str = CLASS_KIND
    metadata: ClassMetadata
    spec: NixBuildClassSpec = NixBuildClassSpec()

    @property
    def is_default(self) -> bool:
        """Whether it serves images that name no class."""
        return self.metadata.annotations.get(DEFAULT_CLASS) == "true"

    def allows(self, url: str) -> bool:
        """Whether an image may take its packages from a repository."""
        allowed = self.spec.allowed_sources
        return allowed is None or any(_covers(pattern, url) for pattern in allowed)


def _covers(pattern: str, url: str) -> bool:
    """Whether a URL is one allowed URL, or lies below it; hosts are told apart exactly."""
    if not pattern.endswith("/"):
        return url in {pattern, f"{pattern}.git"}
    try:
        ours, theirs = urlsplit(pattern), urlsplit(url)
    except ValueError:  # what an object of Flux follows was never looked at here
        return False
    # Compared in parts: a prefix of the text alone would take user:password@ for a host.
    same = (ours.scheme, ours.netloc) == (theirs.scheme, theirs.netloc)
    # Some servers decode a path before they look at its dots.
    climbs = ".." in unquote(theirs.path).split("/")
    return same and theirs.path.startswith(ours.path) and not climbs
