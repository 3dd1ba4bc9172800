"""The two JSON documents of an image: its config and its manifest.

Both are canonical JSON, so that equal images have equal bytes. Neither names the source's
revision or a time: a channel that moves without touching an image's packages leaves its
digest as it is; unless its users ask for the time of the source's commit.
"""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from niximage.api.canonical import canonical_json
from niximage.api.spec import Config
from niximage.errors import Reason, Terminal
from niximage.image.descriptor import CONFIG, INDEX, MANIFEST, Descriptor

EPOCH: Final = "1970-01-01T00:00:00Z"
DEFAULT_PATH: Final = "/bin:/sbin:/usr/bin:/usr/sbin"
COMMENT_NAMES: Final = 20  # store paths that a layer's comment names

# What Nix calls a system, and what OCI calls its platform.
_PLATFORMS: Final[Mapping[str, Mapping[str, str]]] = {
    "x86_64-linux": {"architecture": "amd64", "os": "linux"},
    "aarch64-linux": {"architecture": "arm64", "os": "linux"},
    "armv7l-linux": {"architecture": "arm", "os": "linux", "variant": "v7"},
    "armv6l-linux": {"architecture": "arm", "os": "linux", "variant": "v6"},
    "i686-linux": {"architecture": "386", "os": "linux"},
    "powerpc64le-linux": {"architecture": "ppc64le", "os": "linux"},
    "riscv64-linux": {"architecture": "riscv64", "os": "linux"},
    "s390x-linux": {"architecture": "s390x", "os": "linux"},
}


@dataclass(frozen=True, slots=True)
class ImageLayer:
    """A layer as the documents tell of it.

    Attributes:
        descriptor: the blob.
        diff_id: the digest of its uncompressed tar.
        comment: what is in it, for `history`.
    """

    descriptor: Descriptor
    diff_id: str
    comment: str


def platform(system: str) -> Mapping[str, str]:
    """The OCI platform of a Nix system.

    Raises:
        Terminal: no container runs there.
    """
    try:
        return _PLATFORMS[system]
    except KeyError:
        raise Terminal(
            Reason.INVALID_SPEC,
            f"no image can be made for the system {system}",
            hint=f"Known are {', '.join(sorted(_PLATFORMS))}",
        ) from None


def platform_name(platform: Mapping[str, Any]) -> str:
    """A platform as people write it: `linux/arm64`, `linux/arm/v7`."""
    parts = (platform.get(key) for key in ("os", "architecture", "variant"))
    return "/".join(str(part)[:32] for part in parts if part)


def comment(names: Sequence[str]) -> str:
    """What a layer's history entry says of store paths with these names."""
    shown = sorted(names)[:COMMENT_NAMES]
    hidden = len(names) - len(shown)
    return ", ".join(shown) + (f" and {hidden} more" if hidden else "")


def config_document(
    config: Config,
    *,
    system: str,
    layers: Sequence[ImageLayer],
    ca_bundle: str = "",
    source_time: int = 0,
) -> bytes:
    """The image's config.

    Args:
        config: what the user asked for; it wins over defaults.
        system: what it runs on, as Nix says it.
        layers: bottom first.
        ca_bundle: the path of the CA bundle in the image, or "".
        source_time: when the source was committed, in seconds since 1970.
    """
    time = created(config, source_time)
    return canonical_json(
        {
            "created": time,
            **platform(system),
            "config": _runtime_config(config, ca_bundle),
            "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
            # One entry per layer: tools that walk both together break otherwise.
            "history": [
                {"created": time, "created_by": "niximage", "comment": layer.comment}
                for layer in layers
            ],
        }
    )


def created(config: Config, source_time: int) -> str:
    """The time that an image says it was made."""
    if config.created == "Epoch":
        return EPOCH
    return dt.datetime.fromtimestamp(source_time, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def manifest_document(config: Descriptor, layers: Sequence[Descriptor]) -> bytes:
    """The manifest of an image for one platform."""
    return canonical_json(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": config.to_json(),
            "layers": [layer.to_json() for layer in layers],
        }
    )


def index_document(members: Sequence[tuple[str, Descriptor]]) -> bytes:
    """The index of an image for several platforms.

    Args:
        members: for each the system, as Nix says it, and its manifest; their order is of no
            meaning, and none of influence.
    """
    listed = [
        {**manifest.to_json(), "platform": dict(platform(system))} for system, manifest in members
    ]
    listed.sort(key=lambda each: platform_name(each["platform"]))
    return canonical_json({"schemaVersion": 2, "mediaType": INDEX, "manifests": listed})


def config_descriptor(content: bytes) -> Descriptor:
    """The descriptor of a config document."""
    return Descriptor.of(CONFIG, content)


def _runtime_config(config: Config, ca_bundle: str) -> dict[str, Any]:
    environment = {"PATH": DEFAULT_PATH}
    if ca_bundle:
        environment["SSL_CERT_FILE"] = ca_bundle
    environment.update({variable.name: variable.value for variable in config.env})
    document: dict[str, Any] = {
        "Entrypoint": config.entrypoint,
        "Cmd": config.cmd,
        "Env": [f"{name}={value}" for name, value in environment.items()],
        "WorkingDir": config.working_dir,
        "User": config.user,
        "ExposedPorts": {_port(port): {} for port in config.exposed_ports},
        "Volumes": {volume: {} for volume in config.volumes},
        "Labels": dict(config.labels),
        "StopSignal": config.stop_signal,
    }
    return {key: value for key, value in document.items() if value}


def _port(port: str) -> str:
    return port if "/" in port else f"{port}/tcp"
