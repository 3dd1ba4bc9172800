"""Where packages come from: one of several kinds of source, each bounded."""

import re
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from niximage.api.base import Model, cel, sound_url, worded
from niximage.api.placement import ObjectName

ATTRIBUTE_PATTERN: Final = r"[A-Za-z_][A-Za-z0-9_'+-]*(\.[A-Za-z0-9_][A-Za-z0-9_'+-]*)*"
COMMIT_PATTERN: Final = r"^([0-9a-f]{40}|[0-9a-f]{64})$"
# No leading dash, so that a ref can never be read as an option of git.
REF_PATTERN: Final = r"^[A-Za-z0-9_][A-Za-z0-9_./+@-]*$"

RefName = Annotated[
    str,
    worded(REF_PATTERN, "write a ref's name; it starts with a letter, a digit or '_'"),
    Field(max_length=255),
]
Commit = Annotated[
    str,
    worded(COMMIT_PATTERN, "write the whole commit: 40 or 64 small hex digits"),
    Field(max_length=64),
]


NarHash = Annotated[
    str,
    worded(
        r"^sha256-[A-Za-z0-9+/]{43}=$",
        "write a hash as Nix does: sha256- and 44 characters of base64",
    ),
    Field(max_length=51),
]

_INSIDE: Final = "path must stay inside the source: no '..'"
_TWO_USERS: Final = "the url has a user of its own: leave it out, or the secretRef"
_OWN_USER: Final = "^https?://[^/]*@"


def _stays_inside(path: str) -> str:
    if ".." in path.split("/"):
        raise ValueError(_INSIDE)
    return path


SourcePath = Annotated[
    str,
    AfterValidator(_stays_inside),
    Field(
        pattern=r"^[^/\x00-\x1f][^\x00-\x1f]*$",
        max_length=512,
        description="The file or folder to import, relative to the source's root.",
        json_schema_extra=cel(
            ("!self.startsWith('/')", "path must be relative to the source's root: no '/' first"),
            ("!self.split('/').exists(p, p == '..')", _INSIDE),
        ),
    ),
]
Attribute = Annotated[
    str,
    worded(rf"^{ATTRIBUTE_PATTERN}$", "write an attribute path such as legacyPackages.tools"),
    Field(max_length=128),
]
_ATTRIBUTE_WORDS: Final = "The attribute of the imported value that holds the packages."

_ONE_KIND: Final = "set exactly one of nixpkgs, git, sourceRef and volume"
_HASH_NEEDS_REVISION: Final = "narHash goes with revision: a channel moves"


class NixpkgsSource(Model):
    """nixpkgs, from the URL that the operator is set up with."""

    model_config = ConfigDict(
        json_schema_extra=cel(
            (
                "has(self.channel) != has(self.revision)",
                "set exactly one of channel and revision",
            ),
            ("!has(self.narHash) || has(self.revision)", _HASH_NEEDS_REVISION),
        )
    )

    channel: (
        Annotated[
            str,
            worded(
                r"^(nixos|nixpkgs)-[a-z0-9.-]+$",
                "write a channel's name, for example nixos-26.05 or nixpkgs-unstable",
            ),
            Field(max_length=64),
        ]
        | None
    ) = Field(default=None, description="A channel branch, for example `nixos-26.05`.")
    revision: Commit | None = Field(default=None, description="A commit of nixpkgs.")
    nar_hash: NarHash | None = Field(
        default=None,
        description="What the revision's files must hash to, as `nix flake metadata` tells it; "
        "a server that gives others is not believed.",
    )

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if (self.channel is None) == (self.revision is None):
            raise ValueError("set exactly one of channel and revision")
        if self.nar_hash is not None and self.revision is None:
            raise ValueError(_HASH_NEEDS_REVISION)
        return self


class GitRef(Model):
    """Which commit of a repository: a branch, a tag, a full ref name, or the commit itself."""

    model_config = ConfigDict(
        json_schema_extra=cel(
            (
                (
                    "[has(self.branch), has(self.tag), has(self.name), has(self.commit)]"
                    ".filter(x, x).size() == 1"
                ),
                "set exactly one of branch, tag, name and commit",
            )
        )
    )

    branch: RefName | None = None
    tag: RefName | None = None
    name: (
        Annotated[
            str,
            worded(
                r"^refs/[A-Za-z0-9_][A-Za-z0-9_./+@-]*$", "write a full name: refs/pull/420/head"
            ),
            Field(max_length=255),
        ]
        | None
    ) = Field(default=None, description="A full ref name, for example `refs/pull/420/head`.")
    commit: Commit | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        given = [x for x in (self.branch, self.tag, self.name, self.commit) if x is not None]
        if len(given) != 1:
            raise ValueError("set exactly one of branch, tag, name and commit")
        return self


class SecretReference(Model):
    """A Secret of the same namespace."""

    name: ObjectName


class GitSource(Model):
    """A package set in a Git repository: a Nix file that nixpkgs' callers could import."""

    model_config = ConfigDict(
        json_schema_extra=cel(
            (f"!has(self.secretRef) || !self.url.matches('{_OWN_USER}')", _TWO_USERS)
        )
    )

    url: Annotated[
        str,
        worded(
            r"^(https?|ssh)://[^\s'\"]+$",
            "write the repository as https://host/path, http://host/path or ssh://user@host/path",
        ),
        Field(max_length=1024),
        AfterValidator(sound_url),
    ]
    ref: GitRef
    path: SourcePath = "."
    attr: Attribute | None = Field(default=None, description=_ATTRIBUTE_WORDS)
    secret_ref: SecretReference | None = Field(
        default=None,
        description="What opens a private repository. For https:// the Secret has `username` and "
        "`password`, or `bearerToken`, with or without `ca.crt`, or that alone; for ssh:// "
        "`identity` and `known_hosts`. A branch or tag is looked up with it only where the "
        "operator was granted to read it; a commit needs no grant.",
    )

    @model_validator(mode="after")
    def _one_user(self) -> Self:
        if self.secret_ref is not None and re.match(_OWN_USER, self.url):
            raise ValueError(_TWO_USERS)
        return self


class FluxSource(Model):
    """An object of Flux in the same namespace, whose artifact holds a package set."""

    api_version: Literal["source.toolkit.fluxcd.io/v1"] = "source.toolkit.fluxcd.io/v1"
    kind: Literal["GitRepository", "ExternalArtifact"]
    name: ObjectName
    path: SourcePath = "."
    attr: Attribute | None = Field(default=None, description=_ATTRIBUTE_WORDS)

    def __str__(self) -> str:
        return f"{self.kind}/{self.name}"


class VolumeSource(Model):
    """A package set on a volume of the same namespace, mounted for reading alone."""

    claim_name: ObjectName = Field(description="The PersistentVolumeClaim.")
    revision: Annotated[
        str,
        worded(
            r"^[A-Za-z0-9_][A-Za-z0-9._+@:/-]*$",
            "write a word of letters, digits and '._+@:/-' that does not start with a sign",
        ),
        Field(max_length=64),
    ] = Field(
        default="0",
        description="What you call the content as it is now. Nobody looks into a volume before a "
        "build: change this when the content changed.",
    )
    path: SourcePath = "."
    attr: Attribute | None = Field(default=None, description=_ATTRIBUTE_WORDS)


class Source(Model):
    """Where the packages come from: exactly one kind; there is no default."""

    model_config = ConfigDict(
        json_schema_extra=cel(
            (
                (
                    "[has(self.nixpkgs), has(self.git), has(self.sourceRef), has(self.volume)]"
                    ".filter(x, x).size() == 1"
                ),
                _ONE_KIND,
            )
        )
    )

    nixpkgs: NixpkgsSource | None = None
    git: GitSource | None = None
    source_ref: FluxSource | None = None
    volume: VolumeSource | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        kinds = (self.nixpkgs, self.git, self.source_ref, self.volume)
        if sum(kind is not None for kind in kinds) != 1:
            raise ValueError(_ONE_KIND)
        return self

    @property
    def path(self) -> str:
        """The file or folder to import."""
        found = self.git or self.source_ref or self.volume
        return found.path if found is not None else "."

    @property
    def attr(self) -> str | None:
        """The attribute that holds the packages."""
        found = self.git or self.source_ref or self.volume
        return found.attr if found is not None else None

    @property
    def secret(self) -> str | None:
        """The name of the Secret that opens it, if it takes one."""
        secret_ref = self.git.secret_ref if self.git is not None else None
        return secret_ref.name if secret_ref is not None else None
