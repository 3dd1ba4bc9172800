"""The names of objects. Pure.

Below `docker/registry/v2/` the layout is CNCF Distribution's, so that a stock registry serves
the same bucket; what the project keeps for itself stands below `niximage/v1/`.
"""

import re
from typing import Final

from niximage.errors import Reason, Terminal

ROOT: Final = "docker/registry/v2/"
OWN: Final = "niximage/v1/"
LEASES: Final = f"{OWN}leases/"
LOGS: Final = f"{OWN}logs/"
VERIFIED: Final = "_verified"
"""The layer index shared by all namespaces: only layers made from verified NARs."""

REPOSITORY_LIMIT: Final = 255  # characters, as Distribution's

_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_PART}(?:/{_PART})*")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_HASH = re.compile(r"[0-9a-f]{64}")
_SYSTEM = re.compile(r"[a-z0-9_]{1,16}-[a-z0-9]{1,16}")
_BUILD = re.compile(r"[a-z0-9-]{1,64}")
_NAMESPACE = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")


def is_repository(name: str) -> bool:
    """Whether a name may be a repository's, as Distribution reads them."""
    return len(name) <= REPOSITORY_LIMIT and _REPOSITORY.fullmatch(name) is not None


def is_digest(digest: str) -> bool:
    """Whether a digest is `sha256:` and 64 lower-case hex digits, the only kind stored."""
    return _DIGEST.fullmatch(digest) is not None


def is_tag(tag: str) -> bool:
    """Whether a name may be a tag's, as OCI defines them."""
    return _TAG.fullmatch(tag) is not None


def blob(digest: str) -> str:
    """The bytes of a layer, a config or a manifest."""
    hexadecimal = _hex(digest)
    return f"{ROOT}blobs/sha256/{hexadecimal[:2]}/{hexadecimal}/data"


def repository_prefix(repository: str) -> str:
    """What all keys of a repository begin with, and of those below it."""
    return f"{ROOT}repositories/{_repository(repository)}/"


def layer_link(repository: str, digest: str) -> str:
    """That a repository may serve a blob: a layer, or a config."""
    return f"{layers_prefix(repository)}sha256/{_hex(digest)}/link"


def layers_prefix(repository: str) -> str:
    """What the keys of a repository's layer links begin with."""
    return f"{repository_prefix(repository)}_layers/"


def revision_link(repository: str, digest: str) -> str:
    """That a repository has a manifest: the commit point of a publish."""
    return f"{revisions_prefix(repository)}sha256/{_hex(digest)}/link"


def revisions_prefix(repository: str) -> str:
    """What the keys of a repository's revision links begin with."""
    return f"{manifests_prefix(repository)}revisions/"


def manifests_prefix(repository: str) -> str:
    """What the keys of a repository's revisions and tags begin with."""
    return f"{repository_prefix(repository)}_manifests/"


def tags_prefix(repository: str) -> str:
    """What the keys of a repository's tags begin with."""
    return f"{manifests_prefix(repository)}tags/"


def tag_link(repository: str, tag: str) -> str:
    """Which manifest a tag names now."""
    return f"{tags_prefix(repository)}{_tag(tag)}/current/link"


def tag_index_link(repository: str, tag: str, digest: str) -> str:
    """That a tag has named a manifest: Distribution's tag history."""
    return f"{tags_prefix(repository)}{_tag(tag)}/index/sha256/{_hex(digest)}/link"


def tag_of(repository: str, key: str) -> str | None:
    """The tag whose current link has this key, or None for any other key."""
    tag, current, rest = key.removeprefix(tags_prefix(repository)).partition("/current/link")
    return tag if current and not rest and is_tag(tag) else None


def referrers_tag(subject: str) -> str:
    """The tag of the index that lists what refers to a manifest: OCI 1.1's fallback."""
    return f"sha256-{_hex(subject)}"


def tag_records_prefix(repository: str) -> str:
    """What the keys of the records of a repository's tags begin with."""
    return f"{OWN}tags/{_repository(repository)}/_tags/"


def tag_record(repository: str, tag: str) -> str:
    """The record of which build a tag names."""
    return f"{tag_records_prefix(repository)}{_tag(tag)}"


def lease(namespace: str, number: str) -> str:
    """That a build runs.

    Args:
        namespace: whose.
        number: what tells it from others, letters and digits.
    """
    return f"{LEASES}{_namespace(namespace)}/{number}"


def layer_record(namespace: str, key: str) -> str:
    """The record of a layer built before, by its layer key.

    Args:
        namespace: a namespace, or `VERIFIED`.
        key: 64 hex digits.
    """
    scope = namespace if namespace == VERIFIED else _namespace(namespace)
    return f"{OWN}layers/{scope}/{_hash(key)}"


def layer_names(key: str) -> str:
    """The names in a layer that all namespaces share, by its layer key."""
    return f"{OWN}names/{VERIFIED}/{_hash(key)}"


def names_layer(names: str) -> str:
    """The record of the layer that a key of names is about."""
    return f"{OWN}layers/{names.removeprefix(f'{OWN}names/')}"


def build_record(namespace: str, input_hash: str) -> str:
    """The record of an image built before, by its input hash."""
    return f"{OWN}builds/{_namespace(namespace)}/{_hash(input_hash)}"


def evaluation_record(namespace: str, key: str) -> str:
    """The record of what a package of a source was evaluated to."""
    return f"{OWN}evaluations/{_namespace(namespace)}/{_hash(key)}"


def contents_record(namespace: str, digest: str, system: str) -> str:
    """The record of what lies in the layers of an image that others may be based on.

    Args:
        namespace: whose builds say so.
        digest: of the image, or of an index that has it.
        system: which of an index's images, as Nix says it.
    """
    if _SYSTEM.fullmatch(system) is None:
        raise _invalid("system", system, "Systems are named as Nix names them: x86_64-linux")
    return f"{OWN}contents/{_namespace(namespace)}/{_hex(digest)}/{system}"


def log(namespace: str, build: str) -> str:
    """The log of a build that ended.

    Args:
        namespace: whose.
        build: the uid of its Job.
    """
    if _BUILD.fullmatch(build) is None:
        raise _invalid("build", build, "Builds are told apart by the uid of their Job")
    return f"{LOGS}{_namespace(namespace)}/{build}.gz"


def _hex(digest: str) -> str:
    if not is_digest(digest):
        raise _invalid("digest", digest, "Digests are sha256: and 64 hex digits")
    return digest.removeprefix("sha256:")


def _repository(name: str) -> str:
    if not is_repository(name):
        raise _invalid("repository", name, "Use lower-case letters, digits and .-_ in parts")
    return name


def _tag(tag: str) -> str:
    if not is_tag(tag):
        raise _invalid("tag", tag, "Tags have up to 128 letters, digits and ._- in them")
    return tag


def _hash(value: str) -> str:
    if _HASH.fullmatch(value) is None:
        raise _invalid("hash", value, "Hashes are 64 hex digits")
    return value


def _namespace(name: str) -> str:
    if _NAMESPACE.fullmatch(name) is None:
        raise _invalid("namespace", name, "Namespaces are named as Kubernetes names them")
    return name


def _invalid(what: str, value: str, hint: str) -> Terminal:
    return Terminal(Reason.INVALID_SPEC, f"{value[:300]!r} is no {what}", hint=hint)
