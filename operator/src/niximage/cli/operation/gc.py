"""`niximage gc`: delete from a bucket what no image needs."""

import asyncio
import datetime as dt
import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn

from niximage.bucket import open_store
from niximage.bucket.collect import Collection, collect
from niximage.bucket.collect import Progress as Told
from niximage.bucket.logs import log_keys
from niximage.builder.progress import size
from niximage.cli.duration import length_of
from niximage.cli.tables import show as show_table
from niximage.cli.tables import table
from niximage.errors import NixImageError, Reason, Retryable, Terminal

ROOTS_LIMIT: Final = 256 << 20  # bytes of a file of roots: 100,000 NixImages as JSON

_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}(?![0-9a-f])")


def run(
    bucket: str,
    *,
    roots: Path | None,
    clusters: Path | None,
    grace: str,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Collect a bucket's garbage, and say what went.

    Args:
        bucket: which.
        roots: a file that holds the digests of images that must stay; None asks the cluster.
        clusters: a folder of kubeconfigs of further clusters, which are asked, too.
        grace: for how long what is not needed stays, as `24h`.
        dry_run: whether to delete nothing.
        as_json: whether to print one JSON document instead of a table.

    Raises:
        Terminal: the options are at fault, or there is neither file nor cluster.
        Retryable: the bucket or the cluster fails.
    """
    length = length_of(grace, "--grace")
    store = open_store(bucket)
    try:
        with telling() as tell:
            tell("asking for images in use", 0, None)
            text = _from_cluster(None) if roots is None else _from_file(roots)
            for kubeconfig in kubeconfigs(clusters):
                text += _from_cluster(kubeconfig)
            named = digests(text)
            result = collect(
                store, named, logs=log_keys(text), grace=length, dry_run=dry_run, progress=tell
            )
    finally:
        store.close()
    if as_json:
        typer.echo(json.dumps(document(result, bucket, len(named), length), indent=2))
    else:
        show(result, len(named))


def digests(text: str) -> set[str]:
    """All digests that a text names, be it a list or NixImages as JSON. Pure."""
    return set(_DIGEST.findall(text))


def document(result: Collection, bucket: str, roots: int, grace: float) -> dict[str, Any]:
    """The document of `niximage gc --json`. Pure."""
    return {
        "bucket": bucket,
        "dryRun": result.dry_run,
        "graceSeconds": grace,
        "cutoff": dt.datetime.fromtimestamp(result.cutoff, dt.UTC).isoformat(timespec="seconds"),
        "roots": roots,
        "objects": result.objects,
        "freed": asdict(result.total),
        "repositories": {
            name: asdict(freed) for name, freed in sorted(result.repositories.items())
        },
        "kept": {
            "manifests": result.kept_images,
            "blobs": result.kept_blobs,
            "bytes": result.kept_bytes,
        },
        "spared": result.spared,
        "damaged": result.damaged,
        "seconds": round(result.seconds, 3),
    }


def show(result: Collection, roots: int) -> None:
    """The same for people."""
    if result.repositories:
        columns = ("REPOSITORY", "TAGS", "MANIFESTS", "LINKS", "RECORDS", "BLOBS", "SIZE")
        rows = []
        for name, freed in sorted(result.repositories.items()):
            counts = (freed.tags, freed.manifests, freed.links, freed.records, freed.blobs)
            rows.append([name or "(none)", *map(str, counts), size(freed.bytes)])
        show_table(table(columns, rows, right=" ".join(columns[1:])))
    total = result.total
    verb = "would free" if result.dry_run else "freed"
    typer.echo(
        f"{verb} {size(total.bytes)} in {total.blobs} blobs; {size(result.kept_bytes)} in "
        f"{result.kept_blobs} blobs stay, of {result.kept_images} manifests; "
        f"{roots} digest{' is' if roots == 1 else 's are'} in use"
    )
    if result.spared:
        typer.echo(f"{result.spared} objects were used again meanwhile, and stay")
    for each in result.damaged:
        typer.echo(f"damaged: {each}")


@contextmanager
def telling() -> Iterator[Told]:
    """Tell of progress on standard error: live on a terminal, else a line for each step."""
    if sys.stderr.isatty():
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
        )
        with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
            task = progress.add_task("", total=None)

            def update(what: str, done: int, of: int | None) -> None:
                progress.update(task, description=what, completed=done, total=of)

            yield update
        return
    last = ""

    def line(what: str, _done: int, of: int | None) -> None:
        nonlocal last
        if what != last:
            typer.echo(what if of is None else f"{what}: {of}", err=True)
            last = what

    yield line


def _from_file(file: Path) -> str:
    try:
        if file.stat().st_size > ROOTS_LIMIT:
            raise Terminal(
                Reason.INVALID_SPEC, f"{file} is larger than the {ROOTS_LIMIT} bytes it may have"
            )
        text = file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise Terminal(Reason.INVALID_SPEC, f"{file} cannot be read: {error}") from None
    # A wrong file would delete everything; who means that gives an empty one.
    if not digests(text) and text.strip():
        raise Terminal(
            Reason.INVALID_SPEC,
            f"{file} names no image: there is no sha256:… in it",
            hint="Write one digest per line, or the output of: kubectl get niximages -A -o json",
        )
    return text


def kubeconfigs(folder: Path | None) -> list[Path]:
    """The files of a folder, as a Secret is mounted: its own links begin with a dot.

    Raises:
        Terminal: there is none: what the clusters use would be deleted.
    """
    if folder is None:
        return []
    try:
        found = sorted(f for f in folder.iterdir() if f.is_file() and not f.name.startswith("."))
    except OSError as error:
        raise Terminal(Reason.INVALID_SPEC, f"{folder} cannot be read: {error.strerror}") from None
    if not found:
        raise Terminal(
            Reason.INVALID_SPEC,
            f"{folder} holds no kubeconfig",
            hint="Put one into it for each further cluster, or leave --clusters out",
        )
    return found


def _from_cluster(kubeconfig: Path | None) -> str:
    """All NixImages: whatever they name anywhere, in status, history and specs, is in use.

    Args:
        kubeconfig: of the cluster; None for the pod's own, or that of $KUBECONFIG.
    """
    from niximage.controller.cluster.client import ApiServer
    from niximage.controller.cluster.connection import Kubeconfig, NotAllowed

    user = None if kubeconfig is None else Kubeconfig(str(kubeconfig))
    which = "" if kubeconfig is None else f" in the cluster of {kubeconfig}"

    async def ask() -> list[dict[str, Any]]:
        async with ApiServer(user=user) as server:
            return await server.list_images(dict)

    try:
        text = json.dumps(asyncio.run(ask()))
    except NixImageError as error:
        kind = Retryable if isinstance(error, Retryable) else Terminal
        hint = "Set KUBECONFIG, or give --roots FILE with the digests that must stay"
        if kubeconfig is not None:
            hint = "Mend the kubeconfig; without this cluster nothing is deleted"
        if isinstance(error, NotAllowed):
            hint = "Grant it to list niximages in all namespaces, or give --roots FILE"
        raise kind(
            error.reason,
            f"which images are in use{which} cannot be told: {error.message}",
            hint=hint,
        ) from None
    # More likely the wrong cluster than one that has just lost its last image.
    if not digests(text):
        raise Terminal(
            Reason.INVALID_SPEC,
            f"no NixImage{which or ' of this cluster'} has an image yet: is it the cluster of this "
            "bucket?",
            hint="If it is, give --roots /dev/null"
            if kubeconfig is None
            else f"If it is, leave out {kubeconfig.name}",
        )
    return text
