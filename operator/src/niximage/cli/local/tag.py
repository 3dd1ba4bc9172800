"""`niximage tag`: the name that an image will have, before anybody builds it."""

import json

import typer

from niximage.api.build import input_hash
from niximage.cli.local.options import Contents, Surroundings
from niximage.cli.local.wanted import wanted
from niximage.source.failures import shown_url


def run(contents: Contents, around: Surroundings, *, registry: str, as_json: bool) -> None:
    """Print the tag that each image of these inputs gets, as the name of an image.

    Args:
        contents: what the image is; only a source that moves is looked up.
        around: where sources and store paths come from.
        registry: host and port that nodes pull from; "" leaves them out.
        as_json: whether to print one JSON document instead.

    Raises:
        Terminal: the options or the source are at fault.
        Retryable: the source cannot be reached now.
    """
    target = wanted(contents, around)
    inputs = input_hash(target.image, target.source, target.base)
    repository = f"{registry}/{target.image.repository}" if registry else target.image.repository
    moves = target.source.kind == "git" and bool(target.source.ref)
    if as_json:
        document = {
            "image": f"{repository}:{inputs}",
            "inputHash": inputs,
            "repository": target.image.repository,
            "revision": target.source.revision,
            "moves": moves,
        }
        typer.echo(json.dumps(document, indent=2))
    else:
        typer.echo(f"{repository}:{inputs}")
    if moves:
        where = f"{target.source.ref} of {shown_url(target.source.url)}"
        typer.echo(
            f"{where} moves: this names the image at {target.source.revision}. "
            "Pin the source to a revision, or the tag will not stay the image's.",
            err=True,
        )
