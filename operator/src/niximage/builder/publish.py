"""The second step: store paths to an image in the bucket. Trusted code only.

What the first step says is believed in nothing but this: that these store paths, in its own
namespace, are what was asked for.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from niximage.api.build import BuildOutputs, BuildRequest, PublishResult
from niximage.bucket.closures import save_closure
from niximage.bucket.contents import save_contents
from niximage.bucket.evaluations import save_evaluation
from niximage.bucket.leases import leased
from niximage.bucket.publish import publish_manifest, put_blob
from niximage.bucket.records import BuildRecord, save_build
from niximage.bucket.store import ObjectStore
from niximage.builder.assemble import AssembledImage, assemble_image
from niximage.builder.popularity import layer_strategy
from niximage.builder.prepare import prepare_image
from niximage.builder.progress import Say, silent, size, timed
from niximage.image.descriptor import Descriptor
from niximage.image.documents import index_document
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
    popularity_url: str = "",
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
        popularity_url: where the data is that the layering strategy Popularity wants.
        say: takes progress, one line at a time.

    Raises:
        Terminal: packages provide different files of one name, or files no layer can hold.
        Retryable: the outputs are not what was asked for, or store or bucket fail.
    """
    # What is used from the bucket stays there until the image is published.
    with leased(bucket, request.namespace):
        images = []
        prepare = partial(
            prepare_image,
            request,
            bucket=bucket,
            nix=nix,
            caches=caches,
            scratch=scratch,
            strategy=layer_strategy(request.layering, popularity_url, say=say),
            say=say,
        )
        # All of them are planned before any of them is packed: what is wrong is told early.
        for planned in [prepare(platform, outputs) for platform in request.platforms]:
            if len(request.platforms) > 1:
                say(f"the image for {planned.platform}:")
            images.append(
                assemble_image(
                    request,
                    planned,
                    outputs=outputs,
                    bucket=bucket,
                    scratch=scratch,
                    threads=threads,
                    say=say,
                )
            )
        with timed(say, "published", stage="publish"):
            published = _commit(request, images, bucket)
        count = _count(images)
        result = PublishResult(
            input_hash=request.input_hash,
            repository=request.repository,
            digest=published.digest,
            layers=count.layers,
            size=count.size + (published.size if len(images) > 1 else 0),
            reused_layers=count.reused_layers,
            reused_size=count.reused_size,
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
        save_evaluation(bucket, request, outputs)
        say(
            f"{result.repository}@{result.digest}: {result.layers} layers, {size(result.size)}; "
            f"{result.reused_layers} layers, {size(result.reused_size)} were there"
        )
        return result


def _commit(
    request: BuildRequest, images: Sequence[AssembledImage], bucket: ObjectStore
) -> Descriptor:
    """Publish the image: the manifest of its platform, or those of several and then their index."""
    for image in images:
        put_blob(bucket, image.contents.config_descriptor, image.config)
    publish = partial(publish_manifest, bucket, request.repository)
    # The tag per build keeps images that only a status names from registry clean-ups.
    publish_whole = partial(publish, tags=[request.input_hash], asked_at=request.asked_at)
    if len(images) == 1:
        published = publish_whole(images[0].manifest)
        members = [(images[0].system, published)]
    else:
        members = [(image.system, publish(image.manifest)) for image in images]
        published = publish_whole(index_document(members))
    for image, (_, member) in zip(images, members, strict=True):
        save_closure(bucket, request.repository, member, image.closure)
        save_contents(bucket, request.namespace, published.digest, image.system, image.contents)
    return published


@dataclass(slots=True)
class _Count:
    layers: int = 0
    size: int = 0
    reused_layers: int = 0
    reused_size: int = 0


def _count(images: Sequence[AssembledImage]) -> _Count:
    """Layers and bytes of images together, a blob of several counted once."""
    count = _Count()
    seen: set[str] = set()
    for image in images:
        new = [
            (layer, reused)
            for layer, reused in zip(image.layers, image.reused, strict=True)
            if layer.digest not in seen
        ]
        seen.update(layer.digest for layer, _ in new)
        count.layers += len(new)
        count.size += sum(layer.size for layer, _ in new)
        count.size += sum(document.size for document in image.documents)
        count.reused_layers += sum(reused for _, reused in new)
        count.reused_size += sum(layer.size for layer, reused in new if reused)
    return count
