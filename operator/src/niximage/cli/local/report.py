"""What a build came to: one JSON document, or a few lines."""

import json
from typing import Any

from niximage.api.build import PublishResult
from niximage.api.platforms import SYSTEMS, Platform, in_order
from niximage.bucket import keys
from niximage.bucket.contents import LayerContents, find_contents
from niximage.bucket.images import read_manifest
from niximage.bucket.manifest import parse_index, parse_manifest
from niximage.bucket.store import ObjectStore
from niximage.builder.export import Output
from niximage.builder.local_build import LocalBuild
from niximage.builder.progress import STAGES, size
from niximage.cli.local.progress import Account
from niximage.errors import Reason, Retryable
from niximage.image.closure import STORE

_CONFIG_LIMIT = 4 << 20


def document(
    build: LocalBuild, result: PublishResult, bucket: ObjectStore, account: Account
) -> dict[str, Any]:
    """The result as the document of `niximage build --json`.

    Args:
        build: what was built.
        result: what came of it.
        bucket: where it is.
        account: what was seen on the way.

    Raises:
        Retryable: the bucket fails, or lost the image.
    """
    platforms = [
        {
            "platform": platform,
            "digest": digest,
            "layers": [
                {
                    "digest": layer.digest,
                    "diffID": layer.diff_id,
                    "size": layer.size,
                    "paths": [STORE + name for name in layer.paths or ()],
                    "reused": layer.digest not in account.written,
                }
                for layer in _layers(bucket, build, result, platform, digest)
            ],
        }
        for platform, digest in _members(bucket, build, result).items()
    ]
    return {
        "image": f"{result.repository}@{result.digest}",
        "digest": result.digest,
        "revision": build.source.revision,
        "platforms": platforms,
        "bytes": {
            "closure": account.closure_size,
            "downloaded": account.fetched_size,
            "skipped": max(account.fetchable_size - account.fetched_size, 0),
            "packed": account.packed_size,
            "uploaded": sum(account.written.values()),
            "reused": sum(layer["size"] for layer in _distinct(platforms) if layer["reused"]),
        },
        "seconds": {stage: round(account.seconds.get(stage, 0.0), 3) for stage in STAGES},
    }


def summary(report: dict[str, Any], outputs: list[Output]) -> str:
    """The same for people."""
    platforms = report["platforms"]
    lines = [report["image"]]
    for each in platforms:
        head = f"{each['platform']}: " if len(platforms) > 1 else ""
        lines.append(f"  {head}{_words(each['layers'])}")
    lines += [f"  written to {output}" for output in outputs]
    return "\n".join(lines)


def _words(layers: list[dict[str, Any]]) -> str:
    reused = [layer for layer in layers if layer["reused"]]
    total = sum(layer["size"] for layer in layers)
    there = sum(layer["size"] for layer in reused)
    return f"{len(layers)} layers, {size(total)}; {len(reused)} layers, {size(there)} reused"


def _distinct(platforms: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The layers of all platforms; what a platform shares with one before it counts once."""
    found: list[dict[str, Any]] = []
    for each in platforms:
        before = {layer["digest"] for layer in found}
        found += [layer for layer in each["layers"] if layer["digest"] not in before]
    return found


def _members(bucket: ObjectStore, build: LocalBuild, result: PublishResult) -> dict[Platform, str]:
    """The digest of each platform's manifest."""
    platforms = in_order(build.image.spec.platforms)
    if len(platforms) == 1:
        return {platforms[0]: result.digest}
    content = read_manifest(bucket, result.repository, result.digest)
    if content is None:
        raise _lost(bucket, result)
    members = {member.platform: member.descriptor.digest for member in parse_index(content)}
    return {platform: members[platform] for platform in platforms}


def _layers(
    bucket: ObjectStore, build: LocalBuild, result: PublishResult, platform: Platform, digest: str
) -> list[LayerContents]:
    """The image's layers: as recorded, or where that is lost as its documents say."""
    namespace = build.image.metadata.namespace
    record = find_contents(bucket, namespace, result.digest, SYSTEMS[platform])
    if record is not None:
        return record.layers
    content = read_manifest(bucket, result.repository, digest)
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
