"""`niximage plan`: which layers an image would have, without packing them."""

import json
from typing import Any

import typer
from rich.table import Table

from niximage.builder.local import plan_image
from niximage.builder.prepare import PreparedImage
from niximage.builder.progress import size
from niximage.cli.local.build import opened, without_caches_told
from niximage.cli.local.options import Contents, Surroundings
from niximage.cli.local.progress import watching
from niximage.cli.local.wanted import wanted
from niximage.cli.tables import show, table
from niximage.image.closure import store_path_name
from niximage.image.root import Root


def run(contents: Contents, around: Surroundings, *, bucket: str, as_json: bool) -> None:
    """Print the layers that an image would have.

    Args:
        contents: what to plan.
        around: where sources and store paths come from.
        bucket: where a base is, or goes; "" for the one in the user's cache.
        as_json: whether to print one JSON document instead of a table.

    Raises:
        Terminal: the options, the source or the packages are at fault.
        Retryable: the world was in the way.
    """
    with watching() as account, opened(bucket) as store, without_caches_told():
        planned = plan_image(wanted(contents, around), store, say=account)
    platforms: list[dict[str, Any]] = [
        {"platform": image.prepared.platform, "layers": _layers(image.prepared, image.root)}
        for image in planned
    ]
    if as_json:
        closure = sum(image.prepared.closure.nar_size for image in planned)
        document = {"platforms": platforms, "bytes": {"closure": closure}}
        typer.echo(json.dumps(document, indent=2))
        return
    for each in platforms:
        if len(platforms) > 1:
            typer.echo(f"{each['platform']}:")
        show(_table(each["layers"]), cut=True)


def _layers(prepared: PreparedImage, root: Root | None) -> list[dict[str, Any]]:
    """One entry per layer, bottom first; sizes are those of NARs, or compressed for a base.

    The size of a root that is not known yet is None.
    """
    below = [] if prepared.base is None else prepared.base.contents.layers
    return [
        *(
            {
                "kind": "base",
                "digest": layer.digest,
                "size": layer.size,
                "paths": [f"/nix/store/{name}" for name in layer.paths or ()],
            }
            for layer in below
        ),
        *(
            {
                "kind": "store",
                "size": sum(info.nar_size for info in layer.infos),
                "paths": list(layer.paths),
            }
            for layer in prepared.layers
        ),
        {
            "kind": "root",
            "size": None if root is None else sum(entry.size for entry in root.entries),
            "paths": [],
        },
    ]


def _table(layers: list[dict[str, Any]]) -> Table:
    rows = []
    for number, layer in enumerate(layers, 1):
        names = ", ".join(sorted(store_path_name(path) for path in layer["paths"]))
        words = {"base": f"(base) {names}", "root": "root file system", "store": names}
        bytes_ = "?" if layer["size"] is None else size(layer["size"])
        rows.append([str(number), bytes_, str(len(layer["paths"])), words[layer["kind"]].strip()])
    return table(("LAYER", "SIZE", "PATHS", "NAMES"), rows, right="LAYER SIZE PATHS")
