"""The layers of an image: which it needs, and bringing those that are missing into the bucket.

A layer whose key is known, and whose blob is there, is neither read nor packed again. Those
that are missing are packed to spool files, two at once, and uploaded while the next ones are
packed; four spool files at most are on disk at once.
"""

import threading
from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from niximage.bucket.keys import VERIFIED
from niximage.bucket.publish import put_blob
from niximage.bucket.records import LayerRecord, find_layer, save_layer, save_names
from niximage.bucket.store import ObjectStore
from niximage.bucket.threads import in_parallel
from niximage.builder.progress import Say, size, watched, watcher
from niximage.image.closure import Closure, PathInfo
from niximage.image.compress import ZSTD, Codec
from niximage.image.contents import StoreContents, layer_entries
from niximage.image.documents import ImageLayer, comment
from niximage.image.entries import FileEntry
from niximage.image.keys import entries_layer_key, store_layer_key
from niximage.image.names import NamesWriter
from niximage.image.pack import Packer
from niximage.image.planner import MAX_LAYERS, Strategy, plan
from niximage.image.root import Root

SPOOLED: Final = 4  # layers on disk: two that upload, two that are being packed


@dataclass(frozen=True, slots=True)
class WantedLayer:
    """A layer that the image has, whether or not the bucket does.

    Attributes:
        key: its layer key.
        comment: what is in it.
        infos: the store paths to pack, or none for the customisation layer.
        entries: the entries of the customisation layer.
        codec: how it is compressed, as its key says.
        is_verified: whether all of it is content that a trusted key signed: then all namespaces
            share it.
    """

    key: str
    comment: str
    infos: tuple[PathInfo, ...] = ()
    entries: tuple[FileEntry, ...] = ()
    codec: Codec = ZSTD
    is_verified: bool = False

    @property
    def paths(self) -> tuple[str, ...]:
        """The store paths to pack."""
        return tuple(info.path for info in self.infos)

    def read(self, contents: StoreContents) -> Iterable[FileEntry]:
        """What to pack."""
        return layer_entries(self.infos, contents) if self.infos else self.entries


@dataclass(frozen=True, slots=True)
class LayerInBucket:
    """A layer that is there.

    Attributes:
        layer: as the documents tell of it.
        reused: whether it was there before.
    """

    layer: ImageLayer
    reused: bool


def store_layers(
    closure: Closure,
    *,
    verified: Collection[str] = (),
    codec: Codec = ZSTD,
    max_layers: int = MAX_LAYERS,
    strategy: Strategy | None = None,
) -> tuple[WantedLayer, ...]:
    """The layers of an image's store paths, bottom first.

    Args:
        closure: the store paths that need a layer.
        verified: those whose content a trusted key signed.
        codec: how layers are compressed.
        max_layers: the most there may be, the customisation layer included.
        strategy: how store paths are grouped; the planner's own if not given.
    """
    return tuple(
        WantedLayer(
            key=store_layer_key(layer.paths, codec=codec.id),
            comment=comment([info.name for info in layer.paths]),
            infos=tuple(layer.paths),
            codec=codec,
            is_verified=all(info.path in verified for info in layer.paths),
        )
        for layer in plan(closure, max_layers=max_layers, strategy=strategy)
    )


def root_layer(root: Root, *, codec: Codec = ZSTD) -> WantedLayer:
    """The customisation layer, which comes last."""
    return WantedLayer(
        key=entries_layer_key(root.entries, codec=codec.id),
        comment="root file system",
        entries=root.entries,
        codec=codec,
    )


def bring_layers(
    wanted: Sequence[WantedLayer],
    *,
    contents: StoreContents,
    bucket: ObjectStore,
    namespace: str,
    scratch: Path,
    threads: int | None = None,
    say: Say,
) -> list[LayerInBucket]:
    """See that the bucket has the layers.

    Args:
        wanted: the layers, bottom first.
        contents: where the files of their store paths come from.
        bucket: where to.
        namespace: whose layer index to believe and to write, but for layers that all share.
        scratch: a folder for spool files, where the bucket has none of its own.
        threads: how many blocks are compressed at once.
        say: takes progress.

    Returns:
        The layers, in their order.

    Raises:
        Terminal: a file that no layer can hold.
        Retryable: the store or the bucket fails.
    """
    known = in_parallel(
        lambda layer: find_layer(bucket, _index(layer, namespace), layer.key), wanted
    )
    missing = sum(record is None for record in known)
    if any(layer.infos for layer in wanted):
        say(f"{len(wanted) - missing} of {len(wanted)} layers are there")
    watcher(say).layers_found(missing, len(wanted))
    results: list[LayerInBucket | Future[LayerInBucket]] = []
    with (
        Packer(threads=threads) as packer,
        ThreadPoolExecutor(SPOOLED, thread_name_prefix="layer") as pool,
    ):
        bringing = _Bringing(contents, bucket, namespace, scratch, packer, say)
        try:
            for layer, record in zip(wanted, known, strict=True):
                if record is None:
                    results.append(pool.submit(bringing, layer))
                else:
                    results.append(_there(layer, record, reused=True))
            for done in as_completed(_futures(results)):
                done.result()
        except BaseException:
            # One that fails fails the image: what has not begun never does, and what is being
            # packed ends at its next block, or where it waits for a download.
            for future in _futures(results):
                future.cancel()
            packer.stop()
            contents.stop()
            raise
        return [each.result() if isinstance(each, Future) else each for each in results]


@dataclass(frozen=True, slots=True)
class _Bringing:
    """Packs and uploads one layer; called from several threads, which speak one at a time."""

    contents: StoreContents
    bucket: ObjectStore
    namespace: str
    scratch: Path
    packer: Packer
    say: Say
    line: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, layer: WantedLayer) -> LayerInBucket:
        names = NamesWriter()
        entries = watched(layer.read(self.contents), self.say, layer.comment)
        if layer.is_verified:
            entries = names.passing(entries)
        spool = self.bucket.spool(self.scratch)
        packed = self.packer.pack(entries, spool, codec=layer.codec)
        descriptor = packed.descriptor
        try:
            watcher(self.say).packed(layer.comment, packed.tar_size)
            with self.line:
                self.say(
                    f"packed {size(packed.tar_size)} to {size(descriptor.size)}: {layer.comment}"
                )
            watcher(self.say).uploading(descriptor)
            written = put_blob(self.bucket, descriptor, packed.path)
            watcher(self.say).uploaded(descriptor, written=written)
        finally:
            packed.path.unlink(missing_ok=True)
        if layer.is_verified and (written_down := names.finish()) is not None:
            save_names(self.bucket, layer.key, written_down)
        # The record that names a blob comes after it.
        record = LayerRecord(
            diff_id=packed.diff_id,
            digest=descriptor.digest,
            size=descriptor.size,
            media_type=descriptor.media_type,
        )
        # Another build may have been first: then its blob is the one that images share.
        standing = save_layer(self.bucket, _index(layer, self.namespace), layer.key, record)
        reused = not written or standing.digest != record.digest
        return _there(layer, standing, reused=reused)


def _index(layer: WantedLayer, namespace: str) -> str:
    """Whose layer index has a layer: what a tenant's build may have made stays with the tenant."""
    return VERIFIED if layer.is_verified else namespace


def _there(layer: WantedLayer, record: LayerRecord, *, reused: bool) -> LayerInBucket:
    return LayerInBucket(ImageLayer(record.descriptor, record.diff_id, layer.comment), reused)


def _futures(
    results: Iterable[LayerInBucket | Future[LayerInBucket]],
) -> list[Future[LayerInBucket]]:
    return [each for each in results if isinstance(each, Future)]
