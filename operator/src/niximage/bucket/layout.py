"""What an object's key says: `keys` the other way round. Pure."""

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from niximage.bucket import keys
from niximage.bucket.store import ObjectStat

_HEX: Final = r"[0-9a-f]{64}"
_BLOB: Final = re.compile(rf"blobs/sha256/[0-9a-f]{{2}}/({_HEX})/data")
_REPOSITORY: Final = re.compile(r"repositories/(.+?)/(_layers|_manifests)/(.+)")
_LAYER: Final = re.compile(rf"sha256/({_HEX})/link")
_REVISION: Final = re.compile(rf"revisions/sha256/({_HEX})/link")
_TAG: Final = re.compile(rf"tags/([^/]+)/(?:current|index/sha256/({_HEX}))/link")
_BUILD_TAG: Final = re.compile(_HEX)
_REFERRERS_TAG: Final = re.compile(rf"sha256-({_HEX})(?:\..+)?")

In = tuple[str, str]
"""A repository, and a digest or a tag in it."""


@dataclass(slots=True)
class Listing:
    """The objects of a bucket by what they are.

    Attributes:
        count: how many objects there are.
        blobs: by digest.
        layers: the layer links, by repository and digest.
        revisions: the revision links, by repository and digest.
        tags: the current links of tags, by repository and tag.
        tag_history: the links of what tags have named, by repository, tag and digest.
        records: of layers, their names, builds, evaluations, contents and logs, as the key's
            first part calls them.
        tag_records: by repository and tag.
        leases: of running builds.
    """

    count: int = 0
    blobs: dict[str, ObjectStat] = field(default_factory=dict)
    layers: dict[In, ObjectStat] = field(default_factory=dict)
    revisions: dict[In, ObjectStat] = field(default_factory=dict)
    tags: dict[In, ObjectStat] = field(default_factory=dict)
    tag_history: dict[tuple[str, str, str], ObjectStat] = field(default_factory=dict)
    records: dict[str, list[ObjectStat]] = field(default_factory=lambda: defaultdict(list))
    tag_records: dict[In, ObjectStat] = field(default_factory=dict)
    leases: list[ObjectStat] = field(default_factory=list)


def read_listing(objects: Iterable[ObjectStat]) -> Listing:
    """Sort objects by what they are; what is neither Distribution's nor ours is left out."""
    listing = Listing()
    for found in objects:
        listing.count += 1
        if found.key.startswith(keys.ROOT):
            _distribution(listing, found, found.key[len(keys.ROOT) :])
        elif found.key.startswith(keys.OWN):
            _own(listing, found, found.key[len(keys.OWN) :])
    return listing


def is_build_tag(tag: str) -> bool:
    """Whether a tag is the one that each build gets: its input hash."""
    return _BUILD_TAG.fullmatch(tag) is not None


def subject_of(tag: str) -> str | None:
    """The digest of the manifest that a tag belongs to: `sha256-<hex>`, or cosign's `….sig`."""
    found = _REFERRERS_TAG.fullmatch(tag)
    return f"sha256:{found[1]}" if found else None


def revision_of(key: str) -> str:
    """The digest that a revision link is about."""
    return f"sha256:{key.removesuffix('/link').rpartition('/')[2]}"


def contents_digest(key: str) -> str:
    """The digest of the image that a contents record is about."""
    return f"sha256:{key.rpartition('/')[0].rpartition('/')[2]}"


def _distribution(listing: Listing, found: ObjectStat, key: str) -> None:
    if blob := _BLOB.fullmatch(key):
        listing.blobs[f"sha256:{blob[1]}"] = found
        return
    if (inside := _REPOSITORY.fullmatch(key)) is None:
        return
    repository, part, rest = inside.groups()
    if part == "_layers":
        if layer := _LAYER.fullmatch(rest):
            listing.layers[repository, f"sha256:{layer[1]}"] = found
    elif revision := _REVISION.fullmatch(rest):
        listing.revisions[repository, f"sha256:{revision[1]}"] = found
    elif tag := _TAG.fullmatch(rest):
        if tag[2] is None:
            listing.tags[repository, tag[1]] = found
        else:
            listing.tag_history[repository, tag[1], f"sha256:{tag[2]}"] = found


def _own(listing: Listing, found: ObjectStat, key: str) -> None:
    kind, _, rest = key.partition("/")
    match kind:
        case "layers" | "names" | "builds" | "evaluations" | "contents" | "logs":
            listing.records[kind].append(found)
        case "tags":
            repository, _, tag = rest.rpartition("/_tags/")
            listing.tag_records[repository, tag] = found
        case "leases":
            listing.leases.append(found)
