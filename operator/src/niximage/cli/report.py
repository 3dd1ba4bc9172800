"""What a build came to: one JSON document, or a few lines."""

import json
from typing import Any

from niximage.api.build import PublishResult
from niximage.bucket import keys
from niximage.bucket.contents import LayerContents, find_contents
from niximage.bucket.images import read_manifest
from niximage.bucket.manifest import parse_manifest
from niximage.bucket.store import ObjectStore
from niximage.builder.export import Output
from niximage.builder.progress import STAGES, size
from niximage.cli.progress import Account
from niximage.cli.wanted import Wanted
from niximage.errors import Reason, Retryable
from niximage.image.closure import STORE
from niximage.image.documents import platform

_CONFIG_LIMIT = 4 << 20


def document(
    wanted: Wanted, result: PublishResult, bucket: ObjectStore, account: Account, system: str
) -> dict[str, Any]:
    """The result as the document of `niximage build --json`.

    Args:
        wanted: what was built.
        result: what came of it.
        bucket: where it is.
        account: what was seen on the way.
        system: what it was built for, as Nix says it.

    Raises:
        Retryable: the bucket fails, or lost the image.
    """
    layers = [
        {
            "digest": layer.digest,
            "diffID": layer.diff_id,
            "size": layer.size,
            "paths": [STORE + name for name in layer.paths or ()],
            "reused": layer.digest not in account.written,
        }
        for layer in _layers(bucket, wanted, result, system)
    ]
    where = platform(system)
    name = "/".join(where[key] for key in ("os", "architecture", "variant") if key in where)
    uploaded = sum(account.written.values())
    return {
        "image": f"{result.repository}@{result.digest}",
        "digest": result.digest,
        "revision": wanted.source.revision,
        "platforms": [{"platform": name, "digest": result.digest, "layers": layers}],
        "bytes": {
            "closure": account.closure_size,
            "downloaded": account.fetched_size,
            "skipped": max(account.fetchable_size - account.fetched_size, 0),
            "packed": account.packed_size,
            "uploaded": uploaded,
            "reused": sum(layer["size"] for layer in layers if layer["reused"]),
        },
        "seconds": {stage: round(account.seconds.get(stage, 0.0), 3) for stage in STAGES},
    }


def summary(report: dict[str, Any], outputs: list[Output]) -> str:
    """The same for people."""
    (layers,) = (each["layers"] for each in report["platforms"])
    count = report["bytes"]
    reused = sum(layer["reused"] for layer in layers)
    total = sum(layer["size"] for layer in layers)
    lines = [
        report["image"],
        f"  {len(layers)} layers, {size(total)}; {reused} layers, {size(count['reused'])} reused",
        *(f"  written to {output}" for output in outputs),
    ]
    return "\n".join(lines)


def _layers(
    bucket: ObjectStore, wanted: Wanted, result: PublishResult, system: str
) -> list[LayerContents]:
    """The image's layers: as recorded, or where that is lost as its documents say."""
    namespace = wanted.image.metadata.namespace
    record = find_contents(bucket, namespace, result.digest, system)
    if record is not None:
        return record.layers
    content = read_manifest(bucket, result.repository, result.digest)
    if content is None:
        raise _lost(bucket, result)
    manifest = parse_manifest(content)
    config = bucket.read(keys.blob(manifest.config.digest), limit=_CONFIG_LIMIT)
    if config is None:
        raise _lost(bucket, result)
    return [
        LayerContents(
            digest=layer.digest, size=layer.size, media_type=layer.media_type, diff_id=diff_id
        )
        for layer, diff_id in zip(
            manifest.layers, json.loads(config)["rootfs"]["diff_ids"], strict=True
        )
    ]


def _lost(bucket: ObjectStore, result: PublishResult) -> Retryable:
    return Retryable(
        Reason.RESULT_INVALID,
        f"{bucket.url} lost {result.repository}@{result.digest}",
        hint="Build it again",
    )
