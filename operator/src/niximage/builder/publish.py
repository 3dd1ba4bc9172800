"""The second step: store paths to an image in the bucket. Trusted code only.

What the first step says is believed in nothing but this: that these store paths, in its own
namespace, are what was asked for.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from niximage.api.build import BuildOutputs, BuildRequest, PublishResult
from niximage.bucket.contents import ContentsRecord, LayerContents, save_contents
from niximage.bucket.evaluations import save_evaluation
from niximage.bucket.leases import leased
from niximage.bucket.publish import publish_manifest, put_blob
from niximage.bucket.records import BuildRecord, save_build
from niximage.bucket.store import ObjectStore
from niximage.builder.layers import LayerInBucket, bring_layers, root_layer
from niximage.builder.prepare import PreparedImage, prepare_image, prepare_root
from niximage.builder.progress import Say, silent, size, timed
from niximage.image.base import merge_config
from niximage.image.closure import STORE
from niximage.image.compress import CODECS
from niximage.image.documents import config_descriptor, config_document, manifest_document
from niximage.nix.programs import NixStore
from niximage.nix.substituters import Substituters


def run_publish(
    request: BuildRequest,
    outputs: BuildOutputs,
    *,
    bucket: ObjectStore,
    nix: NixStore,
    caches: Substituters | None = None,
    scratch: Path,
    threads: int | None = None,
    say: Say = silent,
) -> PublishResult:
    """Publish the image of built packages, packing only the layers that the bucket lacks.

    Args:
        request: what was asked for.
        outputs: what the first step built.
        bucket: where the image goes.
        nix: how the Nix programs are set up.
        caches: the binary caches that store paths are taken from, if there are any.
        scratch: a folder for spool files.
        threads: how many blocks are compressed at once; the digest does not depend on it.
        say: takes progress, one line at a time.

    Raises:
        Terminal: packages provide different files of one name, or files no layer can hold.
        Retryable: the outputs are not what was asked for, or store or bucket fail.
    """
    # What is used from the bucket stays there until the image is published.
    with leased(bucket, request.namespace):
        return _publish(
            request,
            outputs,
            bucket=bucket,
            nix=nix,
            caches=caches,
            scratch=scratch,
            threads=threads,
            say=say,
        )


def _publish(
    request: BuildRequest,
    outputs: BuildOutputs,
    *,
    bucket: ObjectStore,
    nix: NixStore,
    caches: Substituters | None,
    scratch: Path,
    threads: int | None,
    say: Say,
) -> PublishResult:
    image = prepare_image(
        request, outputs, bucket=bucket, nix=nix, caches=caches, scratch=scratch, say=say
    )
    bring = partial(
        bring_layers,
        contents=image.sources.contents,
        bucket=bucket,
        namespace=request.namespace,
        scratch=scratch,
        threads=threads,
        say=say,
    )
    with timed(say, "brought the layers", stage="pack"):
        layers = bring(image.layers)
        root = prepare_root(request, image, bucket=bucket)
        layers += bring([root_layer(root, codec=CODECS[request.compression])])
    config = config_document(
        request.config,
        system=request.system,
        layers=[each.layer for each in layers],
        ca_bundle=root.ca_bundle,
        source_time=outputs.source_time,
    )
    base = image.base
    if base is not None:
        config = merge_config(config, base.config, request.config)
    contents = _contents(config, image, layers)
    descriptor = contents.config_descriptor
    blobs = [layer.descriptor for layer in contents.layers]
    manifest = manifest_document(descriptor, blobs)
    with timed(say, "published", stage="publish"):
        put_blob(bucket, descriptor, config)
        # The tag per build keeps images that only a status names from registry clean-ups.
        tags = [request.input_hash]
        published = publish_manifest(bucket, request.repository, manifest, tags=tags)
        save_contents(bucket, request.namespace, published.digest, request.system, contents)
    reused = [*(base.reused if base is not None else ()), *(each.reused for each in layers)]
    result = PublishResult(
        input_hash=request.input_hash,
        repository=request.repository,
        digest=published.digest,
        layers=len(blobs),
        size=sum(blob.size for blob in [*blobs, descriptor, published]),
        reused_layers=sum(reused),
        reused_size=sum(blob.size for blob, there in zip(blobs, reused, strict=True) if there),
    )
    save_build(
        bucket,
        request.namespace,
        request.input_hash,
        BuildRecord(
            digest=result.digest,
            size=result.size,
            repository=result.repository,
            layers=result.layers,
            reused_layers=result.reused_layers,
            reused_size=result.reused_size,
            revision=request.source.revision,
        ),
    )
    if request.known is None:
        save_evaluation(bucket, request, outputs)
    say(
        f"{result.repository}@{result.digest}: {result.layers} layers, {size(result.size)}; "
        f"{result.reused_layers} layers, {size(result.reused_size)} were there"
    )
    return result


def _contents(
    config: bytes, image: PreparedImage, layers: Sequence[LayerInBucket]
) -> ContentsRecord:
    """The image's layers, the base's below its own, and what images based on it must know."""
    descriptor = config_descriptor(config)
    own = [
        LayerContents(
            digest=each.layer.descriptor.digest,
            size=each.layer.descriptor.size,
            media_type=each.layer.descriptor.media_type,
            diff_id=each.layer.diff_id,
            paths=[path.removeprefix(STORE) for path in paths] or None,
        )
        for paths, each in zip((*(w.paths for w in image.layers), ()), layers, strict=True)
    ]
    below = image.base.contents.layers if image.base is not None else []
    return ContentsRecord(
        config=descriptor.digest, config_size=descriptor.size, layers=[*below, *own]
    )
