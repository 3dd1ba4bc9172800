"""nixpkgs' auto-layer, from a description of it: the planner that users of Nix have today.

Each path carries the set of primaries that own it, and paths of equal sets share a layer. The
paths become primaries one after another, the largest first. A primary takes over what lies
below it from those that use it, unless a nearer owner is there. It stops at the first primary
that would make too many layers.
"""

from collections.abc import Sequence

from niximage.image.closure import PathInfo
from niximage.image.references import dependencies_first, reference_table


class AutoLayer:
    """nixpkgs' auto-layer, as a `Strategy`."""

    def groups(self, paths: Sequence[PathInfo], limit: int) -> list[list[int]]:
        """See `Strategy`."""
        below = _below(reference_table(paths))
        owners = [0] * len(paths)
        primaries: list[int] = []
        for primary in sorted(range(len(paths)), key=lambda i: (-paths[i].nar_size, i)):
            next_owners = _with_primary(owners, below, primaries, primary)
            if len(set(next_owners)) > limit:
                break
            primaries.append(primary)
            owners = next_owners
        groups: dict[int, list[int]] = {}
        for i, owner in enumerate(owners):
            groups.setdefault(owner, []).append(i)
        return sorted(groups.values(), key=lambda g: sum(paths[i].nar_size for i in g))


def _with_primary(
    owners: Sequence[int], below: Sequence[int], primaries: Sequence[int], primary: int
) -> list[int]:
    """The owners of each path, as bit sets over the primaries, with one more primary."""
    own = 1 << len(primaries)
    users = used = 0
    for bit, other in enumerate(primaries):
        users |= (below[other] >> primary & 1) << bit
        used |= (below[primary] >> other & 1) << bit
    found = list(owners)
    found[primary] = own
    for i in _bits(below[primary]):
        kept = owners[i] & ~users
        found[i] = kept if kept & used else kept | own
    return found


def _bits(number: int) -> list[int]:
    return [i for i, digit in enumerate(reversed(f"{number:b}")) if digit == "1"]


def _below(references: Sequence[Sequence[int]]) -> list[int]:
    """For each path, all that it refers to over any number of steps, as a bit set."""
    below = [0] * len(references)
    for i in dependencies_first(references):
        for reference in references[i]:
            below[i] |= below[reference] | 1 << reference
    return below
