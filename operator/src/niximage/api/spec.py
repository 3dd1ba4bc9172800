"""The spec of a NixImage: what users write. Every field is bounded.

Bounds stand here once; the CRD, the API server and the command line all take them from here.
A rule that spans fields stands twice, as CEL for the API server and as a validator for
files, and a test holds the two together.
"""

from typing import Annotated, Final, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from niximage.api.base import (
    DURATION_PATTERN,
    Duration,
    Model,
    cel,
    list_map,
    list_set,
    seconds,
    worded,
)
from niximage.api.base_image import Base
from niximage.api.contents import (
    FILES_LIMIT,
    Compression,
    ImageFile,
    Layering,
    NixpkgsConfig,
    check_files,
    image_files,
)
from niximage.api.placement import BuildSettings
from niximage.api.platforms import DEFAULT_PLATFORM, Platforms
from niximage.api.source import ATTRIBUTE_PATTERN, Source

SHA256_PATTERN: Final = r"^sha256:[0-9a-f]{64}$"
PACKAGE_PATTERN: Final = rf"^{ATTRIBUTE_PATTERN}(\^(\*|[a-z][A-Za-z0-9_]*(,[a-z][A-Za-z0-9_]*)*))?$"

MIN_INTERVAL: Final = 60  # seconds
MAX_INTERVAL: Final = 744 * 3600
MIN_TIMEOUT: Final = 30
MAX_TIMEOUT: Final = 24 * 3600

Package = Annotated[
    str,
    worded(
        PACKAGE_PATTERN,
        "write an attribute path such as python3Packages.requests, without a version; "
        "openssl^bin,out selects outputs",
    ),
    Field(
        max_length=128,
        description="An attribute path such as `python3Packages.requests`; "
        "`openssl^bin,out` selects outputs, `openssl^*` all of them.",
    ),
]
Argument = Annotated[str, Field(max_length=4096)]
AbsolutePath = Annotated[
    str,
    worded(r"^/[^\x00-\x1f]*$", "write an absolute path, for example /srv/data"),
    Field(max_length=1024),
]


class EnvironmentVariable(Model):
    """One variable of the image's environment."""

    name: Annotated[
        str,
        worded(
            r"^[A-Za-z_][A-Za-z0-9_.-]*$",
            "write a variable's name: letters, digits, '_', '.' and '-', a letter or '_' first",
        ),
        Field(max_length=255),
    ]
    value: Annotated[str, Field(max_length=8192)] = ""


class Config(Model):
    """The image's configuration, as OCI names it: what a container does when nothing is said."""

    entrypoint: Annotated[list[Argument], Field(max_length=64)] | None = None
    cmd: Annotated[list[Argument], Field(max_length=64)] | None = None
    env: Annotated[
        list[EnvironmentVariable],
        Field(
            max_length=128,
            json_schema_extra=list_map("name"),
        ),
    ] = Field(default_factory=list)
    working_dir: AbsolutePath | None = None
    user: (
        Annotated[
            str,
            worded(
                r"^([0-9]{1,10}|[a-z_][a-z0-9_-]*)(:([0-9]{1,10}|[a-z_][a-z0-9_-]*))?$",
                'write a user as "1000", "1000:1000" or app:app, in small letters',
            ),
            Field(max_length=80),
        ]
        | None
    ) = Field(
        default=None,
        description="`user` or `user:group`, by name or number. It gets a home and entries in "
        "/etc/passwd and /etc/group. Kubernetes' `runAsNonRoot` wants a number.",
    )
    exposed_ports: Annotated[
        list[
            Annotated[
                str,
                worded(r"^[0-9]{1,5}(/(tcp|udp|sctp))?$", 'write a port as "8080" or 53/udp'),
                Field(max_length=10),
            ]
        ],
        Field(max_length=64, json_schema_extra=list_set()),
    ] = Field(default_factory=list)
    volumes: Annotated[
        list[AbsolutePath],
        Field(max_length=32, json_schema_extra=list_set()),
    ] = Field(default_factory=list)
    labels: Annotated[dict[str, Annotated[str, Field(max_length=4096)]], Field(max_length=64)] = (
        Field(default_factory=dict)
    )
    stop_signal: (
        Annotated[
            str,
            worded(
                r"^(SIG[A-Z0-9+-]{2,12}|[0-9]{1,2})$", "write a signal as SIGINT, or its number"
            ),
            Field(max_length=16),
        ]
        | None
    ) = None
    created: Literal["Epoch", "SourceTimestamp"] = Field(
        default="Epoch",
        description="The time that the image says it was made: `Epoch` is 1970, so that a source "
        "which moves without touching the packages leaves the digest as it is; "
        "`SourceTimestamp` is the time of the source's commit.",
    )


class Output(Model):
    """Where the image goes."""

    repository: (
        Annotated[
            str,
            worded(
                r"^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*$",
                "write one name without slashes: small letters, digits, '.', '_' and '-' between; "
                "the namespace comes before it by itself",
            ),
            Field(min_length=1, max_length=128),
        ]
        | None
    ) = Field(
        default=None,
        description="The repository below the namespace's name; the NixImage's name by default. "
        "Cannot be changed later.",
    )
    tags: Annotated[
        list[
            Annotated[
                str,
                worded(
                    r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$",
                    "write a tag: letters, digits, '_', '.' and '-', at most 128",
                ),
                Field(max_length=128),
            ]
        ],
        Field(max_length=10, json_schema_extra=list_set()),
    ] = Field(
        default_factory=list,
        description="Further names of the latest image in its repository; each moves to a new "
        "image when that is published. A tag that is taken off this list stays where it is.",
    )
    expected_digest: (
        Annotated[
            str,
            worded(SHA256_PATTERN, "write a digest as sha256: and 64 small hex digits"),
            Field(max_length=71),
        ]
        | None
    ) = Field(
        default=None,
        description="The digest that the image must have; any other is not taken, and stalls.",
    )
    config_map: bool = Field(
        default=False,
        description="Publishes a ConfigMap `<name>-image` with `image`, `digest` and `revision`, "
        "for Flux's `substituteFrom` and for all who cannot read a status. It belongs to the "
        "NixImage, has the label `reconcile.fluxcd.io/watch: Enabled`, and changes only when the "
        "digest does.",
    )
    deletion_policy: Literal["Retain", "Delete"] = Field(
        default="Retain",
        description="What becomes of the repository when the NixImage is deleted: `Retain` leaves "
        "its images and tags; `Delete` removes them first, and garbage collection their layers. "
        "What other NixImages publish to the same repository stays. Meanwhile the NixImage has "
        "the finalizer `niximage.dev/repository`.",
    )


class NixImageSpec(Model):
    """What a NixImage asks for: packages, and a source to take them from."""

    model_config = ConfigDict(
        json_schema_extra=cel(
            (
                (
                    "(has(self.output) && has(self.output.repository)"
                    " ? self.output.repository : '') == "
                    "(has(oldSelf.output) && has(oldSelf.output.repository)"
                    " ? oldSelf.output.repository : '')"
                ),
                "output.repository cannot be changed: create a new NixImage instead",
            ),
            (
                (
                    f"!has(self.interval) || !self.interval.matches('{DURATION_PATTERN}')"
                    " || (duration(self.interval) >= duration('1m')"
                    " && duration(self.interval) <= duration('744h'))"
                ),
                "interval must be between 1m and 744h",
            ),
            (
                (
                    f"!has(self.timeout) || !self.timeout.matches('{DURATION_PATTERN}')"
                    " || (duration(self.timeout) >= duration('30s')"
                    " && duration(self.timeout) <= duration('24h'))"
                ),
                "timeout must be between 30s and 24h",
            ),
        )
    )

    packages: Annotated[
        list[Package],
        Field(min_length=1, max_length=128, json_schema_extra=list_set()),
    ]
    source: Source
    interval: Duration = Field(
        default="10m", description="How often a moving source is looked up again, 1m to 744h."
    )
    timeout: Duration = Field(default="1h", description="How long one build may take, 30s to 24h.")
    concurrency_policy: Literal["Replace", "Forbid"] = Field(
        default="Replace",
        description="What becomes of a build when the spec or the source changes under it: "
        "`Replace` ends it for the new one, `Forbid` lets it finish first.",
    )
    suspend: bool = Field(
        default=False,
        description="Stops looking at the source and starting builds; a running build finishes.",
    )
    platforms: Platforms = Field(
        default=[DEFAULT_PLATFORM],
        description="What the image runs on. More than one gives an image index under one digest. "
        "Packages for a platform other than the build node's come from binary caches alone, so "
        "no node of it is needed; one that no cache has stalls the image.",
    )
    base: Base | None = None
    nixpkgs_config: NixpkgsConfig = NixpkgsConfig()
    config: Config = Config()
    files: Annotated[
        list[ImageFile], Field(max_length=FILES_LIMIT, json_schema_extra=image_files())
    ] = Field(
        default_factory=list,
        description="Small files, directories and symbolic links, put in after the packages.",
    )
    nix_database: bool = Field(
        default=False,
        description="Registers the image's store paths in a Nix database of its own, so that Nix "
        "works inside the image.",
    )
    layering: Layering = Layering()
    compression: Compression = Field(
        default="zstd",
        description="Of layers: `zstd`, or `gzip` for runtimes older than containerd 1.5.",
    )
    output: Output = Output()
    build: BuildSettings = BuildSettings()
    successful_builds_history_limit: Annotated[int, Field(ge=0, le=10)] = Field(
        default=3, description="How many builds that succeeded `status.history` tells of."
    )
    failed_builds_history_limit: Annotated[int, Field(ge=0, le=10)] = Field(
        default=3, description="How many builds that failed `status.history` tells of."
    )

    @model_validator(mode="after")
    def _files_in_bounds(self) -> Self:
        check_files(self.files)
        return self

    @model_validator(mode="after")
    def _durations_in_bounds(self) -> Self:
        if not MIN_INTERVAL <= seconds(self.interval) <= MAX_INTERVAL:
            raise ValueError("interval must be between 1m and 744h")
        if not MIN_TIMEOUT <= seconds(self.timeout) <= MAX_TIMEOUT:
            raise ValueError("timeout must be between 30s and 24h")
        return self
