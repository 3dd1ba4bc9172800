"""`niximage export`: an image out of the registry into a file that other programs load."""

import typer

from niximage.builder.export import export_image, parse_output
from niximage.cli.cluster.options import Where
from niximage.cli.contents.locate import Places, located


def run(where: Where, places: Places, image: str, outputs: list[str]) -> None:
    """Write an image to files and folders.

    Args:
        where: the cluster that NixImages are in.
        places: where images are read from.
        image: which.
        outputs: `oci:FOLDER`, `oci-archive:FILE` or `docker-archive:FILE`.

    Raises:
        Terminal: there is no such image, or an output cannot be written.
        Retryable: cluster, registry or bucket do not answer.
    """
    files = [parse_output(output) for output in outputs]
    with located(where, places, image, whole=True) as [found]:
        for file in files:
            export_image(found.images, found.repository, found.digest, file)
            typer.echo(f"{found} written to {file}")
