"""Both steps in one process: the same image, with its digest, as a build Job makes."""

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from niximage.api.base import seconds
from niximage.api.build import BuildOutputs, BuildRequest, PublishResult
from niximage.bucket.evaluations import find_evaluation
from niximage.bucket.known import find_image
from niximage.bucket.store import ObjectStore
from niximage.builder.build import run_build
from niximage.builder.local_build import LocalBuild
from niximage.builder.popularity import layer_strategy
from niximage.builder.prepare import PreparedImage, prepare_image, prepare_root
from niximage.builder.progress import Say, silent
from niximage.builder.publish import run_publish
from niximage.builder.sources import open_caches
from niximage.image.root import Root
from niximage.nix.programs import NixStore
from niximage.nix.substituters import Substituters


@dataclass(frozen=True, slots=True)
class PlannedImage:
    """What an image for one platform would be.

    Attributes:
        prepared: its layers of store paths.
        root: its root; None where it has links to what lies in packages that were not fetched.
    """

    prepared: PreparedImage
    root: Root | None


def build_image(build: LocalBuild, bucket: ObjectStore, *, say: Say = silent) -> PublishResult:
    """Build an image into a bucket, unless it is there.

    Args:
        build: what to build.
        bucket: where the image goes.
        say: takes progress, one line at a time.

    Raises:
        Terminal: the image's spec, source or packages are at fault.
        Retryable: the world was in the way.
    """
    request = BuildRequest.of(build.image, build.source, build.base, asked_at=time.time_ns())
    if (known := _built_before(request, bucket)) is not None:
        say(f"{known.repository}@{known.digest} was built before")
        return known
    request = _with_known(request, bucket, build.nix)
    with (
        open_caches(build.nix) as caches,
        _built(build, request, caches=caches, say=say) as (outputs, scratch),
    ):
        return run_publish(
            request,
            outputs,
            bucket=bucket,
            nix=build.nix,
            caches=caches,
            scratch=scratch,
            threads=build.threads,
            popularity_url=build.popularity_url,
            say=say,
        )


def plan_image(build: LocalBuild, bucket: ObjectStore, *, say: Say = silent) -> list[PlannedImage]:
    """Lay out an image's layers; nothing is packed, and nothing that caches have is fetched.

    Takes and raises what `build_image` does. Only a base goes into the bucket.

    Returns:
        What there would be for each platform.
    """
    request = BuildRequest.of(build.image, build.source, build.base)
    request = _with_known(request, bucket, build.nix)
    strategy = layer_strategy(request.layering, build.popularity_url, say=say)
    with (
        open_caches(build.nix) as caches,
        _built(build, request, caches=caches, say=say) as (outputs, scratch),
    ):
        planned = []
        for platform in request.platforms:
            prepared = prepare_image(
                request,
                platform,
                outputs,
                bucket=bucket,
                nix=build.nix,
                caches=caches,
                scratch=scratch,
                strategy=strategy,
                say=say,
            )
            is_here = not prepared.sources.substitutes
            root = prepare_root(request, prepared, bucket=bucket) if is_here else None
            planned.append(PlannedImage(prepared, root))
        return planned


@contextmanager
def _built(
    build: LocalBuild, request: BuildRequest, *, caches: Substituters | None, say: Say
) -> Iterator[tuple[BuildOutputs, Path]]:
    """The image's packages, kept in the store meanwhile if they are there, and a folder."""
    with tempfile.TemporaryDirectory(prefix="niximage-") as folder:
        scratch = Path(folder)
        roots = scratch / "roots"
        roots.mkdir()
        outputs = run_build(
            request,
            nix=build.nix,
            caches=caches,
            scratch=scratch,
            roots=roots,
            timeout=seconds(build.image.spec.timeout),
            allow_file=build.allow_file,
            credentials=build.credentials,
            say=say,
        )
        yield outputs, scratch


def _with_known(request: BuildRequest, bucket: ObjectStore, nix: NixStore) -> BuildRequest:
    """The request with what its packages were evaluated to before."""
    known = find_evaluation(bucket, request) if nix.substituters else None
    return request.model_copy(update={"known": known})


def _built_before(request: BuildRequest, bucket: ObjectStore) -> PublishResult | None:
    """The image of these inputs, if it is there under the name that is asked for."""
    record = find_image(bucket, request.namespace, request.repository, request.input_hash)
    if record is None:
        return None
    return PublishResult(
        input_hash=request.input_hash,
        repository=record.repository,
        digest=record.digest,
        layers=record.layers,
        size=record.size,
        reused_layers=record.layers,
        reused_size=record.size,
    )
