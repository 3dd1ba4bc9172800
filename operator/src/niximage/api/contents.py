"""What an image holds beside its packages, and how its layers are made."""

import base64
from typing import Annotated, Final, Literal, Self

from pydantic import ConfigDict, Field, JsonValue, model_validator

from niximage.api.base import Model, cel, list_map, list_set, worded

FILES_LIMIT: Final = 64
CONTENT_LIMIT: Final = 64 << 10
"""Bytes of all files together: they travel in one environment variable with the request."""

MAX_LAYERS: Final = 64

_FILE_MODE: Final = 0o644
_DIRECTORY_MODE: Final = 0o755
_SYMLINK_MODE: Final = 0o777
_MAX_ID: Final = (1 << 31) - 1
_KINDS: Final = "content, contentBase64, directory and symlink"
_DOTS: Final = "path must have no '.' or '..' in it"
_RESERVED: Final = ("/nix", "/proc", "/sys", "/dev")
_RESERVED_WORDS: Final = "path must not lie in /nix, /proc, /sys or /dev: these are not the image's"
_RUNTIME: Final = ("/etc/hosts", "/etc/hostname", "/etc/resolv.conf")
_RUNTIME_WORDS: Final = "the container runtime provides /etc/hosts, hostname and resolv.conf"
_NO_MODE: Final = "a symlink has no mode"
_TOO_LARGE: Final = f"files may have {CONTENT_LIMIT} bytes together: put more into a package"


class NixpkgsConfig(Model):
    """What nixpkgs' own checks let pass; for sources that take a `config`, as nixpkgs does."""

    allow_unfree: bool = Field(default=False, description="Takes packages with unfree licenses.")
    allow_broken: bool = Field(default=False, description="Takes packages marked as broken.")
    permitted_insecure_packages: Annotated[
        list[
            Annotated[
                str,
                worded(
                    r"^[A-Za-z0-9][A-Za-z0-9+._?=-]*$",
                    "write a package's name and version, for example openssl-1.1.1w",
                ),
                Field(max_length=128),
            ]
        ],
        Field(max_length=64, json_schema_extra=list_set()),
    ] = Field(
        default_factory=list,
        description="Packages that are taken although they are marked as insecure, each by name "
        "and version: `openssl-1.1.1w`.",
    )


class ImageFile(Model):
    """A small file, a directory or a symbolic link; it wins over what a package has there."""

    model_config = ConfigDict(
        json_schema_extra=cel(
            (
                (
                    "[has(self.content), has(self.contentBase64), has(self.directory),"
                    " has(self.symlink)].filter(x, x).size() == 1"
                ),
                f"set exactly one of {_KINDS}",
            ),
            ("!self.path.matches('/[.]{1,2}(/|$)')", _DOTS),
            ("!self.path.matches('^/(nix|proc|sys|dev)(/|$)')", _RESERVED_WORDS),
            (f"!(self.path in {list(_RUNTIME)})", _RUNTIME_WORDS),
            ("!has(self.symlink) || !has(self.mode)", _NO_MODE),
        )
    )

    path: Annotated[
        str,
        worded(
            r"^(/[^/\x00-\x1f\x7f]{1,255})+$",
            "write an absolute path without a slash at its end, for example /etc/motd",
        ),
        Field(max_length=512),
    ] = Field(
        description="Where it is in the image: absolute, without a slash at the end. Directories "
        "above it are made where there are none."
    )
    content: Annotated[str, Field(max_length=CONTENT_LIMIT)] | None = Field(
        default=None, description="The text of a file."
    )
    content_base64: (
        Annotated[
            str,
            Field(
                pattern=r"^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$",
                max_length=CONTENT_LIMIT,
            ),
        ]
        | None
    ) = Field(default=None, description="The bytes of a file, in base64.")
    directory: Literal[True] | None = Field(
        default=None, description="Makes a directory, or gives mode and owner to one that is there."
    )
    symlink: Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]+$", max_length=1024)] | None = Field(
        default=None, description="Where a symbolic link leads."
    )
    mode: (
        Annotated[
            str,
            worded(r"^0?[0-7]{3,4}$", 'write the permission bits in octal, for example "0644"'),
            Field(max_length=5),
        ]
        | None
    ) = Field(
        default=None,
        description='The permission bits in octal, as a string: `"0644"`, which is the default '
        "for files; 0755 for directories.",
    )
    uid: Annotated[int, Field(ge=0, le=_MAX_ID)] = Field(default=0, description="The owner.")
    gid: Annotated[int, Field(ge=0, le=_MAX_ID)] = Field(default=0, description="The group.")

    @property
    def data(self) -> bytes:
        """The bytes of a file; none for the other kinds."""
        if self.content_base64 is not None:
            return base64.b64decode(self.content_base64, validate=True)
        return (self.content or "").encode()

    @property
    def permissions(self) -> int:
        """The mode as a number."""
        if self.mode is not None:
            return int(self.mode, 8)
        if self.symlink is not None:
            return _SYMLINK_MODE
        return _DIRECTORY_MODE if self.directory else _FILE_MODE

    @model_validator(mode="after")
    def _sound(self) -> Self:
        kinds = (self.content, self.content_base64, self.directory, self.symlink)
        if sum(kind is not None for kind in kinds) != 1:
            raise ValueError(f"set exactly one of {_KINDS}")
        if {".", ".."} & set(self.path.split("/")):
            raise ValueError(_DOTS)
        if f"{self.path}/".startswith(tuple(f"{path}/" for path in _RESERVED)):
            raise ValueError(_RESERVED_WORDS)
        if self.path in _RUNTIME:
            raise ValueError(_RUNTIME_WORDS)
        if self.symlink is not None and self.mode is not None:
            raise ValueError(_NO_MODE)
        return self


def image_files() -> dict[str, JsonValue]:
    """Schema extras of the list of files: no path twice, and a bound for all together."""
    size = (
        "has(f.content) ? bytes(f.content).size()"
        " : has(f.contentBase64) ? f.contentBase64.size() : 0"
    )
    rule = f"self.map(f, {size}).sum() <= {CONTENT_LIMIT}"
    return {**list_map("path"), **cel((rule, _TOO_LARGE))}


def check_files(files: list[ImageFile]) -> None:
    """The rules of `image_files`, for files that no API server has seen.

    Raises:
        ValueError: a path comes twice, or the files are too large together.
    """
    paths: set[str] = set()
    for file in files:
        if file.path in paths:
            raise ValueError(f"files has the path {file.path} twice")
        paths.add(file.path)
    if sum(len((f.content or "").encode()) + len(f.content_base64 or "") for f in files) > (
        CONTENT_LIMIT
    ):
        raise ValueError(_TOO_LARGE)


class Layering(Model):
    """How store paths are shared out among layers."""

    max_layers: Annotated[int, Field(ge=1, le=125)] = Field(
        default=MAX_LAYERS, description="The most layers that the image may have."
    )
    strategy: Literal["Auto", "Popularity"] = Field(
        default="Auto",
        description="`Auto` keeps what an update pulls again small. `Popularity` gives layers to "
        "what many packages use, by data that the operator is set up with.",
    )


Compression = Literal["zstd", "gzip"]
"""How layers are compressed."""
