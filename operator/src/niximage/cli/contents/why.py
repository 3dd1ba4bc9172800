"""`niximage why`: which package brings something into an image, and by which way."""

import json
from collections.abc import Sequence
from typing import Final

import typer
from rich.console import RenderableType
from rich.text import Text
from rich.tree import Tree

from niximage.builder.progress import size
from niximage.cli.cluster.options import Where
from niximage.cli.contents.graph import Chain, chains, find_paths, outputs
from niximage.cli.contents.locate import Places, located
from niximage.cli.tables import show
from niximage.image.closure import store_path_name
from niximage.image.closure_document import ClosureDocument

SHOWN: Final = 10  # store paths of one name that are explained


def run(
    where: Where, places: Places, image: str, wanted: str, *, everyone: bool, as_json: bool
) -> None:
    """Print why something is in an image.

    Args:
        where: the cluster that NixImages are in.
        places: where images are read from.
        image: which.
        wanted: a store path, or a name, with or without its version.
        everyone: whether to show the way from every package, not only the shortest.
        as_json: whether to print one JSON document.

    Raises:
        Terminal: there is no such image, or nothing of that name in it.
        Retryable: cluster, registry or bucket do not answer.
    """
    with located(where, places, image) as [found]:
        document = found.closure()
    closure, roots = document.closure, outputs(document.packages)
    ways = {path: chains(closure, roots, path) for path in find_paths(closure, wanted)[:SHOWN]}
    if as_json:
        answer = [
            {
                "path": path,
                "packages": {chain.package: list(chain.paths) for chain in each},
            }
            for path, each in ways.items()
        ]
        typer.echo(json.dumps(answer, indent=2))
    else:
        for path, each in ways.items():
            show(*explained(document, path, each, everyone=everyone))


def explained(
    document: ClosureDocument, path: str, ways: Sequence[Chain], *, everyone: bool
) -> list[RenderableType]:
    """The ways to a store path as trees of one branch. Pure."""
    info = document.closure[path]
    layer = document.layers.get(path)
    place = "" if layer is None else f", in layer {layer + 1}"
    shown: list[RenderableType] = [Text(f"{path}  {size(info.nar_size)}{place}", style="bold")]
    for way in ways if everyone else ways[:1]:
        root = branch = Tree(Text(way.package), guide_style="dim")
        for each in way.paths:
            branch = branch.add(Text(store_path_name(each)))
        shown.append(root)
    if len(ways) > 1 and not everyone:
        others = ", ".join(way.package for way in ways[1:])
        shown.append(Text(f"needed by {others}, too: --all shows how"))
    return shown
