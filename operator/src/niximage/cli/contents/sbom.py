"""`niximage sbom`: what is in an image, for programs that look for vulnerabilities."""

import json

import typer

from niximage.cli.cluster.options import Where
from niximage.cli.contents.locate import Places, located
from niximage.image.sbom import sbom


def run(where: Where, places: Places, image: str) -> None:
    """Print the bill of materials of an image.

    Args:
        where: the cluster that NixImages are in.
        places: where images are read from.
        image: which.

    Raises:
        Terminal: there is no such image, or nothing is known of its closure.
        Retryable: cluster, registry or bucket do not answer.
    """
    with located(where, places, image) as [found]:
        bill = sbom(found.closure(), digest=found.digest, repository=found.repository)
    typer.echo(json.dumps(bill, indent=2))
