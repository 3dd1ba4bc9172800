"""The closure of an image, written down: what is in it, how large, and what refers to what.

The image itself tells none of this. The document goes beside it, as an artifact that refers to
it, so that whoever can pull the image can ask why something is in it. Like the image it depends
on nothing but its inputs: no revision, no time.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, Literal, Self

import pydantic
import zstandard
from pydantic import Field, model_validator

from niximage.api.build import BuiltPackage, Strict
from niximage.api.canonical import canonical_json
from niximage.errors import Reason, Retryable
from niximage.image.closure import PATH_LIMIT, STORE, Closure, PathInfo

ARTIFACT: Final = "application/vnd.niximage.closure.v1"
MEDIA_TYPE: Final = f"{ARTIFACT}+json+zstd"
FILE_NAME: Final = "closure.json.zst"
LIMIT: Final = 64 << 20  # bytes of JSON: more than 100,000 paths of the longest names take
WRITTEN_LIMIT: Final = 32 << 20  # and compressed

_LEVEL: Final = 3
_LAYERS: Final = 4096


class ClosurePath(Strict):
    """One store path.

    Attributes:
        name: it without `/nix/store/`.
        nar_hash: the SHA-256 of its NAR in SRI form.
        nar_size: bytes of its NAR.
        references: the paths that it refers to, by their places in the list; not itself.
        layer: which layer has it, from the lowest, 0; None for one of a base that does not tell.
    """

    name: Annotated[
        str, Field(pattern=r"^[0-9a-df-np-sv-z]{32}-[0-9A-Za-z+._?=-]{1,211}$", max_length=244)
    ]
    nar_hash: Annotated[str, Field(pattern=r"^sha256-[0-9A-Za-z+/]{43}=$")]
    nar_size: Annotated[int, Field(ge=0)]
    references: list[Annotated[int, Field(ge=0, lt=PATH_LIMIT)]] = Field(default_factory=list)
    layer: Annotated[int, Field(ge=0, lt=_LAYERS)] | None = None


class ClosureDocument(Strict):
    """The closure of an image for one platform.

    Attributes:
        system: what it runs on, as Nix says it.
        base: what it is built upon, `repository@digest`; that may hold more store paths.
        packages: what was asked for, with the store paths of its outputs.
        paths: every store path that the packages need, in the order of their names.
    """

    v: Literal[1] = 1
    kind: Literal["closure"] = "closure"
    system: Annotated[str, Field(pattern=r"^[a-z0-9_]+-[a-z0-9]+$", max_length=32)]
    base: Annotated[str, Field(max_length=600)] | None = None
    packages: Annotated[list[BuiltPackage], Field(max_length=128)]
    paths: Annotated[list[ClosurePath], Field(max_length=PATH_LIMIT)]

    @model_validator(mode="after")
    def _is_closed(self) -> Self:
        count = len(self.paths)
        if any(at >= count for path in self.paths for at in path.references):
            raise ValueError("a path refers to one that is not listed")
        names = {path.name for path in self.paths}
        if len(names) != count:
            raise ValueError("a path is listed twice")
        outputs = (path for package in self.packages for path in package.outputs.values())
        if any(path.removeprefix(STORE) not in names for path in outputs):
            raise ValueError("a package is not among the paths")
        return self

    @classmethod
    def of(
        cls,
        closure: Closure,
        packages: Sequence[BuiltPackage],
        *,
        system: str,
        layers: Mapping[str, int],
        base: str | None = None,
    ) -> Self:
        """The document of a closure.

        Args:
            closure: all that the packages need.
            packages: what was asked for.
            system: what it is for, as Nix says it.
            layers: for store paths which layer has them.
            base: what the image is built upon.
        """
        places = {path: at for at, path in enumerate(closure.infos)}
        paths = [
            ClosurePath(
                name=info.path.removeprefix(STORE),
                nar_hash=info.nar_hash,
                nar_size=info.nar_size,
                references=[places[path] for path in info.references],
                layer=layers.get(info.path),
            )
            for info in closure
        ]
        return cls(system=system, base=base, packages=list(packages), paths=paths)

    @property
    def closure(self) -> Closure:
        """The store paths as a graph."""
        names = [f"{STORE}{path.name}" for path in self.paths]
        return Closure.of(
            PathInfo(name, path.nar_hash, path.nar_size, tuple(names[at] for at in path.references))
            for name, path in zip(names, self.paths, strict=True)
        )

    @property
    def layers(self) -> dict[str, int]:
        """For each store path of which it is known the layer that has it."""
        return {f"{STORE}{p.name}": p.layer for p in self.paths if p.layer is not None}

    def to_bytes(self) -> bytes | None:
        """The document as it is stored; None where it is too large to be of use."""
        content = canonical_json(self.to_json())
        if len(content) > LIMIT:
            return None
        written = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True).compress(content)
        return written if len(written) <= WRITTEN_LIMIT else None

    @classmethod
    def from_bytes(cls, written: bytes) -> Self:
        """Read what `to_bytes` wrote.

        Raises:
            Retryable: it is something else.
        """
        try:
            with zstandard.ZstdDecompressor().stream_reader(written) as reader:
                content = reader.read(LIMIT + 1)
            if len(content) > LIMIT:
                raise _malformed(f"it has more than {LIMIT} bytes")
            return cls.model_validate_json(content)
        except (zstandard.ZstdError, pydantic.ValidationError) as error:
            raise _malformed(error) from None


def _malformed(why: Any) -> Retryable:
    return Retryable(
        Reason.RESULT_INVALID,
        f"the image's closure is malformed: {str(why)[:300]}",
        hint="Build the image again",
    )
