"""A closure as a table of numbers, in an order that hashes have no part in.

Planners compare every path with many others, and their plans must not move when hashes do.
Here paths get numbers by the names of their packages, so that a version bump, which changes
the hash and the version of a path and the hashes of all that refer to it, leaves the order
of the paths as it was.
"""

import re
from collections import Counter
from collections.abc import Sequence

from niximage.image.closure import Closure, PathInfo

_NUMBERS = re.compile(r"[-.0-9]+")
_DIGITS = re.compile(r"([0-9]+)")
_VERSION = re.compile(r"-[0-9]")
_OUTPUT = re.compile(r"(.*-[0-9][^-]*)-[a-z]+")


def package_name(name: str) -> str:
    """A store path's name without its numbers, which are mostly versions.

    `openssl-3.0.8` gives `openssl-`, `glibc-2.37-8-bin` gives `glibc-bin`, and so does the
    next version of either.
    """
    return _NUMBERS.sub("-", name)


def derivation_name(name: str) -> str | None:
    """The name and version that the outputs of one derivation share: without `-bin`, `-dev`.

    None for a name without version, such as `source`: its namesakes are others' business.
    """
    if _VERSION.search(name) is None:
        return None
    found = _OUTPUT.fullmatch(name)
    return found[1] if found else name


def package_order(closure: Closure) -> tuple[PathInfo, ...]:
    """The paths of a closure by package, then version; namesakes by what they refer to.

    The hash decides only between paths of one name whose references and users have the same
    names: those may swap their places when hashes change.
    """
    names = Counter(info.name for info in closure)
    users: dict[str, list[str]] = {i.path: [] for i in closure if names[i.name] > 1}
    for info in closure:
        for reference in info.references:
            if reference in users:
                users[reference].append(package_name(info.name))

    def key(info: PathInfo) -> tuple[object, ...]:
        # Digits alternate with text, text first: numbers are never compared with words.
        split = _DIGITS.split(info.name)
        version = [int(part) if part.isdigit() else part for part in split]
        if info.path not in users:
            return package_name(info.name), version
        below = sorted(package_name(closure[path].name) for path in info.references)
        return package_name(info.name), version, below, sorted(users[info.path]), info.path

    return tuple(sorted(closure, key=key))


def reference_table(paths: Sequence[PathInfo]) -> list[list[int]]:
    """The numbers of the paths that each path refers to, ascending."""
    number = {info.path: i for i, info in enumerate(paths)}
    return [sorted(number[path] for path in info.references) for info in paths]


def dependencies_first(references: Sequence[Sequence[int]]) -> list[int]:
    """All numbers, each after those that it refers to.

    Nix makes no circles of references; in a table that has one, somebody comes too early.
    """
    order: list[int] = []
    entered, left = bytearray(len(references)), bytearray(len(references))
    for start in range(len(references)):
        waiting = [start]
        while waiting:
            node = waiting[-1]
            if not entered[node]:
                entered[node] = 1
                waiting.extend(r for r in reversed(references[node]) if not entered[r])
                continue
            waiting.pop()
            if not left[node]:
                left[node] = 1
                order.append(node)
    return order
