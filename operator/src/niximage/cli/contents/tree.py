"""`niximage tree`: the closure of an image by size."""

import json
from typing import Any, Final

import typer
from rich.console import RenderableType
from rich.text import Text
from rich.tree import Tree

from niximage.builder.progress import size
from niximage.cli.cluster.options import Where
from niximage.cli.contents.graph import closure_size, needed_by, outputs
from niximage.cli.contents.locate import Located, Places, located
from niximage.cli.tables import show, table
from niximage.image.closure import Closure, store_path_name
from niximage.image.closure_document import ClosureDocument

NAMED: Final = 4  # packages that a row of the flat list names


def run(where: Where, places: Places, image: str, *, depth: int, flat: bool, as_json: bool) -> None:
    """Print what is in an image.

    Args:
        where: the cluster that NixImages are in.
        places: where images are read from.
        image: which.
        depth: how many steps below the packages are shown.
        flat: whether to print one line per store path instead, the largest first.
        as_json: whether to print one JSON document.

    Raises:
        Terminal: there is no such image, or nothing is known of its closure.
        Retryable: cluster, registry or bucket do not answer.
    """
    with located(where, places, image) as [found]:
        document = found.closure()
    if as_json:
        typer.echo(json.dumps(as_document(found, document), indent=2))
    else:
        title = Text(f"{found}: {summary(document)}, {len(found.manifest.layers)} layers")
        base = [] if document.base is None else [Text(f"based on {document.base}")]
        show(title, *base, by_path(document) if flat else by_package(document, depth=depth))


def summary(document: ClosureDocument) -> str:
    """How much is in a closure. Pure."""
    total = sum(path.nar_size for path in document.paths)
    return f"{len(document.paths)} store paths, {size(total)} unpacked"


def by_package(document: ClosureDocument, *, depth: int) -> RenderableType:
    """The packages with what they refer to, the largest first; each path is followed once. Pure."""
    closure = document.closure
    root = Tree(Text("", end=""), hide_root=True, guide_style="dim")
    seen: set[str] = set()
    packages = [
        (package, paths, closure_size(closure, paths))
        for package, paths in outputs(document.packages).items()
    ]
    for package, paths, total in sorted(packages, key=lambda each: (-each[2], each[0])):
        branch = root.add(Text(f"{package}  {size(total)} with all that it needs", style="bold"))
        for path in sorted(paths):
            _grow(branch, closure, path, depth, seen)
    return root


def by_path(document: ClosureDocument) -> RenderableType:
    """One line per store path, the largest first, with the packages that need it. Pure."""
    closure, layers = document.closure, document.layers
    needed = needed_by(closure, outputs(document.packages))
    rows = [
        [
            size(info.nar_size),
            str(layers[info.path] + 1) if info.path in layers else "-",
            store_path_name(info.path),
            ", ".join(needed[info.path][:NAMED])
            + (f" and {len(needed[info.path]) - NAMED} more" * (len(needed[info.path]) > NAMED)),
        ]
        for info in sorted(closure, key=lambda info: (-info.nar_size, info.path))
    ]
    return table(("SIZE", "LAYER", "NAME", "NEEDED BY"), rows, right="SIZE LAYER")


def as_document(found: Located, document: ClosureDocument) -> dict[str, Any]:
    """All of it as JSON. Pure."""
    closure, layers = document.closure, document.layers
    needed = needed_by(closure, outputs(document.packages))
    return {
        "image": str(found),
        "base": document.base,
        "packages": {package.attribute: package.outputs for package in document.packages},
        "paths": [
            {
                "path": info.path,
                "narHash": info.nar_hash,
                "narSize": info.nar_size,
                "references": list(info.references),
                "layer": layers.get(info.path),
                "neededBy": needed[info.path],
            }
            for info in closure
        ],
    }


def _grow(branch: Tree, closure: Closure, path: str, depth: int, seen: set[str]) -> None:
    info = closure[path]
    words = f"{info.name}  {size(info.nar_size)}"
    if path in seen:
        if info.references:
            words += "  (above)"
        branch.add(Text(words, style="dim"))
        return
    seen.add(path)
    below = {each: closure_size(closure, [each]) for each in info.references}
    if depth <= 0 and below:
        words += f"  … {len(closure.reachable([path])) - 1} more"
    grown = branch.add(Text(words))
    if depth > 0:
        for each in sorted(below, key=lambda each: (-below[each], each)):
            _grow(grown, closure, each, depth - 1, seen)
