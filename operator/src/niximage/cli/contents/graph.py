"""Questions to a closure: what a path needs, who needs it, by which way. Pure."""

import difflib
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from niximage.api.build import BuiltPackage
from niximage.errors import Reason, Terminal
from niximage.image.closure import STORE, Closure, store_path_name
from niximage.image.package_name import PackageName

NEAR: Final = 5  # names that are suggested


@dataclass(frozen=True, slots=True)
class Chain:
    """A way from a package to a store path.

    Attributes:
        package: what was asked for, `openssl` or `openssl^dev`.
        paths: from one of its outputs to the path, each referring to the next.
    """

    package: str
    paths: tuple[str, ...]


def outputs(packages: Iterable[BuiltPackage]) -> dict[str, tuple[str, ...]]:
    """The store paths of each package that was asked for."""
    return {package.attribute: tuple(package.outputs.values()) for package in packages}


def closure_size(closure: Closure, roots: Iterable[str]) -> int:
    """Bytes of the NARs of store paths and of all that they need."""
    return sum(closure[path].nar_size for path in closure.reachable(roots))


def needed_by(closure: Closure, roots: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """For each store path the packages that need it."""
    needed: dict[str, list[str]] = {path: [] for path in closure.infos}
    for package, paths in sorted(roots.items()):
        for path in closure.reachable(paths):
            needed[path].append(package)
    return needed


def find_paths(closure: Closure, wanted: str) -> list[str]:
    """The store paths that a user means: by path, by name, by name without version.

    Raises:
        Terminal: there is none, with the names that are near.
    """
    path = wanted if wanted.startswith(STORE) else f"{STORE}{wanted}"
    path = "/".join(path.split("/")[:4])  # a file of it will do
    if path in closure:
        return [path]
    if found := [each for each in closure.infos if store_path_name(each) == wanted]:
        return found
    names = {info.path: PackageName.of(info.name).name for info in closure}
    if found := [each for each, name in names.items() if name == wanted]:
        return found
    known = set(names.values())
    near = difflib.get_close_matches(wanted, known, n=NEAR) or sorted(
        name for name in known if wanted in name
    )
    raise Terminal(
        Reason.REFERENCE_NOT_FOUND,
        f"nothing called {wanted[:300]} is in this image",
        hint=f"Did you mean {', '.join(near[:NEAR])}?" if near else "See the names with `tree`",
    )


def chains(closure: Closure, roots: Mapping[str, Sequence[str]], target: str) -> list[Chain]:
    """The shortest way from each package that needs a store path, the shortest first."""
    # One search against the references' direction serves all packages.
    referrers: dict[str, list[str]] = {}
    for info in closure:
        for reference in info.references:
            referrers.setdefault(reference, []).append(info.path)
    following: dict[str, str | None] = {target: None}
    waiting = deque([target])
    while waiting:
        path = waiting.popleft()
        for referrer in referrers.get(path, ()):
            if referrer not in following:
                following[referrer] = path
                waiting.append(referrer)
    found = []
    for package, paths in roots.items():
        ways = [_follow(following, path) for path in paths if path in following]
        if ways:
            found.append(Chain(package, min(ways, key=len)))
    return sorted(found, key=lambda chain: (len(chain.paths), chain.package))


def _follow(following: Mapping[str, str | None], start: str) -> tuple[str, ...]:
    way = [start]
    while (after := following[way[-1]]) is not None:
        way.append(after)
    return tuple(way)
