"""The second step: store paths to an image in the bucket. Trusted code only.

What the first step says is believed in nothing but this: that these store paths, in its own
namespace, are what was asked for.
"""

from pathlib import Path
from typing import Final

from niximage.api.build import BuildOutputs, BuildRequest, PublishResult
from niximage.bucket.publish import publish_manifest, put_blob
from niximage.bucket.records import BuildRecord, save_build
from niximage.bucket.store import ObjectStore
from niximage.builder.layers import bring_layers, wanted_layers
from niximage.builder.progress import Say, silent, size, timed
from niximage.errors import Reason, Retryable
from niximage.image.documents import config_descriptor, config_document, manifest_document
from niximage.image.root import RootPackage, build_root, list_store_directory
from niximage.nix.path_info import query_closure
from niximage.nix.programs import NixStore

_QUERY_TIMEOUT: Final = 600.0  # seconds; the store answers for 10,000 paths in a few


def run_publish(
    request: BuildRequest,
    outputs: BuildOutputs,
    *,
    bucket: ObjectStore,
    nix: NixStore,
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
        scratch: a folder for spool files.
        threads: how many blocks are compressed at once; the digest does not depend on it.
        say: takes progress, one line at a time.

    Raises:
        Terminal: packages provide different files of one name, or files no layer can hold.
        Retryable: the outputs are not what was asked for, or store or bucket fail.
    """
    root_packages = _root_packages(request, outputs)
    with timed(say, "listed the closure"):
        paths = sorted({package.path for package in root_packages})
        closure = query_closure(paths, store=nix, timeout=_QUERY_TIMEOUT)
    say(f"{len(closure)} store paths of {size(closure.nar_size)}")
    root = build_root(root_packages, list_store_directory)
    with timed(say, "brought the layers"):
        layers = bring_layers(
            wanted_layers(closure, root),
            bucket=bucket,
            namespace=request.namespace,
            scratch=scratch,
            threads=threads,
            say=say,
        )
    config = config_document(
        request.config,
        system=request.system,
        layers=[each.layer for each in layers],
        ca_bundle=root.ca_bundle,
    )
    descriptor = config_descriptor(config)
    blobs = [each.layer.descriptor for each in layers]
    manifest = manifest_document(descriptor, blobs)
    with timed(say, "published"):
        put_blob(bucket, descriptor, config)
        # The tag per build keeps images that only a status names from registry clean-ups.
        tags = [request.input_hash]
        published = publish_manifest(bucket, request.repository, manifest, tags=tags)
    result = PublishResult(
        input_hash=request.input_hash,
        repository=request.repository,
        digest=published.digest,
        layers=len(layers),
        size=sum(blob.size for blob in [*blobs, descriptor, published]),
        reused_layers=sum(each.reused for each in layers),
        reused_size=sum(each.layer.descriptor.size for each in layers if each.reused),
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
    say(
        f"{result.repository}@{result.digest}: {result.layers} layers, {size(result.size)}; "
        f"{result.reused_layers} layers, {size(result.reused_size)} were there"
    )
    return result


def _root_packages(request: BuildRequest, outputs: BuildOutputs) -> list[RootPackage]:
    """The outputs to link into the root, once they are those that were asked for."""
    built = [package.attribute for package in outputs.packages]
    if built != request.packages:
        raise Retryable(
            Reason.RESULT_INVALID,
            f"asked for {', '.join(request.packages)}; the build made {', '.join(built)}",
            hint="Build it again",
        )
    return [
        RootPackage(label=package.attribute, path=path)
        for package in outputs.packages
        for path in package.outputs.values()
    ]
