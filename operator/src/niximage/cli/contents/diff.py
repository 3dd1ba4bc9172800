"""`niximage diff`: what changes from one image to another, and what pulling it costs."""

import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import typer
from rich.console import RenderableType
from rich.text import Text

from niximage.bucket.manifest import Manifest
from niximage.builder.progress import size
from niximage.cli.cluster.connect import in_cluster
from niximage.cli.cluster.facts import Facts
from niximage.cli.cluster.options import Where
from niximage.cli.contents.locate import Places, located, parse_image
from niximage.cli.program import program_name
from niximage.cli.tables import Cell, show, table
from niximage.errors import Reason, Terminal
from niximage.image.closure import HASH_LENGTH
from niximage.image.closure_document import ClosureDocument, ClosurePath
from niximage.image.package_name import PackageName


@dataclass(frozen=True, slots=True)
class Change:
    """What became of one name.

    Attributes:
        name: of a package, with its output if it says one.
        before: the versions before; empty for what is new.
        after: and after; empty for what is gone.
        size: by how many bytes its NARs grew.
    """

    name: str
    before: tuple[str, ...]
    after: tuple[str, ...]
    size: int

    @property
    def kind(self) -> str:
        """What happened to it, in one word."""
        if not self.before:
            return "added"
        if not self.after:
            return "removed"
        return "rebuilt" if self.before == self.after else "changed"


@dataclass(frozen=True, slots=True)
class Pull:
    """What a machine fetches that has the first image and wants the second.

    Attributes:
        layers: how many of its layers are new.
        of: how many it has.
        size: bytes of those that are new, compressed.
    """

    layers: int
    of: int
    size: int


def run(where: Where, places: Places, first: str, second: str, *, as_json: bool) -> None:
    """Print what changed between two images.

    Args:
        where: the cluster that NixImages are in.
        places: where images are read from.
        first: the image before; alone, its build before the latest is compared with that.
        second: the image after; "" for none.
        as_json: whether to print one JSON document.

    Raises:
        Terminal: there is no such image, nothing to compare it with, or no closure of it.
        Retryable: cluster, registry or bucket do not answer.
    """
    if not second:
        first, second = _last_two(where, first)
    with located(where, places, first, second) as [before, after]:
        documents = before.closure(), after.closure()
    found = changes(documents[0].paths, documents[1].paths)
    packages = package_changes(*documents)
    cost = pull(before.manifest, after.manifest)
    if as_json:
        typer.echo(json.dumps(as_document(str(before), str(after), found, cost), indent=2))
    else:
        show(
            Text(f"{before}\n{after}"),
            *packages,
            *changed(found),
            *totals(documents[0], documents[1], cost),
        )


def changes(before: Iterable[ClosurePath], after: Iterable[ClosurePath]) -> list[Change]:
    """What became of every name whose store paths are not the same, by name. Pure."""
    old, new = _by_name(before), _by_name(after)
    return [
        Change(
            name,
            tuple(sorted(version for version, _ in old[name].values())),
            tuple(sorted(version for version, _ in new[name].values())),
            sum(bytes_ for _, bytes_ in new[name].values())
            - sum(bytes_ for _, bytes_ in old[name].values()),
        )
        for name in sorted(old.keys() | new.keys())
        if old[name].keys() != new[name].keys()
    ]


def pull(before: Manifest, after: Manifest) -> Pull:
    """What an update fetches. Pure."""
    there = {layer.digest for layer in before.layers}
    new = {layer.digest: layer.size for layer in after.layers if layer.digest not in there}
    return Pull(len(new), len(after.layers), sum(new.values()))


def package_changes(before: ClosureDocument, after: ClosureDocument) -> list[RenderableType]:
    """The packages that were asked for before or after, but not both. Pure."""
    old = {package.attribute for package in before.packages}
    new = {package.attribute for package in after.packages}
    lines = []
    if gone := sorted(old - new):
        lines.append(Text(f"no longer asked for: {', '.join(gone)}"))
    if added := sorted(new - old):
        lines.append(Text(f"newly asked for: {', '.join(added)}"))
    return [*lines]


def changed(found: list[Change]) -> list[RenderableType]:
    """Changes as a table. Pure."""
    if not found:
        return [Text("the same store paths")]
    styles = {"added": "green", "removed": "red", "changed": "yellow"}
    rows: list[list[Cell]] = [
        [
            Text(each.kind, style=styles.get(each.kind, "")),
            each.name,
            _versions(each.before),
            _versions(each.after),
            _grown(each.size),
        ]
        for each in found
    ]
    return [Text(), table(("CHANGE", "NAME", "BEFORE", "AFTER", "SIZE"), rows, right="SIZE")]


def totals(before: ClosureDocument, after: ClosureDocument, cost: Pull) -> list[RenderableType]:
    """What it comes to. Pure."""
    old, new = (sum(path.nar_size for path in each.paths) for each in (before, after))
    return [
        Text(),
        Text(
            f"{len(before.paths)} → {len(after.paths)} store paths, "
            f"{size(old)} → {size(new)} unpacked ({_grown(new - old)})"
        ),
        Text(f"an update pulls {cost.layers} of {cost.of} layers, {size(cost.size)}"),
    ]


def as_document(before: str, after: str, found: list[Change], cost: Pull) -> dict[str, Any]:
    """All of it as JSON. Pure."""
    return {
        "before": before,
        "after": after,
        "changes": [
            {
                "name": each.name,
                "change": each.kind,
                "before": list(each.before),
                "after": list(each.after),
                "size": each.size,
            }
            for each in found
        ],
        "pull": {"layers": cost.layers, "of": cost.of, "size": cost.size},
    }


def _by_name(paths: Iterable[ClosurePath]) -> dict[str, dict[str, tuple[str, int]]]:
    """For each name its store paths with their versions and sizes."""
    named: dict[str, dict[str, tuple[str, int]]] = defaultdict(dict)
    for path in paths:
        found = PackageName.of(path.name[HASH_LENGTH + 1 :])
        named[str(found)][path.name] = (found.version, path.nar_size)
    return named


def _last_two(where: Where, name: str) -> tuple[str, str]:
    """The image before the latest, and the latest, by the NixImage's history."""
    if not (wanted := parse_image(name)).name or wanted.tag or wanted.digest:
        raise Terminal(
            Reason.INVALID_SPEC,
            f"{name[:300]} is to be compared with what?",
            hint="Name two images, or one NixImage alone for its last two",
        )
    image = Facts.of(in_cluster(where, lambda here: here.image(name)))
    latest = image.status.digest
    built = (each.digest for each in image.status.history if each.digest)
    before = next((digest for digest in built if digest != latest), None)
    if latest is None or before is None:
        raise Terminal(
            Reason.REFERENCE_NOT_FOUND,
            f"{name} has no earlier image in its history",
            hint=f"Name it: {program_name()} diff {name}@sha256:… {name}",
        )
    return f"{name}@{before}", name


def _versions(versions: tuple[str, ...]) -> str:
    return ", ".join(version or "∅" for version in versions) or "-"


def _grown(count: int) -> str:
    return f"{'-' if count < 0 else '+'}{size(abs(count))}" if count else "0"
