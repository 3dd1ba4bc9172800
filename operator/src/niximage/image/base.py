"""The image below an image: its documents read strictly, its config merged with ours. Pure.

Any OCI image will do, and any of Docker's second schema: blobs are the same in both, and only
the names of their media types differ. What has no place on a Linux node is refused.
"""

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from niximage.api.canonical import canonical_json
from niximage.api.spec import Config
from niximage.errors import Reason, Terminal
from niximage.image.closure import STORE, Closure
from niximage.image.descriptor import (
    CONFIG,
    INDEX,
    LAYER_GZIP,
    LAYER_TAR,
    LAYER_ZSTD,
    MANIFEST,
    Descriptor,
)
from niximage.image.documents import DEFAULT_PATH, EPOCH, platform, platform_name

LAYERS_LIMIT: Final = 127  # beyond it runtimes give up
SIZE_LIMIT: Final = 64 << 30  # bytes of all layers
DOCUMENT_LIMIT: Final = 4 << 20  # bytes of a manifest or a config, as registries bound them

_DOCKER: Final = "application/vnd.docker."
_DOCKER_INDEX: Final = _DOCKER + "distribution.manifest.list.v2+json"
_DOCKER_MANIFEST: Final = _DOCKER + "distribution.manifest.v2+json"
_CONFIGS: Final = frozenset({CONFIG, _DOCKER + "container.image.v1+json"})
_LAYERS: Final[Mapping[str, str]] = {
    LAYER_TAR: LAYER_TAR,
    LAYER_GZIP: LAYER_GZIP,
    LAYER_ZSTD: LAYER_ZSTD,
    _DOCKER + "image.rootfs.diff.tar": LAYER_TAR,
    _DOCKER + "image.rootfs.diff.tar.gzip": LAYER_GZIP,
    _DOCKER + "image.rootfs.diff.tar.zstd": LAYER_ZSTD,
}
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
# What a base says of how it runs and we have no field for; the rest is Docker's own business.
_PASSED_ON: Final = ("Healthcheck", "Shell")
_SHOWN: Final = 8
# Tuples: a document may have anything in their place, and no set takes a list.
_INDEXES: Final = (INDEX, _DOCKER_INDEX)
_MANIFESTS: Final = (MANIFEST, _DOCKER_MANIFEST)


@dataclass(frozen=True, slots=True)
class BaseManifest:
    """What a base's manifest names.

    Attributes:
        config: the config, with OCI's media type.
        layers: bottom first, with OCI's media types.
    """

    config: Descriptor
    layers: tuple[Descriptor, ...]


@dataclass(frozen=True, slots=True)
class BaseConfig:
    """What a base's config says.

    Attributes:
        diff_ids: one for each layer, bottom first.
        runtime: how it runs: `Env`, `Cmd` and so on, as OCI spells them.
        history: as it stands there, or one entry per layer where it does not fit the layers.
    """

    diff_ids: tuple[str, ...]
    runtime: Mapping[str, Any]
    history: tuple[Mapping[str, Any], ...]


def choose_manifest(content: bytes, system: str, name: str) -> str | None:
    """The digest of the manifest for a system that an index names; None if it is no index.

    Args:
        content: a manifest or an index, its digest already verified.
        system: what the image is built for, as Nix says it.
        name: what to call the base in messages.

    Raises:
        Terminal: malformed, or it has no such platform.
    """
    document = _document(content, name)
    kind = document.get("mediaType", INDEX if "manifests" in document else "")
    if kind not in _INDEXES:
        return None
    manifests = document.get("manifests")
    if not isinstance(manifests, list):
        raise _refused(name, "its index has no list of manifests")
    wanted = platform(system)
    seen: list[str] = []
    for each in manifests:
        match each:
            case {"digest": str(digest), "platform": {"os": str(), "architecture": str()} as found}:
                if _DIGEST.fullmatch(digest) and _fits(found, wanted):
                    return digest
                if found["os"] != "unknown":  # attestations
                    seen.append(platform_name(found))
    raise _wrong_platform(name, ", ".join(sorted(set(seen))[:_SHOWN]) or "nothing", wanted)


def read_base_manifest(content: bytes, name: str) -> BaseManifest:
    """Read an image manifest of OCI or Docker.

    Raises:
        Terminal: it is of another kind, malformed, or too large.
    """
    document = _document(content, name)
    kind = document.get("mediaType", MANIFEST)
    if kind not in _MANIFESTS or document.get("schemaVersion") != 2:  # noqa: PLR2004 (the only one left)
        raise _refused(name, f"it is a {kind!r:.100}, not an image of OCI or Docker's schema 2")
    layers = document.get("layers")
    if not isinstance(layers, list) or not 0 < len(layers) <= LAYERS_LIMIT:
        raise _refused(name, f"it does not have 1 to {LAYERS_LIMIT} layers")
    config = _descriptor(document.get("config"), name)
    if config.media_type not in _CONFIGS:
        raise _refused(name, f"its config is a {config.media_type}, so it is no container image")
    if config.size > DOCUMENT_LIMIT:
        raise _refused(name, f"its config has {config.size} bytes")
    found = tuple(_layer(_descriptor(layer, name), name) for layer in layers)
    if sum(layer.size for layer in found) > SIZE_LIMIT:
        raise _refused(name, f"its layers have more than {SIZE_LIMIT >> 30} GiB")
    return BaseManifest(replace(config, media_type=CONFIG), found)


def read_base_config(content: bytes, layers: int, system: str, name: str) -> BaseConfig:
    """Read an image's config.

    Args:
        content: the config, its digest already verified.
        layers: how many layers the manifest has.
        system: what the image is built for, as Nix says it.
        name: what to call the base in messages.

    Raises:
        Terminal: malformed, or for another platform.
    """
    document = _document(content, name)
    wanted = platform(system)
    found: dict[str, str] = {
        key: str(document[key]) for key in ("os", "architecture", "variant") if key in document
    }
    if not _fits(found, wanted):
        raise _wrong_platform(name, platform_name(found), wanted)
    match document.get("rootfs"):
        case {"diff_ids": list(diff_ids)} if len(diff_ids) == layers and all(
            isinstance(each, str) and _DIGEST.fullmatch(each) for each in diff_ids
        ):
            pass
        case _:
            raise _refused(name, "its config does not have one diff ID for each layer")
    runtime = document.get("config")
    config = BaseConfig(
        tuple(diff_ids),
        runtime if isinstance(runtime, dict) else {},
        _history(document.get("history"), layers),
    )
    try:
        canonical_json([config.runtime, *config.history])
    except (TypeError, ValueError, RecursionError) as error:
        raise _refused(name, f"its config cannot be passed on: {error}") from None
    return config


def without(closure: Closure, names: Collection[str]) -> Closure:
    """The closure without the store paths of these names, and without references to them."""
    left = {path: info for path, info in closure.infos.items() if path[len(STORE) :] not in names}
    return Closure(
        {
            path: replace(info, references=tuple(r for r in info.references if r in left))
            for path, info in left.items()
        }
    )


def merge_config(own: bytes, base: BaseConfig, config: Config) -> bytes:
    """An image's config over that of its base, as Docker's builder would have it.

    Variables, labels, ports and volumes are added to those of the base, the rest replaces it.
    An entrypoint of the image's own takes the base's command out of force; an empty list of
    either removes it. PATH is the base's, with what it lacks of the default behind.

    Args:
        own: the config of the image by itself, whose layers are those above the base's.
        base: the base's.
        config: what the user asked for, which tells a wish from a default.

    Raises:
        Terminal: base and image together have more layers than runtimes take.
    """
    document = json.loads(own)
    mine = document["config"]
    theirs = base.runtime
    merged: dict[str, Any] = {key: theirs[key] for key in _PASSED_ON if theirs.get(key)}
    own_path = any(variable.name == "PATH" for variable in config.env)
    merged["Env"] = _environment(
        _strings(theirs.get("Env")), mine.get("Env", []), own_path=own_path
    )
    merged["Entrypoint"] = _chosen(config.entrypoint, _strings(theirs.get("Entrypoint")))
    inherited = _strings(theirs.get("Cmd")) if config.entrypoint is None else []
    merged["Cmd"] = _chosen(config.cmd, inherited)
    for key in ("WorkingDir", "User", "StopSignal"):
        value = mine.get(key) or theirs.get(key)
        merged[key] = value if isinstance(value, str) else None
    for key in ("ExposedPorts", "Volumes", "Labels"):
        below = theirs.get(key)
        merged[key] = {**(below if isinstance(below, dict) else {}), **mine.get(key, {})}
    document["config"] = {key: value for key, value in merged.items() if value}
    document["rootfs"]["diff_ids"] = [*base.diff_ids, *document["rootfs"]["diff_ids"]]
    document["history"] = [*base.history, *document["history"]]
    if len(document["rootfs"]["diff_ids"]) > LAYERS_LIMIT:
        raise Terminal(
            Reason.INVALID_SPEC,
            f"base and image have {len(document['rootfs']['diff_ids'])} layers together; "
            f"runtimes take {LAYERS_LIMIT}",
            hint="Lower spec.layering.maxLayers, or choose a base of fewer layers",
        )
    return canonical_json(document)


def _environment(below: list[str], own: list[str], *, own_path: bool) -> list[str]:
    merged: dict[str, str] = {}
    for each in (*below, *own):
        name, _, value = each.partition("=")
        if name == "PATH" and name in merged and not own_path:
            there = merged[name].split(":")
            value = ":".join([*there, *(p for p in DEFAULT_PATH.split(":") if p not in there)])
        merged[name] = value
    return [f"{name}={value}" for name, value in merged.items()]


def _chosen(own: Sequence[str] | None, below: list[str]) -> list[str]:
    return below if own is None else list(own)


def _strings(value: Any) -> list[str]:
    return [each for each in value if isinstance(each, str)] if isinstance(value, list) else []


def _history(found: Any, layers: int) -> tuple[Mapping[str, Any], ...]:
    """The base's history, if it fits its layers; tools that walk both together break otherwise."""
    if isinstance(found, list) and all(isinstance(each, dict) for each in found):
        told = tuple(
            {key: each[key] for key in each if isinstance(each[key], str | bool)} for each in found
        )
        if sum(not each.get("empty_layer") for each in told) == layers:
            return told
    return ({"created": EPOCH, "created_by": "the base"},) * layers


def _fits(found: Mapping[str, Any], wanted: Mapping[str, str]) -> bool:
    if (found.get("os"), found.get("architecture")) != (wanted["os"], wanted["architecture"]):
        return False
    variants = found.get("variant"), wanted.get("variant")
    return None in variants or variants[0] == variants[1]


def _wrong_platform(name: str, found: str, wanted: Mapping[str, str]) -> Terminal:
    return Terminal(
        Reason.INVALID_SPEC,
        f"the base {name} is for {found}, not for {platform_name(wanted)}",
        hint="Choose a base that has the image's platform",
    )


def _layer(descriptor: Descriptor, name: str) -> Descriptor:
    kind = _LAYERS.get(descriptor.media_type)
    if kind is None:
        raise _refused(name, f"it has a layer of the media type {descriptor.media_type}")
    return replace(descriptor, media_type=kind)


def _document(content: bytes, name: str) -> dict[str, Any]:
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise _refused(name, "one of its documents is no JSON object")
    return document


def _descriptor(value: Any, name: str) -> Descriptor:
    match value:
        case {"mediaType": str(kind), "digest": str(digest), "size": int(size)} if (
            _DIGEST.fullmatch(digest) and not isinstance(size, bool) and 0 <= size <= SIZE_LIMIT
        ):
            return Descriptor(kind, digest, size)
        case _:
            raise _refused(name, f"its manifest has a malformed descriptor: {value!r:.150}")


def _refused(name: str, why: str) -> Terminal:
    return Terminal(
        Reason.INVALID_SPEC,
        f"the base {name} cannot be used: {why}",
        hint="Choose another base",
    )
