"""A small image made by hand: what the bucket and the gateway are tested with."""

import gzip
import hashlib
import io
import json
import tarfile
from dataclasses import dataclass

from niximage.bucket.publish import publish_manifest, put_blob
from niximage.bucket.store import ObjectStore
from niximage.image.descriptor import CONFIG, INDEX, LAYER_GZIP, MANIFEST, Descriptor
from niximage.image.documents import index_document


@dataclass(frozen=True)
class TinyImage:
    """An image whose every byte is at hand."""

    manifest: bytes
    blobs: dict[Descriptor, bytes]

    @property
    def digest(self) -> str:
        return Descriptor.of(MANIFEST, self.manifest).digest

    @property
    def config(self) -> tuple[Descriptor, bytes]:
        return next((d, c) for d, c in self.blobs.items() if d.media_type == CONFIG)

    @property
    def layers(self) -> list[tuple[Descriptor, bytes]]:
        return [(d, c) for d, c in self.blobs.items() if d.media_type != CONFIG]

    def upload(self, store: ObjectStore) -> None:
        """Write the blobs."""
        for descriptor, content in self.blobs.items():
            put_blob(store, descriptor, content)

    def publish(self, store: ObjectStore, repository: str, *tags: str) -> Descriptor:
        """Write all of it."""
        self.upload(store)
        return publish_manifest(store, repository, self.manifest, tags=tags)


@dataclass(frozen=True)
class TinyIndex:
    """Two images, and the index over them."""

    members: tuple[TinyImage, ...]

    @property
    def content(self) -> bytes:
        systems = ("x86_64-linux", "aarch64-linux")
        described = [Descriptor.of(MANIFEST, each.manifest) for each in self.members]
        return index_document(list(zip(systems, described, strict=True)))

    @property
    def digest(self) -> str:
        return Descriptor.of(INDEX, self.content).digest

    def publish(self, store: ObjectStore, repository: str, *tags: str) -> Descriptor:
        """Write all of it, members first."""
        for member in self.members:
            member.publish(store, repository)
        return publish_manifest(store, repository, self.content, tags=tags)


def tiny_index(name: str = "") -> TinyIndex:
    """An image for two platforms, which share a layer."""
    amd64 = tiny_image(b"shared", f"amd64 {name}".encode())
    arm64 = tiny_image(b"shared", f"arm64 {name}".encode(), architecture="arm64")
    return TinyIndex((amd64, arm64))


def tiny_image(*files: bytes, architecture: str = "amd64") -> TinyImage:
    """An image of one layer per file."""
    layers: dict[Descriptor, bytes] = {}
    diff_ids = []
    for number, content in enumerate(files or (b"hello\n",)):
        tar = _tar(f"file-{number}", content)
        diff_ids.append(f"sha256:{hashlib.sha256(tar).hexdigest()}")
        blob = gzip.compress(tar, mtime=0)
        layers[Descriptor.of(LAYER_GZIP, blob)] = blob
    config = json.dumps(
        {
            "architecture": architecture,
            "os": "linux",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        }
    ).encode()
    described = Descriptor.of(CONFIG, config)
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": described.to_json(),
            "layers": [layer.to_json() for layer in layers],
        }
    ).encode()
    return TinyImage(manifest, {**layers, described: config})


def _tar(name: str, content: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        entry = tarfile.TarInfo(name)
        entry.size = len(content)
        tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def artifact(
    store: ObjectStore,
    subject: Descriptor,
    content: bytes,
    kind: str,
    annotations: dict[str, str] | None = None,
) -> bytes:
    """Upload an artifact about an image; its manifest, which is still to be published."""
    blob = Descriptor.of(kind, content)
    empty = Descriptor.of("application/vnd.oci.empty.v1+json", b"{}")
    put_blob(store, blob, content)
    put_blob(store, empty, b"{}")
    return json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "artifactType": kind,
            "config": empty.to_json(),
            "layers": [blob.to_json()],
            "subject": subject.to_json(),
            "annotations": annotations or {},
        }
    ).encode()
