"""`niximage build`: the work of a build Job on this machine, into a bucket."""

import asyncio
import json
import time
from pathlib import Path

import typer

from niximage.api.build import PublishResult
from niximage.api.image import FILE_LIMIT, NixImage, load_file
from niximage.bucket import open_store
from niximage.builder.local import build_image
from niximage.errors import Reason, Terminal
from niximage.nix.programs import NixStore
from niximage.source.resolve import resolve

RESOLVE_TIMEOUT = 60.0  # seconds of one ls-remote


def run(
    *,
    file: Path,
    bucket: str,
    nixpkgs_url: str,
    substituters: tuple[str, ...],
    trusted_public_keys: tuple[str, ...],
    system: str,
    allow_file: bool,
) -> None:
    """Build the image that a file describes, and print one JSON document about it.

    Raises:
        Terminal: the file, the source or the packages are at fault.
        Retryable: the world was in the way.
    """
    image = _read(file)
    started = time.monotonic()

    def say(line: str) -> None:
        typer.echo(f"{time.monotonic() - started:6.1f} s  {line}", err=True)

    source = asyncio.run(
        resolve(
            image.spec.source,
            nixpkgs_url=nixpkgs_url,
            timeout=RESOLVE_TIMEOUT,
            allow_file=allow_file,
        )
    )
    say(f"{source.url} is at {source.revision}")
    store = open_store(bucket)
    try:
        nix = NixStore(substituters=substituters, trusted_public_keys=trusted_public_keys)
        result = build_image(
            image, source, store, nix=nix, system=system, allow_file=allow_file, say=say
        )
    finally:
        store.close()
    typer.echo(json.dumps(_document(image, source.revision, result), indent=2))


def _read(file: Path) -> NixImage:
    try:
        with file.open("rb") as opened:
            return load_file(opened.read(FILE_LIMIT + 1), str(file))
    except OSError as error:
        raise Terminal(Reason.INVALID_SPEC, f"{file}: {error.strerror}") from None


def _document(image: NixImage, revision: str, result: PublishResult) -> dict[str, object]:
    return {
        "image": f"{image.repository}@{result.digest}",
        "digest": result.digest,
        "revision": revision,
        "layers": {"total": result.layers, "reused": result.reused_layers},
        "bytes": {"total": result.size, "reused": result.reused_size},
    }
