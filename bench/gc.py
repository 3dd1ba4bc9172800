"""Garbage collection by the number of objects: time, requests, memory.

Against the tests' strict stand-in for Google's storage, over HTTP on loopback: what is measured
is the collection and the client, not Google. Half of the images are in use, the other half is
garbage; an image brings eleven objects.
"""

import gc as memory
import os
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any, Final

from niximage.api.canonical import canonical_json
from niximage.bucket import hold, keys, open_store
from niximage.bucket.collect import collect
from niximage.bucket.records import LayerRecord
from niximage.image.descriptor import CONFIG, LAYER_ZSTD, MANIFEST, Descriptor
from niximage.image.documents import manifest_document

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from support.strict_gcs import StoredObject, StrictGcs, serving

SIZES: Final = (25_000, 50_000, 100_000)  # objects
QUICK_SIZES: Final = (1_100, 2_200)
OBJECTS: Final = 11  # of an image
PAST: Final = 30 * 86_400.0  # seconds since all was written
DAY: Final = 86_400.0


def run(*, quick: bool) -> dict[str, Any]:
    """Measure."""
    return {str(size): _measure(size) for size in (QUICK_SIZES if quick else SIZES)}


def table(results: dict[str, Any]) -> str:
    """The figures as a table."""
    lines = [
        "| objects | dry run | ms per 1,000 | lists | reads | collection | deletes | deletes/s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for size, each in sorted(results.items(), key=lambda item: int(item[0])):
        dry, full = each["dry_run"], each["collection"]
        deletes = full["requests"]["DELETE"]
        lines.append(
            f"| {int(size):,} | {dry['seconds']:.1f} s | {dry['seconds'] / int(size) * 1e6:.0f} "
            f"| {dry['requests']['list']} | {dry['requests']['read']} "
            f"| {full['seconds']:.1f} s | {deletes} | {deletes / full['seconds']:.0f} |"
        )
    return "\n".join(lines)


def _measure(objects: int) -> dict[str, Any]:
    gcs = StrictGcs({"images": {}})
    alive = _fill(gcs, objects // OBJECTS)
    with serving(gcs):
        os.environ["STORAGE_EMULATOR_HOST"] = gcs.url
        store = open_store("gs://images")
        try:
            return {
                name: _collection(gcs, store, alive, dry_run=name == "dry_run")
                for name in ("dry_run", "collection")
            }
        finally:
            store.close()
            del os.environ["STORAGE_EMULATOR_HOST"]


def _collection(gcs: StrictGcs, store: Any, alive: list[str], *, dry_run: bool) -> dict[str, Any]:
    memory.collect()
    gcs.asked.clear()
    start = time.perf_counter()
    result = collect(store, alive, grace=DAY, dry_run=dry_run)
    seconds = time.perf_counter() - start
    assert result.kept_images == len(alive)
    assert result.total.manifests == result.total.tags
    return {
        "seconds": round(seconds, 3),
        "requests": dict(Counter(_kind(each) for each in gcs.asked)),
        "freed_blobs": result.total.blobs,
    }


def _kind(request: str) -> str:
    verb, _, path = request.partition(" ")
    if verb != "GET":
        return verb
    return "list" if "/o?" in path else "read"


def _fill(gcs: StrictGcs, images: int) -> list[str]:
    """Put images there as if they had been published long ago; the digests of those in use."""
    written = hold.now() - PAST
    objects: dict[str, bytes] = {}
    alive = []
    for number in range(images):
        repository = f"team-{number % 50}/app-{number // 50}"
        layers = [Descriptor.of(LAYER_ZSTD, f"layer {number} {n}".encode()) for n in range(2)]
        config = Descriptor.of(CONFIG, f"config {number}".encode())
        manifest = manifest_document(config, layers)
        digest = Descriptor.of(MANIFEST, manifest).digest
        build = Descriptor.of(MANIFEST, f"inputs {number}".encode()).digest.removeprefix("sha256:")
        for blob in (config, *layers):
            objects[keys.blob(blob.digest)] = b"x"
            objects[keys.layer_link(repository, blob.digest)] = blob.digest.encode()
        objects[keys.blob(digest)] = manifest
        objects[keys.revision_link(repository, digest)] = digest.encode()
        objects[keys.tag_index_link(repository, build, digest)] = digest.encode()
        objects[keys.tag_link(repository, build)] = digest.encode()
        objects[keys.layer_record(repository.partition("/")[0], build)] = _record(layers[0])
        if number % 2:
            alive.append(digest)
    for name in sorted(objects):
        made = gcs.put("images", name, objects[name], {}, {})
        gcs.buckets["images"][name] = StoredObject(made.content, made.generation, written)
    return alive


def _record(layer: Descriptor) -> bytes:
    record = LayerRecord(
        diff_id=layer.digest, digest=layer.digest, size=1, media_type=layer.media_type
    )
    return canonical_json(record.to_json())
