"""The layers of an image: which it needs, and bringing those that are missing into the bucket.

A layer whose key is known, and whose blob is there, is neither read nor packed again. One
that is missing is packed to a spool file and uploaded while the next one is packed; two spool
files at most are on disk at once.
"""

import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from niximage.bucket.publish import put_blob
from niximage.bucket.records import LayerRecord, find_layer, save_layer
from niximage.bucket.store import ObjectStore
from niximage.bucket.threads import in_parallel
from niximage.builder.progress import Say, size
from niximage.image.closure import Closure
from niximage.image.documents import ImageLayer, comment
from niximage.image.entries import FileEntry
from niximage.image.keys import entries_layer_key, store_layer_key
from niximage.image.pack import PackedLayer, pack, store_entries
from niximage.image.planner import plan
from niximage.image.root import Root

SPOOLED: Final = 2  # packed layers on disk: one that uploads, one that is being packed


@dataclass(frozen=True, slots=True)
class WantedLayer:
    """A layer that the image has, whether or not the bucket does.

    Attributes:
        key: its layer key.
        comment: what is in it.
        paths: the store paths to pack, or none for the customisation layer.
        entries: the entries of the customisation layer.
    """

    key: str
    comment: str
    paths: tuple[str, ...] = ()
    entries: tuple[FileEntry, ...] = ()

    def read(self) -> Iterable[FileEntry]:
        """What to pack."""
        return store_entries(self.paths) if self.paths else self.entries


@dataclass(frozen=True, slots=True)
class LayerInBucket:
    """A layer that is there.

    Attributes:
        layer: as the documents tell of it.
        reused: whether it was there before.
    """

    layer: ImageLayer
    reused: bool


def wanted_layers(closure: Closure, root: Root) -> tuple[WantedLayer, ...]:
    """The layers of an image, the customisation layer last."""
    planned = [
        WantedLayer(
            key=store_layer_key(layer.paths),
            comment=comment([info.name for info in layer.paths]),
            paths=tuple(info.path for info in layer.paths),
        )
        for layer in plan(closure)
    ]
    root_layer = WantedLayer(
        key=entries_layer_key(root.entries), comment="root file system", entries=root.entries
    )
    return (*planned, root_layer)


def bring_layers(
    wanted: Sequence[WantedLayer],
    *,
    bucket: ObjectStore,
    namespace: str,
    scratch: Path,
    threads: int | None = None,
    say: Say,
) -> list[LayerInBucket]:
    """See that the bucket has the layers.

    Args:
        wanted: the layers, bottom first.
        bucket: where to.
        namespace: whose layer index to believe and to write.
        scratch: a folder for spool files.
        threads: how many blocks are compressed at once.
        say: takes progress.

    Returns:
        The layers, in their order.

    Raises:
        Terminal: a file that no layer can hold.
        Retryable: the store or the bucket fails.
    """
    known = in_parallel(lambda layer: find_layer(bucket, namespace, layer.key), wanted)
    say(f"{sum(record is not None for record in known)} of {len(wanted)} layers are there")
    spooled = threading.Semaphore(SPOOLED)
    results: list[LayerInBucket | Future[LayerInBucket]] = []
    with ThreadPoolExecutor(SPOOLED, thread_name_prefix="upload") as uploads:
        for layer, record in zip(wanted, known, strict=True):
            if record is not None:
                results.append(_there(layer, record, reused=True))
                continue
            _raise_failed(results)
            spooled.acquire()
            try:
                packed = pack(layer.read(), scratch, threads=threads)
                say(
                    f"packed {size(packed.tar_size)} to {size(packed.descriptor.size)}: "
                    f"{layer.comment}"
                )
                upload = _Upload(bucket, namespace, layer, packed)
                future = uploads.submit(upload)
            except BaseException:
                spooled.release()
                raise
            future.add_done_callback(lambda _: spooled.release())
            results.append(future)
        return [each.result() if isinstance(each, Future) else each for each in results]


@dataclass(frozen=True, slots=True)
class _Upload:
    """Blob first, then the record that names it; the spool file goes either way."""

    bucket: ObjectStore
    namespace: str
    layer: WantedLayer
    packed: PackedLayer

    def __call__(self) -> LayerInBucket:
        descriptor = self.packed.descriptor
        try:
            written = put_blob(self.bucket, descriptor, self.packed.path)
        finally:
            self.packed.path.unlink(missing_ok=True)
        record = LayerRecord(
            diff_id=self.packed.diff_id,
            digest=descriptor.digest,
            size=descriptor.size,
            media_type=descriptor.media_type,
        )
        # Another build may have been first: then its blob is the one that images share.
        standing = save_layer(self.bucket, self.namespace, self.layer.key, record)
        reused = not written or standing.digest != record.digest
        return _there(self.layer, standing, reused=reused)


def _there(layer: WantedLayer, record: LayerRecord, *, reused: bool) -> LayerInBucket:
    return LayerInBucket(ImageLayer(record.descriptor, record.diff_id, layer.comment), reused)


def _raise_failed(results: Iterable[LayerInBucket | Future[LayerInBucket]]) -> None:
    """Stop packing when an upload has failed: the rest would fail, too."""
    for each in _finished(results):
        each.result()


def _finished(
    results: Iterable[LayerInBucket | Future[LayerInBucket]],
) -> Iterator[Future[LayerInBucket]]:
    return (each for each in results if isinstance(each, Future) and each.done())
