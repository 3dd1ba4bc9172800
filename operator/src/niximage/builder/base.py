"""The base of an image: fetched if it must be, listed, and with its blobs in the bucket.

A base is known by the record of its contents. Without one, an image of this bucket is listed
from its own blobs, and any other is fetched from its registry, once: afterwards its blobs are
here like those of any image.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from niximage.api.build import PinnedBase
from niximage.bucket import keys
from niximage.bucket.contents import ContentsRecord, LayerContents, find_contents, save_contents
from niximage.bucket.images import read_manifest
from niximage.bucket.publish import put_blob
from niximage.bucket.store import ObjectStore
from niximage.builder.progress import Say, size, timed, watcher
from niximage.builder.registry import fetch_image
from niximage.errors import Reason, Retryable, Terminal
from niximage.image.base import (
    DOCUMENT_LIMIT,
    BaseConfig,
    BaseManifest,
    choose_manifest,
    read_base_config,
    read_base_manifest,
)
from niximage.image.database import DATABASE_NAME
from niximage.image.descriptor import Descriptor, digest_of
from niximage.image.entries import PARENT_MODE, Kind
from niximage.image.layer_reader import list_layer
from niximage.image.tree import STORE_NAME, Listed, Node, Tree

USERS: Final = (b"etc/passwd", b"etc/group")
KEPT: Final = (*USERS, DATABASE_NAME)
"""Files whose content an image adds to: the users of the base stay, and its Nix database."""

_CHUNK: Final = 1 << 20

Blobs = Callable[[Descriptor], Iterator[bytes]]
"""Where blobs are read from, in pieces."""


@dataclass(frozen=True, slots=True)
class BaseImage:
    """An image to build upon, whose blobs are in the bucket.

    Attributes:
        contents: its layers.
        config: what its config says.
        tree: its files.
        reused: for each layer, whether the bucket had it before.
    """

    contents: ContentsRecord
    config: BaseConfig
    tree: Tree
    reused: tuple[bool, ...]


def bring_base(
    base: PinnedBase,
    *,
    bucket: ObjectStore,
    namespace: str,
    system: str,
    scratch: Path,
    say: Say,
) -> BaseImage:
    """See that the bucket has a base, and look what is in it.

    Args:
        base: which.
        bucket: where its blobs are to be.
        namespace: whose records to believe and to write.
        system: what the image is built for, as Nix says it.
        scratch: a folder for what is fetched.
        say: takes progress.

    Raises:
        Terminal: the base is not there, not for us, damaged, or for another platform.
        Retryable: its registry or the bucket fails.
    """
    known = find_contents(bucket, namespace, base.digest, system)
    if known is None and base.image is not None:
        with timed(say, f"fetched the base {base}"):
            return _from_registry(
                base, bucket=bucket, namespace=namespace, system=system, scratch=scratch, say=say
            )
    contents = known if known is not None else _of_bucket(base, bucket, system)
    config = read_base_config(
        _read_config(bucket, contents.config_descriptor), len(contents.layers), system, str(base)
    )
    tree = list_files(contents, lambda descriptor: bucket.stream(keys.blob(descriptor.digest)))
    total = sum(layer.size for layer in contents.layers)
    say(f"the base {base} has {len(contents.layers)} layers of {size(total)}")
    return BaseImage(contents, config, tree, (True,) * len(contents.layers))


def list_files(contents: ContentsRecord, blobs: Blobs) -> Tree:
    """The files of an image, its layers verified where they must be read.

    Raises:
        Terminal: a layer is damaged.
        Retryable: the store fails.
    """
    opener = _Opener(contents.layers, blobs)
    tree = Tree(opener)
    for number, layer in enumerate(contents.layers):
        if layer.paths is None:
            blob = blobs(layer.descriptor)
            listed = list_layer(blob, layer.descriptor, layer.diff_id, keep=KEPT)
            tree.add_layer(number, listed)
        else:
            for path in layer.paths:
                tree.add_store_path(number, path.encode())
    return tree


def _from_registry(
    base: PinnedBase,
    *,
    bucket: ObjectStore,
    namespace: str,
    system: str,
    scratch: Path,
    say: Say,
) -> BaseImage:
    fetched = fetch_image(base, scratch / f"base-{system}", system=system)
    layers = fetched.manifest.layers
    config = read_base_config(fetched.config, len(layers), system, str(base))
    contents = _contents(fetched.manifest, config)
    # Nothing goes into the bucket before all of it was read and found to be right.
    tree = list_files(contents, lambda descriptor: _pieces(fetched.blob(descriptor)))
    put_blob(bucket, fetched.manifest.config, fetched.config)
    reused: list[bool] = []
    for layer in layers:
        watcher(say).uploading(layer)
        written = put_blob(bucket, layer, fetched.blob(layer))
        watcher(say).uploaded(layer, written=written)
        reused.append(not written)
    save_contents(bucket, namespace, base.digest, system, contents)
    return BaseImage(contents, config, tree, tuple(reused))


def _of_bucket(base: PinnedBase, bucket: ObjectStore, system: str) -> ContentsRecord:
    """What is in an image of this bucket, from its manifest alone."""
    content = _manifest(base, bucket, base.digest)
    if (chosen := choose_manifest(content, system, str(base))) is not None:
        content = _manifest(base, bucket, chosen)
    manifest = read_base_manifest(content, str(base))
    raw = _read_config(bucket, manifest.config)
    return _contents(manifest, read_base_config(raw, len(manifest.layers), system, str(base)))


def _manifest(base: PinnedBase, bucket: ObjectStore, digest: str) -> bytes:
    assert base.repository is not None
    content = read_manifest(bucket, base.repository, digest)
    if content is None:
        raise Retryable(
            Reason.REFERENCE_NOT_FOUND,
            f"the base {base} is not in {bucket.url}",
            hint="Build the base first, or check its name and digest",
        )
    return content


def _contents(manifest: BaseManifest, config: BaseConfig) -> ContentsRecord:
    return ContentsRecord(
        config=manifest.config.digest,
        config_size=manifest.config.size,
        layers=[
            LayerContents(
                digest=layer.digest, size=layer.size, media_type=layer.media_type, diff_id=diff_id
            )
            for layer, diff_id in zip(manifest.layers, config.diff_ids, strict=True)
        ],
    )


def _read_config(bucket: ObjectStore, descriptor: Descriptor) -> bytes:
    content = bucket.read(keys.blob(descriptor.digest), limit=DOCUMENT_LIMIT)
    if content is None or digest_of(content) != descriptor.digest:
        raise Retryable(
            Reason.RESULT_INVALID,
            f"the config {descriptor.digest} of the base is not in {bucket.url} as it was",
            hint="Build the base again",
        )
    return content


def _pieces(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            while piece := file.read(_CHUNK):
                yield piece
    except OSError as error:
        raise Terminal(
            Reason.HASH_MISMATCH, f"the base lacks the layer {path.name}: {error.strerror}"
        ) from None


class _Opener:
    """Lists store paths of a base by reading the layers that have them, each once."""

    def __init__(self, layers: list[LayerContents], blobs: Blobs) -> None:
        self._layers = layers
        self._blobs = blobs
        self._listed: dict[int, dict[bytes, list[Listed]]] = {}

    def __call__(self, name: bytes) -> Node:
        tree = Tree()
        top = Node(Kind.FILE, PARENT_MODE)
        for number, layer in enumerate(self._layers):
            if layer.paths is not None and name.decode("utf-8", "replace") not in layer.paths:
                continue
            for entry in self._list(number, layer).get(name, ()):
                if entry.name:
                    tree.add_layer(number, [entry])
                else:
                    top = Node(entry.kind, entry.mode, target=entry.target, layer=number)
        if tree.root.children or top.kind is Kind.DIRECTORY:
            top = tree.root
        return top

    def _list(self, number: int, layer: LayerContents) -> dict[bytes, list[Listed]]:
        """A layer's entries in the store, by store path, named from there."""
        found = self._listed.get(number)
        if found is None:
            found = {}
            blob = self._blobs(layer.descriptor)
            for entry in list_layer(blob, layer.descriptor, layer.diff_id):
                if entry.name.startswith(STORE_NAME + b"/"):
                    name, _, rest = entry.name[len(STORE_NAME) + 1 :].partition(b"/")
                    found.setdefault(name, []).append(replace(entry, name=rest))
            self._listed[number] = found
        return found
