"""Dependency histories of images: the closures that successive builds would have had.

Debian's packages stand in for store paths. As in Nix, a path's hash covers all that it refers
to, so whatever a package's update touches changes with it. Two kinds of history are made:

- updates that Debian really made, source package by source package, with the sizes and
  dependencies that came with them: a stable release and its security updates, and what sid
  has that the next release does not have yet. The indexes do not tell the updates' order, a
  seed does;
- updates by chance: 1 to 3 packages per revision, whose sizes move by up to 3 %, either all
  equally often or those with few users more often.
"""

import base64
import hashlib
import random
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from bench.debian import Package, Suite
from niximage.image.closure import Closure, PathInfo

IMAGES: Final[Mapping[str, tuple[str, ...]]] = {
    "web": ("nginx", "php-fpm", "redis-server", "ca-certificates"),
    "dev": ("build-essential", "cmake", "git", "python3-pip"),
    "database": ("postgresql", "postgis", "python3-psycopg2", "curl"),
    "science": ("python3-scipy", "python3-pandas", "python3-matplotlib", "r-base-core"),
    "media": ("ffmpeg", "imagemagick", "vlc-bin", "sox"),
    "office": ("libreoffice-writer", "libreoffice-calc", "fonts-dejavu"),
    "desktop": ("gimp", "libreoffice", "kde-standard"),
    "workstation": ("gnome-core", "kde-standard", "texlive-latex-recommended", "blender", "git"),
}
"""Images of about 80 to 1,500 packages, by names that all suites know."""

HISTORIES: Final[Mapping[str, tuple[str, ...]]] = {
    "security": ("bookworm", "bookworm-updates", "bookworm-security"),
    "rolling": ("forky", "sid"),
    "leaves": ("bookworm",),
    "uniform": ("trixie",),
}
"""Histories, and the suites that they are made of; the first is where they start."""

_DIGITS: Final = "0123456789abcdfghijklmnpqrsvwxyz"


@dataclass(frozen=True, slots=True)
class Node:
    """A package of an image, with what it was found to depend on."""

    package: Package
    needs: tuple[str, ...]


Graph = Mapping[str, Node]


def graph_of(suite: Suite, roots: Iterable[str]) -> dict[str, Node]:
    """The packages that some packages need, over any number of steps."""
    found: dict[str, Node] = {}
    waiting = [name for name in roots if name in suite.packages]
    while waiting:
        name = waiting.pop()
        if name not in found:
            needs = suite.dependencies(suite.packages[name])
            found[name] = Node(suite.packages[name], tuple(n for n in needs if n != name))
            waiting.extend(needs)
    return found


def closure_of(graph: Graph) -> Closure:
    """A graph as Nix would have it: without circles, and with hashes over all that is below."""
    infos: dict[str, PathInfo] = {}
    for name, needs in _without_circles(graph):
        package = graph[name].package
        references = tuple(sorted(infos[need].path for need in needs))
        content = f"{name} {package.version} {package.size} {' '.join(references)}"
        digest = hashlib.sha256(content.encode()).digest()
        number = int.from_bytes(digest[:20])
        code = "".join(_DIGITS[number >> 5 * i & 31] for i in range(32))
        infos[name] = PathInfo(
            path=f"/nix/store/{code}-{path_name(package)}",
            nar_hash="sha256-" + base64.b64encode(digest).decode(),
            nar_size=package.size,
            references=references,
        )
    return Closure.of(infos.values())


def _without_circles(graph: Graph) -> Iterator[tuple[str, list[str]]]:
    """Each package after those that it needs; a need that closes a circle is left out."""
    done: set[str] = set()
    for start in sorted(graph):
        path: dict[str, list[str]] = {}
        waiting = [start]
        while waiting:
            name = waiting[-1]
            if name in done:
                waiting.pop()
            elif name in path:
                waiting.pop()
                del path[name]
                done.add(name)
                yield name, [need for need in graph[name].needs if need in done]
            else:
                path[name] = []
                waiting.extend(n for n in graph[name].needs if n not in done and n not in path)


def updates(old: Suite, new: Suite, roots: tuple[str, ...], *, seed: int, most: int) -> list[Graph]:
    """An image while a suite's packages become another's, some sources at a time.

    Args:
        old: the suite to start from.
        new: the packages that replace them; those that are the same version change nothing.
        roots: the image's packages.
        seed: for the order of the updates.
        most: revisions after the first; each takes an equal share of the updates.
    """
    whole = Suite({**old.packages, **new.packages})
    reached = {**graph_of(old, roots), **graph_of(whole, roots)}
    changed = {
        package.source
        for name in reached
        if (package := new.packages.get(name)) and old.packages.get(name) != package
    }
    order = sorted(changed)
    random.Random(seed).shuffle(order)
    steps = min(most, len(order))
    revisions: list[Graph] = [graph_of(old, roots)]
    for step in range(steps):
        taken = set(order[: (step + 1) * len(order) // steps])
        fresh = {
            name: package
            for name, package in new.packages.items()
            if package.source in taken or name not in old.packages
        }
        revisions.append(graph_of(Suite({**old.packages, **fresh}), roots))
    return revisions


def chances(
    suite: Suite, roots: tuple[str, ...], *, seed: int, count: int, leaves: bool
) -> list[Graph]:
    """An image whose packages are updated by chance.

    Args:
        suite: where from.
        roots: the image's packages.
        seed: for the choice of packages and sizes.
        count: revisions after the first.
        leaves: packages with few users are updated more often.
    """
    chance = random.Random(seed)
    graph = graph_of(suite, roots)
    names = sorted(graph)
    users = dict.fromkeys(names, 0)
    for node in graph.values():
        for need in node.needs:
            users[need] += 1
    weights = [1 / (1 + users[name]) if leaves else 1.0 for name in names]
    revisions: list[Graph] = [graph]
    for number in range(1, count + 1):
        graph = dict(graph)
        for name in chance.choices(names, weights, k=chance.randint(1, 3)):
            package = graph[name].package
            size = round(package.size * chance.uniform(0.97, 1.03))
            version = f"{package.version.split('+b')[0]}+b{number}"
            graph[name] = replace(graph[name], package=replace(package, version=version, size=size))
        revisions.append(graph)
    return revisions


def revisions(history: str, suites: Sequence[Suite], image: str, *, count: int) -> list[Graph]:
    """An image's revisions: the first, and at most `count` updates of it.

    Args:
        history: one of `HISTORIES`.
        suites: those that it names there, in that order.
        image: one of `IMAGES`.
        count: updates.
    """
    first, roots = suites[0], IMAGES[image]
    match history:
        case "security":
            fixes = Suite({**suites[1].packages, **suites[2].packages})
            return updates(first, fixes, roots, seed=1, most=count)
        case "rolling":
            return updates(first, suites[1], roots, seed=2, most=count)
        case "leaves":
            return chances(first, roots, seed=3, count=count, leaves=True)
        case "uniform":
            return chances(first, roots, seed=4, count=count, leaves=False)
        case _:
            raise ValueError(f"no history is called {history!r}")


def popularity(suite: Suite) -> dict[str, int]:
    """How many packages of a suite use a package: what Nixery counts in a channel."""
    users = Counter(n for package in suite.packages.values() for n in suite.dependencies(package))
    return {path_name(suite.packages[name]): count for name, count in users.items() if count > 1}


def path_name(package: Package) -> str:
    """The name that a package's store path has."""
    version = package.version.replace(":", "+").replace("~", "-")
    return f"{package.name}-{version}"
