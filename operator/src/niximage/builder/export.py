"""An image out of a bucket or registry into a file or folder that other programs load.

    oci:FOLDER            an OCI image layout, new or with images in it already
    oci-archive:FILE      such a layout as one tar: `podman load`, `skopeo`, `ctr images import`
    docker-archive:FILE   what `docker save` writes: `docker load`, `podman load`, `kind load`

The first two take an image for several platforms whole, as its index; the third has no form for
one, so such an image is refused.

Every byte is compared with its digest on the way. Files come into being whole or not at all.
"""

import contextlib
import hashlib
import json
import os
import tarfile
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, Literal

from niximage.api.canonical import canonical_json
from niximage.api.platforms import named
from niximage.bucket import keys
from niximage.bucket.manifest import Manifest, media_type, parse_index, parse_manifest
from niximage.bucket.reader import ImageReader, lacking, read_blob
from niximage.errors import Reason, Retryable, Terminal
from niximage.image.descriptor import INDEX, Descriptor
from niximage.image.layer_reader import decompress

Kind = Literal["oci", "oci-archive", "docker-archive"]

TAG: Final = "latest"

_LAYOUT: Final = b'{"imageLayoutVersion":"1.0.0"}'
_NAME: Final = "org.opencontainers.image.ref.name"
_FULL_NAME: Final = "io.containerd.image.name"
_CONFIG_LIMIT: Final = 4 << 20
_INDEX_LIMIT: Final = 4 << 20
_ARCHIVE_END: Final = bytes(tarfile.RECORDSIZE)


@dataclass(frozen=True, slots=True)
class Output:
    """Where an image goes besides the bucket."""

    kind: Kind
    path: Path

    def __str__(self) -> str:
        return f"{self.kind}:{self.path}"


def parse_output(text: str) -> Output:
    """Read `oci:FOLDER`, `oci-archive:FILE` or `docker-archive:FILE`.

    Raises:
        Terminal: it is none of these.
    """
    kind, _, path = text.partition(":")
    match kind:
        case "oci" | "oci-archive" | "docker-archive" if path:
            return Output(kind, Path(path))
        case _:
            raise Terminal(
                Reason.INVALID_SPEC,
                f"{text[:300]!r} is no output",
                hint="Write oci:FOLDER, oci-archive:FILE or docker-archive:FILE",
            )


def check_output(output: Output, platforms: Sequence[str]) -> None:
    """See that an output can hold an image for these platforms.

    Raises:
        Terminal: it cannot.
    """
    if output.kind == "docker-archive" and len(platforms) > 1:
        raise Terminal(
            Reason.INVALID_SPEC,
            f"{output} can hold one platform, and the image is for {named(platforms)}",
            hint="Choose one with --platform, or write an oci-archive, which holds them all",
        )


def export_image(images: ImageReader, repository: str, digest: str, output: Output) -> None:
    """Write an image to an output.

    Args:
        images: where it is, whole.
        repository: `<namespace>/<name>`; with the tag `latest` it is what the image is called.
        digest: of its manifest, or its index.
        output: where to.

    Raises:
        Terminal: the output cannot be written, or not hold the image.
        Retryable: the place fails, or lacks a part of the image.
    """
    image = _read(images, repository, digest)
    check_output(output, image.platforms)
    try:
        match output.kind:
            case "oci":
                _write_layout(image, output.path)
            case "oci-archive":
                with _whole(output.path) as file:
                    _write_oci_archive(image, file)
            case "docker-archive":
                with _whole(output.path) as file:
                    _write_docker_archive(image, file)
    except OSError as error:
        raise Terminal(
            Reason.INVALID_SPEC,
            f"{output} cannot be written: {error.strerror or error}",
            hint="Check the path, its permissions, and the space left",
        ) from None


@dataclass(frozen=True, slots=True)
class _Image:
    """An image: its manifest, or its index and the manifests of its members."""

    images: ImageReader
    repository: str
    descriptor: Descriptor
    documents: Mapping[str, bytes]
    manifests: Sequence[Manifest]
    platforms: Sequence[str] = ()

    @property
    def name(self) -> str:
        """What the image is called where it is loaded."""
        return f"{self.repository}:{TAG}"

    @property
    def blobs(self) -> tuple[Descriptor, ...]:
        """Every config and layer, each once."""
        return tuple(dict.fromkeys(blob for each in self.manifests for blob in each.blobs))

    def named(self) -> dict[str, Any]:
        """The manifest's descriptor as an index names it."""
        annotations = {_NAME: TAG, _FULL_NAME: f"docker.io/{self.name}"}
        return {**self.descriptor.to_json(), "annotations": annotations}

    def blob(self, descriptor: Descriptor) -> Iterator[bytes]:
        """A blob's bytes, verified as they pass.

        Raises:
            Retryable: they are not what the digest says.
        """
        return self.checked(self.images.blob(self.repository, descriptor.digest), descriptor.digest)

    def checked(self, chunks: Iterable[bytes], digest: str) -> Iterator[bytes]:
        """Chunks as they are; the last step raises if they do not have the digest."""
        found = hashlib.sha256()
        for chunk in chunks:
            found.update(chunk)
            yield chunk
        if f"sha256:{found.hexdigest()}" != digest:
            raise lacking(self.images, digest)


def _read(images: ImageReader, repository: str, digest: str) -> _Image:
    content = _manifest(images, repository, digest)
    kind = media_type(content)
    members = parse_index(content) if kind == INDEX else ()
    below = {
        m.descriptor.digest: _manifest(images, repository, m.descriptor.digest) for m in members
    }
    return _Image(
        images,
        repository,
        Descriptor.of(kind, content),
        documents={**below, digest: content},
        manifests=[parse_manifest(each) for each in (below.values() if members else [content])],
        platforms=[member.platform for member in members],
    )


def _manifest(images: ImageReader, repository: str, digest: str) -> bytes:
    content = images.manifest(repository, digest)
    if content is None:
        raise lacking(images, digest)
    return content


def _write_layout(image: _Image, folder: Path) -> None:
    """Add an image to a layout; one that has its tag before is named no more."""
    marker, index = folder / "oci-layout", folder / "index.json"
    if folder.exists() and not marker.is_file() and any(folder.iterdir()):
        raise Terminal(
            Reason.INVALID_SPEC,
            f"{folder} is no OCI layout, and not empty",
            hint="Name a new folder",
        )
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True, exist_ok=True)
    for descriptor in image.blobs:
        path = blobs / _hex(descriptor.digest)
        if not path.is_file() or path.stat().st_size != descriptor.size:
            with _whole(path) as file:
                file.writelines(image.blob(descriptor))
    for digest, content in image.documents.items():
        with _whole(blobs / _hex(digest)) as file:
            file.write(content)
    with _whole(marker) as file:
        file.write(_LAYOUT)
    others = [each for each in _entries(index) if each.get("annotations", {}).get(_NAME) != TAG]
    with _whole(index) as file:
        file.write(_index([*others, image.named()]))


def _entries(index: Path) -> list[dict[str, Any]]:
    """The images that a layout names already."""
    if not index.exists():
        return []
    try:
        with index.open("rb") as file:
            document = json.loads(file.read(_INDEX_LIMIT))
    except (ValueError, RecursionError):
        document = None
    match document:
        case {"manifests": list(manifests)} if all(
            isinstance(each, dict) and isinstance(each.get("annotations", {}), dict)
            for each in manifests
        ):
            return manifests
        case _:
            raise Terminal(
                Reason.INVALID_SPEC,
                f"{index} is no index of an OCI layout",
                hint="Name a new folder",
            )


def _write_oci_archive(image: _Image, file: IO[bytes]) -> None:
    _add(file, "oci-layout", [_LAYOUT])
    _add(file, "index.json", [_index([image.named()])])
    for digest, content in image.documents.items():
        _add(file, f"blobs/sha256/{_hex(digest)}", [content])
    for descriptor in image.blobs:
        _add(file, f"blobs/sha256/{_hex(descriptor.digest)}", image.blob(descriptor))
    file.write(_ARCHIVE_END)


def _write_docker_archive(image: _Image, file: IO[bytes]) -> None:
    """Layers as plain tars, for not every Docker reads zstd."""
    (manifest,) = image.manifests
    config = _config(image, manifest)
    diff_ids = diff_ids_of(config, len(manifest.layers))
    names = [f"{_hex(diff_id)}.tar" for diff_id in diff_ids]
    for name, diff_id, layer in dict.fromkeys(zip(names, diff_ids, manifest.layers, strict=True)):
        _add(file, name, image.checked(decompress(image.blob(layer), layer), diff_id))
    config_name = f"{_hex(manifest.config.digest)}.json"
    table = [{"Config": config_name, "RepoTags": [image.name], "Layers": names}]
    _add(file, config_name, [config])
    _add(file, "manifest.json", [canonical_json(table)])
    file.write(_ARCHIVE_END)


def _config(image: _Image, manifest: Manifest) -> bytes:
    if manifest.config.size > _CONFIG_LIMIT:
        raise _no_config(f"it has {manifest.config.size} bytes")
    return read_blob(image.images, image.repository, manifest.config)


def diff_ids_of(config: bytes, layers: int) -> list[str]:
    """The digests of an image's layers before they were compressed. Pure.

    Raises:
        Retryable: it is no config of an image with so many layers.
    """
    try:
        document = json.loads(config)
    except (ValueError, RecursionError) as error:
        raise _no_config(f"it is not JSON: {error}") from None
    match document:
        case {"rootfs": {"diff_ids": list(found)}} if len(found) == layers and all(
            isinstance(each, str) and keys.is_digest(each) for each in found
        ):
            return found
        case _:
            raise _no_config(f"it does not name {layers} layers by their digests")


def _no_config(why: str) -> Retryable:
    return Retryable(
        Reason.RESULT_INVALID,
        f"the image's config cannot be used: {why}",
        hint="Build the image again",
    )


def _add(file: IO[bytes], name: str, content: Iterable[bytes]) -> None:
    """Add a member; its header comes last, for some sizes are known only then."""
    start = file.tell()
    file.write(bytes(tarfile.BLOCKSIZE))
    size = 0
    for chunk in content:
        size += len(chunk)
        file.write(chunk)
    file.write(bytes(-size % tarfile.BLOCKSIZE))
    end = file.tell()
    file.seek(start)
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o644
    file.write(info.tobuf(tarfile.GNU_FORMAT))
    file.seek(end)


def _index(manifests: list[dict[str, Any]]) -> bytes:
    return canonical_json({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests})


@contextlib.contextmanager
def _whole(path: Path) -> Iterator[IO[bytes]]:
    """A file that takes its name once it is written to its end."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:64]}-")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb+") as file:
            yield file
        temporary.chmod(0o644)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _hex(digest: str) -> str:
    return digest.removeprefix("sha256:")
