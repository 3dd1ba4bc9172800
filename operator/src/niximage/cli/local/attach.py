"""`niximage attach`: an artifact for an image that is in the bucket."""

import json
import re
from pathlib import Path
from typing import Final

import typer

from niximage.bucket import keys
from niximage.bucket.artifacts import attach
from niximage.bucket.images import resolve_tag
from niximage.bucket.store import ObjectStore
from niximage.cli.local.build import opened
from niximage.errors import Reason, Terminal

_MEDIA_TYPE: Final = re.compile(
    r"[a-z0-9][a-z0-9!#$&^_.+-]{0,126}/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}"
)
_HOST: Final = re.compile(r"[^/]*[.:][^/]*/|localhost/")


def run(
    image: str,
    files: list[Path],
    *,
    bucket: str,
    artifact_type: str,
    file_type: str | None,
    annotations: list[str],
    as_json: bool,
) -> None:
    """Attach files to an image, and print what names the artifact.

    Args:
        image: `NAMESPACE/NAME@sha256:…` or `NAMESPACE/NAME:TAG`, with or without a host.
        files: what to attach.
        bucket: where the image is.
        artifact_type: what it is, as a media type.
        file_type: what each file is; None for the same.
        annotations: `KEY=VALUE`.
        as_json: whether to print one JSON document.

    Raises:
        Terminal: there is no such image, or the options are at fault.
        Retryable: the bucket fails.
    """
    file_type = file_type or artifact_type
    for kind in (artifact_type, file_type):
        if _MEDIA_TYPE.fullmatch(kind) is None:
            raise _usage(f"{kind[:200]!r} is no media type", "Write it as application/spdx+json")
    notes = dict(_annotation(text) for text in annotations)
    with opened(bucket) as store:
        repository, digest = _find(store, image)
        added = attach(
            store,
            repository,
            digest,
            files,
            artifact_type=artifact_type,
            file_type=file_type,
            annotations=notes,
        )
    document = {
        "repository": repository,
        "subject": digest,
        **added.to_json(),
    }
    name = f"{repository}@{added.descriptor.digest}"
    typer.echo(json.dumps(document, indent=2) if as_json else name)


def _find(store: ObjectStore, image: str) -> tuple[str, str]:
    """The repository and the digest that a user means."""
    name = _HOST.sub("", image, count=1) if _HOST.match(image) else image
    repository, at, digest = name.partition("@")
    repository, colon, tag = repository.partition(":")
    if not keys.is_repository(repository) or (at and not keys.is_digest(digest)):
        raise _usage(f"{image[:300]!r} is no image", "Write NAMESPACE/NAME@sha256:…")
    if at:
        return repository, digest
    if not colon or not keys.is_tag(tag):
        raise _usage(f"{image[:300]!r} has no digest", "Write NAMESPACE/NAME@sha256:…")
    found = resolve_tag(store, repository, tag)
    if found is None:
        raise Terminal(Reason.REFERENCE_NOT_FOUND, f"{repository} in {store.url} has no tag {tag}")
    return repository, found


def _annotation(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise _usage(f"{text[:200]!r} is no annotation", "Write --annotation KEY=VALUE")
    return key, value


def _usage(message: str, hint: str) -> Terminal:
    return Terminal(Reason.INVALID_SPEC, message, hint=hint)
