"""Images made elsewhere, to build upon: a Debian-like one, in the forms that registries have."""

import gzip
import hashlib
import io
import json
import subprocess
import tarfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zstandard

from niximage.bucket import ObjectStore, keys
from niximage.bucket.publish import put_blob
from niximage.image.descriptor import (
    CONFIG,
    INDEX,
    LAYER_GZIP,
    LAYER_TAR,
    LAYER_ZSTD,
    MANIFEST,
    Descriptor,
)

PASSWD = b"root:x:0:0:root:/root:/bin/sh\nwww-data:x:33:33:www-data:/var/www:/bin/sh\n"


def entry(
    name: str, content: bytes | None = None, *, link: str = "", mode: int = 0o755, uid: int = 0
) -> tuple[tarfile.TarInfo, bytes]:
    """A directory, a file if it has content, or a link."""
    info = tarfile.TarInfo(name)
    info.mode, info.uid, info.gid = mode, uid, uid
    if link:
        info.type, info.linkname = tarfile.SYMTYPE, link
    elif content is None:
        info.type = tarfile.DIRTYPE
    else:
        info.size = len(content)
    return info, content or b""


def tar(entries: Iterable[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for info, content in entries:
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


DEBIAN = (
    tar(
        [
            entry("./"),
            entry("bin", link="usr/bin"),
            entry("sbin", link="usr/sbin"),
            entry("lib", link="usr/lib"),
            entry("usr"),
            entry("usr/bin"),
            entry("usr/bin/dpkg", b"#!/bin/sh\necho dpkg\n"),
            entry("usr/bin/hello", b"#!/bin/sh\necho hello from below\n"),
            entry("usr/bin/awk", link="/etc/alternatives/awk"),
            entry("usr/sbin"),
            entry("usr/lib"),
            entry("usr/lib/libc.so.6", b"\x7fELF", mode=0o644),
            entry("usr/share"),
            entry("etc", mode=0o750),
            entry("etc/passwd", PASSWD, mode=0o644),
            entry("etc/group", b"root:x:0:\nwww-data:x:33:\n", mode=0o644),
            entry("etc/alternatives"),
            entry("root", mode=0o711),
            entry("tmp", mode=0o1777),
            entry("var"),
            entry("var/run", link="/run"),
            entry("run"),
        ]
    ),
    tar(
        [
            entry("usr"),
            entry("usr/share"),
            entry("usr/share/gone", b"soon", mode=0o644),
            entry("usr/share/man"),
            entry("usr/share/man/dpkg.1", b"dpkg", mode=0o644),
        ]
    ),
    tar([entry("usr/share/.wh.gone", b"")]),
)
RUNTIME = {
    "Env": ["PATH=/usr/local/bin:/usr/bin:/bin", "DEBIAN=yes", "LANG=C"],
    "Entrypoint": ["/entry"],
    "Cmd": ["serve"],
    "WorkingDir": "/var",
    "Labels": {"from": "debian"},
}

_CODECS: dict[str, Callable[[bytes], bytes]] = {
    LAYER_GZIP: lambda data: gzip.compress(data, mtime=0),
    LAYER_ZSTD: lambda data: zstandard.compress(data[:1000]) + zstandard.compress(data[1000:]),
    LAYER_TAR: lambda data: data,
}


@dataclass(frozen=True)
class Foreign:
    """An image that somebody else made."""

    manifest: bytes
    blobs: dict[Descriptor, bytes]

    @property
    def digest(self) -> str:
        return f"sha256:{hashlib.sha256(self.manifest).hexdigest()}"

    @property
    def layers(self) -> list[str]:
        return [layer["digest"] for layer in json.loads(self.manifest)["layers"]]

    def publish(self, store: ObjectStore, repository: str) -> None:
        """Write it where a registry finds it, whatever its media types."""
        for descriptor, content in self.blobs.items():
            put_blob(store, descriptor, content)
            store.create(keys.layer_link(repository, descriptor.digest), descriptor.digest.encode())
        publish_document(store, repository, self.manifest)


def publish_document(store: ObjectStore, repository: str, content: bytes) -> str:
    """Write a manifest or an index; returns its digest."""
    digest = Descriptor.of(MANIFEST, content).digest
    store.create(keys.blob(digest), content)
    store.create(keys.revision_link(repository, digest), digest.encode())
    return digest


def foreign_image(
    *tars: bytes,
    kinds: tuple[str, ...] = (LAYER_GZIP,),
    architecture: str = "amd64",
    runtime: dict[str, Any] | None = None,
    history: bool = True,
) -> Foreign:
    """An OCI image of these tars; the kinds of layers take turns."""
    blobs: dict[Descriptor, bytes] = {}
    for number, content in enumerate(tars):
        kind = kinds[number % len(kinds)]
        blob = _CODECS[kind](content)
        blobs[Descriptor.of(kind, blob)] = blob
    layers = [blob.to_json() for blob in blobs]
    config: dict[str, Any] = {
        "architecture": architecture,
        "os": "linux",
        "config": RUNTIME if runtime is None else runtime,
        "rootfs": {
            "type": "layers",
            "diff_ids": [f"sha256:{hashlib.sha256(content).hexdigest()}" for content in tars],
        },
    }
    if history:
        config["history"] = [
            {"created": "2026-01-01T00:00:00Z", "created_by": "debuerreotype"},
            {"created": "2026-01-01T00:00:01Z", "created_by": "CMD serve", "empty_layer": True},
            *({"created": "2026-01-02T00:00:00Z", "created_by": "RUN"} for _ in tars[1:]),
        ]
    document = json.dumps(config).encode()
    described = Descriptor.of(CONFIG, document)
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": described.to_json(),
        "layers": layers,
    }
    return Foreign(json.dumps(manifest).encode(), {**blobs, described: document})


def as_docker(reference: str, folder: Path) -> Foreign:
    """An image as skopeo turns it into Docker's second schema."""
    command = ["skopeo", "--insecure-policy", "copy", "--quiet", "--src-tls-verify=false"]
    subprocess.run(
        [*command, "--format", "v2s2", f"docker://{reference}", f"dir:{folder}"],
        check=True,
        timeout=60,
        capture_output=True,
    )
    manifest = (folder / "manifest.json").read_bytes()
    document = json.loads(manifest)
    blobs = {}
    for each in [document["config"], *document["layers"]]:
        descriptor = Descriptor(each["mediaType"], each["digest"], each["size"])
        blobs[descriptor] = (folder / each["digest"].removeprefix("sha256:")).read_bytes()
    return Foreign(manifest, blobs)


def index(*images: tuple[Foreign, str]) -> bytes:
    """An image index over images for these architectures."""
    manifests = [
        {
            "mediaType": MANIFEST,
            "digest": image.digest,
            "size": len(image.manifest),
            "platform": {"os": "linux", "architecture": architecture},
        }
        for image, architecture in images
    ]
    return json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests}).encode()
