"""What a request's path asks for. Pure.

A repository's name has slashes in it, and may have parts named `blobs` or `manifests`: so the
end of the path decides, and the name is all that is left.
"""

import re
from dataclasses import dataclass
from typing import Final

from niximage.bucket import keys
from niximage.gateway.problems import Problem

PATH_LIMIT: Final = 1024  # characters

_ENDING = re.compile(r"/v2/(?P<name>.+)/(?P<kind>manifests|blobs|referrers)/(?P<reference>[^/]*)")
# Digests that the spec knows and nothing here has: not found, rather than invalid.
_OTHER_DIGEST = re.compile(r"sha384:[0-9a-f]{96}|sha512:[0-9a-f]{128}")
_TAGS = re.compile(r"/v2/(?P<name>.+)/tags/list")


@dataclass(frozen=True, slots=True)
class Base:
    """`/v2/`: whether this is a registry at all."""


@dataclass(frozen=True, slots=True)
class ManifestByDigest:
    """One manifest, for ever the same."""

    repository: str
    digest: str


@dataclass(frozen=True, slots=True)
class ManifestByTag:
    """Whatever a tag names now."""

    repository: str
    tag: str


@dataclass(frozen=True, slots=True)
class Blob:
    """The bytes of a layer or a config."""

    repository: str
    digest: str


@dataclass(frozen=True, slots=True)
class Tags:
    """The names of a repository's tags."""

    repository: str


@dataclass(frozen=True, slots=True)
class Referrers:
    """What points at a manifest: signatures, SBOMs."""

    repository: str
    digest: str


Route = Base | ManifestByDigest | ManifestByTag | Blob | Tags | Referrers


def route(path: str) -> Route:
    """What a decoded path below `/v2` asks for.

    Raises:
        Problem: 400 for a bad name, digest or tag; 404 for what no registry has.
    """
    if len(path) > PATH_LIMIT:
        raise Problem(400, "NAME_INVALID", f"the path is longer than {PATH_LIMIT} characters")
    if path in {"/v2", "/v2/"}:
        return Base()
    if found := _TAGS.fullmatch(path):
        return Tags(_repository(found["name"]))
    if not (found := _ENDING.fullmatch(path)):
        raise Problem(404, "UNSUPPORTED", "the distribution-spec has no such endpoint")
    repository, reference = _repository(found["name"]), found["reference"]
    match found["kind"]:
        case "blobs":
            return Blob(repository, _digest(reference))
        case "referrers":
            return Referrers(repository, _digest(reference))
        case _ if ":" in reference:
            return ManifestByDigest(repository, _digest(reference))
        case _:
            return ManifestByTag(repository, _tag(reference))


def _repository(name: str) -> str:
    if not keys.is_repository(name):
        raise Problem(400, "NAME_INVALID", "no repository can have this name", {"name": name})
    return name


def _digest(digest: str) -> str:
    if not keys.is_digest(digest) and _OTHER_DIGEST.fullmatch(digest) is None:
        raise Problem(
            400,
            "DIGEST_INVALID",
            "a digest is sha256: and 64 lower-case hex digits",
            {"digest": digest},
        )
    return digest


def _tag(tag: str) -> str:
    if not keys.is_tag(tag):
        raise Problem(
            400,
            "TAG_INVALID",
            "a tag has up to 128 letters, digits and ._- in it",
            {"tag": tag},
        )
    return tag
