"""Nixery's way to share layers: by dominators, popularity and size.

A path that can only be reached through another travels with it; whatever several others need,
or is popular or large, stands alone. While there are too many such groups, the two that matter
least merge, by popularity times closure size.

It wants data on how many packages use a package, which Nixery counts in a channel. Unlike
Nixery's own, the order does not depend on what a cache knows, ratings are looked at anew after
each merge, nothing is counted twice within a group's closure, and a version bump does not make
a package unpopular.
"""

import heapq
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Self

from niximage.errors import Reason, Terminal
from niximage.image.closure import PathInfo
from niximage.image.references import dependencies_first, package_name, reference_table

DATA_LIMIT: Final = 16 << 20  # bytes of popularity data; a channel's has under 3 MB
ENTRY_LIMIT: Final = 500_000
NAME_LIMIT: Final = 211  # characters of a store path's name
COUNT_LIMIT: Final = 1 << 53  # what every JSON reader takes for a whole number

POPULAR: Final = 100  # users that make a path stand alone
LARGE: Final = 100_000_000  # bytes of a closure that make its path stand alone
EVERYWHERE: Final = ("nss-cacert", "iana-etc")  # in every image of Nixery's
EVERYWHERE_COUNT: Final = 500_000


@dataclass(frozen=True, slots=True)
class Popularity:
    """Group as Nixery does.

    Attributes:
        counts: how many packages use a package, by `name-version`.
    """

    counts: Mapping[str, int]

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        """Read popularity data: one JSON object of names and counts.

        Raises:
            Terminal: too large, not JSON, or not of this shape.
        """
        if len(data) > DATA_LIMIT:
            raise _malformed(f"it has more than {DATA_LIMIT >> 20} MiB")
        try:
            found = json.loads(data, object_pairs_hook=_unique, parse_constant=_no_number)
        except (ValueError, RecursionError) as error:
            raise _malformed(f"it is not JSON: {error}") from None
        if not isinstance(found, dict):
            raise _malformed("it is no object")
        if len(found) > ENTRY_LIMIT:
            raise _malformed(f"it has more than {ENTRY_LIMIT} entries")
        for name, count in found.items():
            if not 0 < len(name) <= NAME_LIMIT:
                raise _malformed(f"{name[:80]!r} is no package's name")
            if type(count) is not int or not 0 <= count <= COUNT_LIMIT:
                raise _malformed(f"{name!r} has the count {str(count)[:80]}")
        return cls(MappingProxyType(found))

    def groups(self, paths: Sequence[PathInfo], limit: int) -> list[list[int]]:
        """Group the paths of a closure: see `niximage.image.planner.Strategy`.

        The groups that matter most come first, so that images which share them share the
        bottom of their layers.
        """
        references = reference_table(paths)
        popularity = self._popularity(paths)
        closure_sizes = _closure_sizes(paths, references)
        alone = [
            count >= POPULAR or size > LARGE
            for count, size in zip(popularity, closure_sizes, strict=True)
        ]
        members: dict[int, list[int]] = {}
        for i, head in enumerate(_heads(references, alone)):
            members.setdefault(head, []).append(i)
        # The head's number breaks ties: unique, and by name.
        rated = [(popularity[head] * closure_sizes[head], head) for head in members]
        heapq.heapify(rated)
        while len(rated) > limit:
            rating, head = heapq.heappop(rated)
            other_rating, other = heapq.heappop(rated)
            members[other].extend(members.pop(head))
            heapq.heappush(rated, (rating + other_rating, other))
        return [members[head] for _, head in sorted(rated, key=lambda r: (-r[0], r[1]))]

    def _popularity(self, paths: Sequence[PathInfo]) -> list[int]:
        """How popular each path is; 1 for those that nobody counted."""
        other_versions: dict[str, int] = {}
        for name, count in self.counts.items():
            package = package_name(name)
            other_versions[package] = max(count, other_versions.get(package, 0))
        return [
            EVERYWHERE_COUNT
            if info.name.startswith(EVERYWHERE)
            else self.counts.get(info.name, other_versions.get(package_name(info.name), 1))
            for info in paths
        ]


def _heads(references: Sequence[Sequence[int]], alone: Sequence[bool]) -> list[int]:
    """For each path the topmost one that dominates it: its child of the root, or itself.

    The root refers to what nothing else does, and to what stands alone. A path that all its
    users reach from one child of the root is dominated by that child; a path whose users have
    different ones is a child of the root itself. So the first level of the dominator tree,
    which is all that counts, takes a single walk from the users down.
    """
    users: list[list[int]] = [[] for _ in references]
    for user, row in enumerate(references):
        for reference in row:
            users[reference].append(user)
    heads = [-1] * len(references)
    for i in reversed(dependencies_first(references)):
        above = {heads[user] for user in users[i]}
        # -1 is a user yet to come: in a circle, which Nix does not make.
        dominated = len(above) == 1 and -1 not in above and not alone[i]
        heads[i] = above.pop() if dominated else i
    return heads


def _closure_sizes(paths: Sequence[PathInfo], references: Sequence[Sequence[int]]) -> list[int]:
    """The bytes of each path's closure, each path in it counted once."""
    order = dependencies_first(references)
    below = [0] * len(paths)
    for bit, i in enumerate(order):
        below[i] = 1 << bit
        for reference in references[i]:
            below[i] |= below[reference]
    # Per binary digit the paths whose size has it: what they share with a closure is counted
    # at once, and not path by path.
    digits = max((info.nar_size for info in paths), default=0).bit_length()
    planes = [
        sum(1 << bit for bit, i in enumerate(order) if paths[i].nar_size >> digit & 1)
        for digit in range(digits)
    ]
    return [
        sum((closure & plane).bit_count() << digit for digit, plane in enumerate(planes))
        for closure in below
    ]


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands there twice")
    return found


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is no number")


def _malformed(what: str) -> Terminal:
    return Terminal(
        Reason.INVALID_SPEC,
        f"the popularity data cannot be used: {what}",
        hint='Serve one JSON object of names and counts: {"openssl-3.0.8": 512}',
    )
