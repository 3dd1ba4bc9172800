"""`niximage build`: the work of a build Job on this machine."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

import typer

from niximage.bucket import open_store
from niximage.bucket.reader import BucketReader
from niximage.bucket.store import ObjectStore
from niximage.builder.export import check_output, export_image, parse_output
from niximage.builder.local import build_image
from niximage.builder.progress import timed
from niximage.cli.local.options import Contents, Surroundings
from niximage.cli.local.progress import watching
from niximage.cli.local.report import document, summary
from niximage.cli.local.wanted import default_bucket, wanted
from niximage.errors import Reason, Retryable, Terminal
from niximage.source.failures import shown_url


def run(
    contents: Contents, around: Surroundings, *, bucket: str, outputs: list[str], as_json: bool
) -> None:
    """Build an image into a bucket, write it to outputs, and say what came of it.

    Args:
        contents: what to build.
        around: where sources and store paths come from.
        bucket: where to; "" for the one in the user's cache.
        outputs: `oci:FOLDER` and the like.
        as_json: whether to print one JSON document instead of a summary.

    Raises:
        Terminal: the options, the source or the packages are at fault.
        Retryable: the world was in the way.
    """
    if contents.file is None and not contents.package:
        raise Terminal(
            Reason.INVALID_SPEC,
            "what is to be built?",
            hint="Name a file with -f image.yaml, or packages with -p",
        )
    if not bucket and not outputs:
        raise Terminal(
            Reason.INVALID_SPEC,
            "where is the image to go?",
            hint="Add --output docker-archive:image.tar, or --bucket file:///folder",
        )
    files = [parse_output(output) for output in outputs]
    with watching() as account, opened(bucket) as store, without_caches_told():
        target = wanted(contents, around)
        for file in files:
            check_output(file, target.image.spec.platforms)
        account(
            f"{shown_url(target.source.url) or target.source.ref} is at {target.source.revision}"
        )
        result = build_image(target, store, say=account)
        for file in files:
            with timed(account, f"wrote {file}"):
                export_image(BucketReader(store), result.repository, result.digest, file)
        report = document(target, result, store, account)
    typer.echo(json.dumps(report, indent=2) if as_json else summary(report, files))


@contextmanager
def without_caches_told() -> Iterator[None]:
    """Where a binary cache cannot be reached, say how to do without: no network, no operator."""
    try:
        yield
    except Retryable as error:
        if error.reason is Reason.SUBSTITUTER_UNAVAILABLE:
            error.hint = (
                "Try again; or do without binary caches, with what this machine's store has or "
                'builds: add --substituters ""'
            )
        raise


@contextmanager
def opened(url: str) -> Iterator[ObjectStore]:
    """The bucket of a URL, or the one in the user's cache, made if it is absent.

    Raises:
        Terminal: the URL is no bucket's, or the folder cannot be made.
    """
    if not url:
        url = default_bucket()
        try:
            Path(unquote(urlsplit(url).path)).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise Terminal(
                Reason.INVALID_SPEC,
                f"{url} cannot be made: {error.strerror}",
                hint="Name another place with --bucket",
            ) from None
    store = open_store(url)
    try:
        yield store
    finally:
        store.close()
