"""What passes between the operator and the steps of a build Job.

    operator ──BuildRequest──▶ build ──BuildOutputs──▶ publish ──PublishResult──▶ operator
                                 └────────BuildFailure─────┴──────────────────────▶

A request travels as an environment variable, outputs as a file on the pod's own volume, and
results as termination messages, which the kubelet cuts at 4096 bytes. Whatever comes back
from `build` ran code that tenants wrote: it is parsed strictly, bounded, and believed in
nothing but its own namespace's affairs.
"""

import base64
import re
from typing import Annotated, Any, Final, Literal, Self, TypeVar

import pydantic
from pydantic import ConfigDict, Field, model_validator

from niximage.api.base import Model
from niximage.api.base_image import REGISTRY_REPOSITORY_PATTERN, split_image
from niximage.api.canonical import canonical_hash, canonical_json
from niximage.api.contents import FILES_LIMIT, Compression, ImageFile, Layering, NixpkgsConfig
from niximage.api.image import NixImage, explain
from niximage.api.platforms import DEFAULT_PLATFORM, SYSTEMS, Platform, Platforms, in_order
from niximage.api.source import COMMIT_PATTERN, NarHash
from niximage.api.spec import SHA256_PATTERN, Config, NixImageSpec, Package
from niximage.errors import NixImageError, Reason, Retryable, Terminal, plain_text

BUILDER_VERSION: Final = 1
"""Raised whenever the same inputs would give another image: part of every input hash."""

MESSAGE_LIMIT: Final = 3072  # bytes of a failure's JSON, well below the kubelet's 4096
RESULT_LIMIT: Final = 1024  # bytes of a result's JSON
REQUEST_LIMIT: Final = 120 << 10  # bytes of a request's JSON: Linux ends a variable at 128 KiB

LAYERS_LIMIT: Final = 128 * len(SYSTEMS)  # of an image for all platforms together
TIME_LIMIT: Final = 253_402_300_799  # seconds since 1970: the end of the year 9999

STORE_PATH_PATTERN: Final = r"^/nix/store/[0-9a-df-np-sv-z]{32}-[0-9A-Za-z+._?=-]{1,211}$"

SHORT: Final = 12  # digits of a revision that people read
_COMMIT_AT_END: Final = re.compile(r"(?:^|@)sha(?:1|256):([0-9a-f]{40,64})$")

Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Digest = Annotated[str, Field(pattern=SHA256_PATTERN)]
StorePath = Annotated[str, Field(pattern=STORE_PATH_PATTERN)]


class Strict(Model):
    """A document between programs of one version: what is unknown is wrong."""

    model_config = ConfigDict(extra="forbid")


_Document = TypeVar("_Document", bound=Strict)


class PinnedSource(Strict):
    """A source at one revision: the same bytes for ever."""

    kind: Literal["git", "folder", "artifact", "volume"] = Field(
        default="git",
        description="A repository, a folder of this machine, an archive that is downloaded, or a "
        "volume of the pod.",
    )
    url: Annotated[str, Field(max_length=1024)]
    ref: Annotated[str, Field(max_length=300)] = Field(
        default="",
        description="What had the revision: a full ref, an object of Flux, a claim of a volume, or "
        "empty for a commit.",
    )
    revision: Annotated[str, Field(pattern=r"^[^\s\x00-\x1f]+$", max_length=300)]
    digest: Digest | None = Field(default=None, description="Of an archive: what is believed.")
    origin: Annotated[str, Field(max_length=1024)] = Field(
        default="", description="Of an archive: the repository that it was made from, if known."
    )
    path: Annotated[str, Field(max_length=512)] = "."
    attr: Annotated[str, Field(max_length=128)] | None = None
    nar_hash: NarHash | None = None

    @model_validator(mode="after")
    def _pins(self) -> Self:
        if (self.kind == "artifact") != (self.digest is not None):
            raise ValueError("an artifact is pinned by its digest, and nothing else is")
        if self.kind in {"git", "folder"} and not re.match(COMMIT_PATTERN, self.revision):
            raise ValueError("the revision is no commit")
        return self

    @property
    def identity(self) -> dict[str, Any]:
        """What the bytes and the place in them depend on: part of every key made from them."""
        place = {"path": self.path, "attr": self.attr}
        if self.kind == "artifact":
            # A revision that changes nothing in the archive builds nothing anew.
            return {"artifact": self.digest, **place}
        if self.kind == "volume":
            return {"volume": self.ref, "revision": self.revision, **place}
        return {"revision": self.revision, **place}

    @property
    def is_fixed(self) -> bool:
        """Whether the pin says what the bytes are; of a volume only its user says so."""
        return self.kind != "volume"

    @property
    def short_revision(self) -> str:
        """The digits of the revision that people read."""
        found = _COMMIT_AT_END.search(self.revision)
        return (found[1] if found is not None else self.revision)[:SHORT]


class PinnedBase(Strict):
    """The image to build upon: of this bucket, or of any registry."""

    repository: Annotated[str, Field(max_length=255)] | None = None
    image: Annotated[str, Field(pattern=REGISTRY_REPOSITORY_PATTERN, max_length=512)] | None = None
    digest: Digest

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if (self.repository is None) == (self.image is None):
            raise ValueError("set exactly one of repository and image")
        return self

    @classmethod
    def of_registry(cls, image: str) -> Self:
        """The base that `spec.base.image` names."""
        repository, digest = split_image(image)
        return cls(image=repository, digest=digest)

    def __str__(self) -> str:
        return f"{self.image or self.repository}@{self.digest}"


class BuiltPackage(Strict):
    """The store paths of one requested package's selected outputs."""

    attribute: Annotated[str, Field(max_length=128)]
    outputs: Annotated[dict[str, StorePath], Field(min_length=1, max_length=32)]


class BuildOutputs(Strict):
    """What `build` hands to `publish`: for each platform its packages."""

    v: Literal[1] = 1
    packages: Annotated[
        dict[Platform, Annotated[list[BuiltPackage], Field(min_length=1, max_length=128)]],
        Field(min_length=1, max_length=len(SYSTEMS)),
    ]
    source_time: Annotated[int, Field(ge=0, le=TIME_LIMIT)] = Field(
        default=0, description="When the source's revision was committed, in seconds since 1970."
    )


class BuildRequest(Strict):
    """All that a build Job has to know."""

    v: Literal[1] = 1
    namespace: Annotated[str, Field(max_length=63)]
    repository: Annotated[str, Field(max_length=255)]
    input_hash: Hash
    platforms: Platforms = Field(default=[DEFAULT_PLATFORM])
    packages: Annotated[list[Package], Field(min_length=1, max_length=128)]
    source: PinnedSource
    base: PinnedBase | None = None
    config: Config
    nixpkgs_config: NixpkgsConfig = NixpkgsConfig()
    files: Annotated[list[ImageFile], Field(max_length=FILES_LIMIT)] = Field(default_factory=list)
    nix_database: bool = False
    layering: Layering = Layering()
    compression: Compression = "zstd"
    asked_at: Annotated[int, Field(ge=0, lt=1 << 63)] | None = Field(
        default=None,
        description="When this build was asked for, in nanoseconds since 1970: its tag stays "
        "where a later one has moved it.",
    )
    known: BuildOutputs | None = Field(
        default=None,
        description="What earlier builds evaluated these packages to, for all platforms or some; "
        "of use where binary caches have all of it.",
    )

    @classmethod
    def of(
        cls,
        image: NixImage,
        source: PinnedSource,
        base: PinnedBase | None = None,
        *,
        asked_at: int | None = None,
    ) -> Self:
        """What a build of this image has to know.

        Args:
            image: what to build.
            source: its source, pinned.
            base: its base, pinned; None exactly where the spec has none.
            asked_at: when it was asked for, in nanoseconds since 1970; None where no other
                build of it can be under way.
        """
        spec = image.spec
        return cls(
            namespace=image.metadata.namespace,
            repository=image.repository,
            input_hash=input_hash(image, source, base),
            platforms=in_order(spec.platforms),
            packages=spec.packages,
            source=source,
            base=base,
            config=spec.config,
            nixpkgs_config=spec.nixpkgs_config,
            files=spec.files,
            nix_database=spec.nix_database,
            layering=spec.layering,
            compression=spec.compression,
            asked_at=asked_at,
        )

    def knowing(self, known: BuildOutputs | None) -> Self:
        """The request with what was evaluated before, as far as an environment variable has room.

        Args:
            known: what earlier builds evaluated the packages to.
        """
        request = self
        if known is None:
            return request
        kept: dict[Platform, list[BuiltPackage]] = {}
        for platform, packages in known.packages.items():
            more = known.model_copy(update={"packages": {**kept, platform: packages}})
            larger = self.model_copy(update={"known": more})
            if len(canonical_json(larger.to_json())) <= REQUEST_LIMIT:
                kept, request = more.packages, larger
        return request

    def to_variable(self) -> str:
        """The request as an environment variable's value.

        Raises:
            Terminal: it is longer than REQUEST_LIMIT.
        """
        data = canonical_json(self.to_json())
        if len(data) > REQUEST_LIMIT:
            raise Terminal(
                Reason.INVALID_SPEC,
                f"the spec has {len(data)} bytes; a build takes at most {REQUEST_LIMIT}",
                hint="Shorten spec.config or spec.files: put large values into a package instead",
            )
        return data.decode()


class PublishResult(Strict):
    """What `publish` reports, at most 1 KiB; the operator checks it against the bucket.

    Counts are of all platforms together, a layer that they share counted once.
    """

    v: Literal[1] = 1
    input_hash: Hash
    repository: Annotated[str, Field(max_length=255)]
    digest: Digest
    layers: Annotated[int, Field(ge=0, le=LAYERS_LIMIT)]
    size: Annotated[int, Field(ge=0)]
    reused_layers: Annotated[int, Field(ge=0, le=LAYERS_LIMIT)]
    reused_size: Annotated[int, Field(ge=0)]

    def to_message(self) -> bytes:
        """The result as a termination message: all fields are bounded, so it always fits."""
        return canonical_json(self.to_json())


class BuildFailure(Strict):
    """Why a step failed, as its termination message says."""

    v: Literal[1] = 1
    reason: Reason
    message: str
    retryable: bool = False
    derivation: str = ""
    log_tail: str = ""

    @classmethod
    def from_error(cls, error: NixImageError) -> Self:
        """The failure that tells of an error, cut to what a termination message holds."""
        return cls(
            reason=error.reason,
            message=plain_text(str(error), 900),
            retryable=isinstance(error, Retryable),
            derivation=plain_text(error.derivation, 256),
            log_tail=plain_text(error.log_tail, 2048, keep="end"),
        )

    def to_message(self) -> bytes:
        """The failure as a termination message; the log gives way where JSON's escapes swell."""
        failure = self
        while len(data := canonical_json(failure.to_json())) > MESSAGE_LIMIT:
            half = len(failure.log_tail.encode()) // 2
            failure = failure.model_copy(
                update={"log_tail": plain_text(failure.log_tail, half, keep="end")}
                if half
                else {"message": plain_text(failure.message, len(failure.message) // 2)}
            )
        return data


def read_message(model: type[_Document], data: str | bytes, limit: int) -> _Document:
    """Read a document that came out of a pod.

    Raises:
        Retryable: missing, too large, not JSON, or not of this shape.
    """
    if not data or len(data) > limit:
        raise Retryable(
            Reason.RESULT_INVALID,
            f"the build pod's message has {len(data)} bytes; 1 to {limit} are allowed",
        )
    try:
        return model.model_validate_json(data)
    except pydantic.ValidationError as error:
        raise Retryable(
            Reason.RESULT_INVALID, f"the build pod's message is malformed: {explain(error)}"
        ) from None


_NO_SHAPE: Final = (
    # Known by what they are pinned to.
    "source",
    "base",
    # Known as the systems that they are.
    "platforms",
    # About when, where and how builds run, and what becomes of their image.
    "build",
    "concurrencyPolicy",
    "failedBuildsHistoryLimit",
    "interval",
    "output",
    "successfulBuildsHistoryLimit",
    "suspend",
    "timeout",
)


def input_hash(image: NixImage, source: PinnedSource, base: PinnedBase | None = None) -> str:
    """The key of an image: equal exactly when the same image would come out.

    The URL and the ref are not part of it: the revision alone says what the bytes are, so a
    mirror, or a branch that meets a tag, builds nothing anew. Of the base its digest counts.
    One platform is spelled as ever, so that images of before are known; several are a list.
    """
    assert (base is None) == (image.spec.base is None)
    systems = [SYSTEMS[platform] for platform in in_order(image.spec.platforms)]
    document: dict[str, Any] = {
        "v": 1,
        "builder": BUILDER_VERSION,
        "system": systems if len(systems) > 1 else systems[0],
        "source": source.identity,
        "base": base and base.digest,
        "image": _shape(image.spec),
    }
    if source.nar_hash is not None:
        # What was built without the check is no answer to who asks for it.
        document["source"]["narHash"] = source.nar_hash
    return canonical_hash(document)


def _shape(spec: NixImageSpec) -> dict[str, Any]:
    """The parts of a spec that shape the image, spelled alike where they mean the same."""
    shape = spec.to_json()
    for other in _NO_SHAPE:
        shape.pop(other, None)
    shape["packages"] = sorted(spec.packages)
    for where, field in (
        (shape["config"], "exposedPorts"),
        (shape["config"], "volumes"),
        (shape["nixpkgsConfig"], "permittedInsecurePackages"),
    ):
        where[field] = sorted(where[field])
    shape["files"] = [_file(file) for file in sorted(spec.files, key=lambda file: file.path)]
    return shape


def _file(file: ImageFile) -> dict[str, Any]:
    return {
        "path": file.path,
        "mode": file.permissions,
        "owner": [file.uid, file.gid],
        "directory": bool(file.directory),
        "symlink": file.symlink,
        "content": None if file.directory or file.symlink else base64.b64encode(file.data).decode(),
    }
