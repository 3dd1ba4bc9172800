"""Which store paths share a layer.

Somebody who has the last image pulls a layer of the next one again when any of its members
changed, and a store path changes when anything in its closure changes. So the planner starts
with a layer per path, and merges the two that cost the least more bytes per update, again and
again, until the budget holds:

    p(A)        = 1 - (1 - q) ** (packages in the closures of A's members)
    cost(A, B)  = (p(A and B) - p(A)) * size(A)  +  (p(A and B) - p(B)) * size(B)

Paths that change together merge for nothing, a leaf library merges with another before it
does with an application, tiny paths merge early and large ones stay alone: no thresholds, no
popularity data, no history.

A plan is a function of the closure alone: equal inputs must give equal digests, whatever a
bucket holds. And it stays as it is while versions, hashes and sizes move a little, or the
layers that did not change would not be found again:

- sizes count in powers of four;
- ties go by the package's name without its numbers, never by hash;
- costs are whole numbers, so that no machine rounds them otherwise.

A version bump of one package that leaves its power of four and its references alone moves no
path to another layer. A package that comes in and shares nothing takes part in the merges, and
some of the others meet other partners: of Debian images of 90 to 265 packages in 64 layers, 92 %
of the bytes and more stay in the very layers that they were in; of 1,500 packages, about three
quarters. With room for a layer per path nothing moves at all. `bench/` keeps the figures.

The customisation layer, which every image has, comes last and is no part of the plan, but of
the budget.
"""

import heapq
import math
from bisect import insort
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from niximage.errors import Reason, Terminal
from niximage.image.closure import Closure, PathInfo
from niximage.image.references import (
    dependencies_first,
    derivation_name,
    package_order,
    reference_table,
)

MAX_LAYERS: Final = 64  # with the customisation layer; beyond 127 runtimes give up

CHANGES_ONE_IN: Final = 200  # of so many packages one changes per update; 100 to 330 plan alike
LAYER_COST: Final = 512  # bytes of a layer in manifest and config, which every update pulls
CERTAIN: Final = 1 << 48  # the probability 1: whole numbers add up the same on each machine

WINDOW: Final = 24  # neighbours by closure size, on each side, that a path may merge with
PARTNERS: Final = 150  # the most groups that one is compared with while there are many
FEW: Final = 256  # groups, among which all pairs are compared
CHOICES: Final = 8  # merges that a group keeps in mind before it compares again
ROUNDS: Final = 8  # through the packages until all know what is below them


@dataclass(frozen=True, slots=True)
class PlannedLayer:
    """Store paths that are packed together, sorted."""

    paths: tuple[PathInfo, ...]

    @property
    def nar_size(self) -> int:
        """Bytes of the paths' NARs."""
        return sum(info.nar_size for info in self.paths)


class Strategy(Protocol):
    """A way to group store paths."""

    def groups(self, paths: Sequence[PathInfo], limit: int) -> list[list[int]]:
        """Group the paths of a closure, in the order of the layers.

        Args:
            paths: a closure's paths, in `package_order`.
            limit: the most groups, at least 1.

        Returns:
            Groups of indices into `paths`, each index in exactly one.
        """


def plan(
    closure: Closure, *, max_layers: int = MAX_LAYERS, strategy: Strategy | None = None
) -> tuple[PlannedLayer, ...]:
    """The layers of a closure, those that others build upon first.

    Args:
        closure: what to lay out.
        max_layers: the most layers of the image, the customisation layer included.
        strategy: how to group; `ExpectedRepull` if not given.

    Returns:
        At most `max_layers - 1` layers that together hold each path exactly once.

    Raises:
        Terminal: fewer than two layers allowed.
    """
    if max_layers < 2:  # noqa: PLR2004 (one for store paths, one for the customisation)
        raise Terminal(Reason.INVALID_SPEC, f"an image needs at least 2 layers, not {max_layers}")
    paths = package_order(closure)
    groups = (strategy or ExpectedRepull()).groups(paths, max_layers - 1)
    return tuple(
        PlannedLayer(tuple(sorted((paths[i] for i in group), key=lambda info: info.path)))
        for group in groups
    )


@dataclass(frozen=True, slots=True)
class ExpectedRepull:
    """Group so that an update is expected to pull the fewest bytes again.

    Layers come in the order of how rarely they change: a runtime unpacks a layer anew when one
    below it changed, and whatever changes a layer also changes those that build upon it.
    """

    def groups(self, paths: Sequence[PathInfo], limit: int) -> list[list[int]]:
        """See `Strategy`."""
        references = reference_table(paths)
        merging = _Merging(_packages_below(paths, references), [_power(i.nar_size) for i in paths])
        merging.meet(_neighbours(merging.counts, references))
        merging.down_to(max(limit, FEW))
        merging.meet_all()
        merging.down_to(limit, LAYER_COST * CERTAIN)
        return merging.result()


_Merge = tuple[int, int, int, int, int]
"""What a merge costs, the lower and the higher rank of the two, and the two groups."""


class _Merging:
    """Groups that merge, the cheapest pair first.

    A group never changes: two that merge end, and make a new one with the next number.
    """

    def __init__(self, closures: Iterable[int], sizes: Iterable[int]) -> None:
        self.closures = list(closures)  # packages that change a group, as bit sets
        self.counts = [closure.bit_count() for closure in self.closures]
        self.sizes = list(sizes)
        self.ranks = list(range(len(self.sizes)))  # of the first member: unique among the living
        self.members = [[i] for i in self.ranks]
        self.became = list(self.ranks)  # the group that a group merged into, or itself
        self.living = len(self.ranks)
        self.partners: list[Collection[int]] = []  # whom a group may merge with
        self.choices: list[list[_Merge]] = []  # the next merges of a group, the cheapest last
        self.change = _change_table(self.closures)
        # Bytes of a group that an update is expected to pull again.
        self.expected = [self.change[n] * s for n, s in zip(self.counts, self.sizes, strict=True)]
        self.heap: list[_Merge] = []  # the cheapest merge of each group

    def meet(self, partners: list[Collection[int]]) -> None:
        """Let each group look for the cheapest merges with its partners."""
        self.partners = partners
        self.choices = [[] for _ in partners]
        self.heap = [merge for group in self._alive() if (merge := self._next(group))]
        heapq.heapify(self.heap)

    def meet_all(self) -> None:
        """Let each group look for the cheapest merges with all others."""
        alive = self._alive()
        self.meet([alive if self.became[g] == g else () for g in range(len(self.became))])

    def down_to(self, limit: int, worth: int = -1) -> None:
        """Merge while there are more groups than the limit, or a merge costs at most `worth`."""
        while self.heap and (self.living > limit or self.heap[0][0] <= worth):
            *_, a, b = heapq.heappop(self.heap)
            if self.became[a] == a:
                group = self._merge(a, b) if self.became[b] == b else a
                if merge := self._next(group):
                    heapq.heappush(self.heap, merge)

    def result(self) -> list[list[int]]:
        """The groups, those that change least often first."""
        return [
            sorted(self.members[group])
            for group in sorted(self._alive(), key=lambda g: (self.counts[g], self.ranks[g]))
        ]

    def _alive(self) -> list[int]:
        return [group for group, now in enumerate(self.became) if group == now]

    def _merge(self, a: int, b: int) -> int:
        merged = len(self.became)
        closure = self.closures[a] | self.closures[b]
        self.became[a] = self.became[b] = merged
        self.became.append(merged)
        self.living -= 1
        self.closures.append(closure)
        self.counts.append(closure.bit_count())
        self.sizes.append(self.sizes[a] + self.sizes[b])
        self.expected.append(self.change[self.counts[merged]] * self.sizes[merged])
        self.ranks.append(min(self.ranks[a], self.ranks[b]))
        less, more = sorted((self.members[a], self.members[b]), key=len)
        more.extend(less)
        self.members.append(more)
        self.partners.append(self._nearest(merged, [*self.partners[a], *self.partners[b]]))
        self.choices.append([])
        for ended in (a, b):  # no longer asked for, and large
            self.closures[ended], self.partners[ended], self.choices[ended] = 0, (), []
        return merged

    def _nearest(self, group: int, candidates: Iterable[int]) -> Collection[int]:
        """At most `PARTNERS` of the candidates: those of the most similar closure size."""
        found = self._living(group, candidates)
        if len(found) <= PARTNERS:
            return found
        count, counts, ranks = self.counts[group], self.counts, self.ranks
        return sorted(found, key=lambda g: (abs(counts[g] - count), ranks[g]))[:PARTNERS]

    def _living(self, group: int, candidates: Iterable[int]) -> set[int]:
        """The groups that candidates are part of by now, but not the group itself."""
        became = self.became
        found = {became[candidate] for candidate in candidates}
        for ended in [each for each in found if became[each] != each]:
            found.remove(ended)
            found.add(self._now(ended))
        found.discard(group)
        return found

    def _now(self, group: int) -> int:
        """The group that a group is part of by now."""
        became = self.became
        while became[group] != group:
            became[group] = became[became[group]]
            group = became[group]
        return group

    def _next(self, a: int) -> _Merge | None:
        """The cheapest merge of a group that is left.

        A partner that has ended is passed over: what it became looks for partners itself.
        """
        choices = self.choices[a]
        while choices:
            merge = choices.pop()
            if self.became[merge[-1]] == merge[-1]:
                return merge
        self.choices[a] = choices = self._cheapest(a)
        return choices.pop() if choices else None

    def _cheapest(self, a: int) -> list[_Merge]:
        """The few cheapest merges of a group, the cheapest last."""
        closures, counts, sizes, change = self.closures, self.counts, self.sizes, self.change
        closure, count, size, rank = closures[a], counts[a], sizes[a], self.ranks[a]
        expected, ranks = self.expected, self.ranks
        self.partners[a] = living = self._living(a, self.partners[a])
        found: list[tuple[int, bool, int, int]] = []
        most: float = math.inf
        for b in living:
            # Counted sooner than the union: what many need has the low bits, so it is short.
            common = (closure & closures[b]).bit_count()
            cost = change[count + counts[b] - common] * (size + sizes[b]) - expected[b]
            if cost <= most:
                # Of equals the next by name: whatever is added elsewhere, it stays the next.
                other = ranks[b]
                insort(found, (cost, other < rank, abs(other - rank), b))
                if len(found) > CHOICES:
                    found.pop()
                    most = found[-1][0]
        merges: list[_Merge] = []
        for cost, _, _, b in reversed(found):
            low, high = sorted((rank, ranks[b]))
            merges.append((cost - expected[a], low, high, a, b))
        return merges


def _packages_below(paths: Sequence[PathInfo], references: Sequence[Sequence[int]]) -> list[int]:
    """For each path, the packages that change it, as a bit set.

    The outputs of one derivation are one package: Nix builds them together, so that `-man`,
    which refers to nothing, changes whenever `-bin` does.
    """
    numbers: dict[str | int, int] = {}
    package_of = [
        numbers.setdefault(derivation_name(info.name) or i, len(numbers))
        for i, info in enumerate(paths)
    ]
    used: list[set[int]] = [set() for _ in numbers]
    for i, row in enumerate(references):
        used[package_of[i]].update(package_of[reference] for reference in row)
    table = [sorted(row) for row in used]
    order = dependencies_first(table)
    below = [0] * len(order)
    for bit, package in enumerate(order):  # low bits for what is used most: small numbers
        below[package] = 1 << bit
    # Without circles one round is enough; versions of one name can make some, mostly small.
    for _ in range(ROUNDS):
        before = list(below)
        for package in order:
            for reference in table[package]:
                below[package] |= below[reference]
        if below == before:
            break
    return [below[package] for package in package_of]


def _neighbours(
    counts: Sequence[int], references: Sequence[Sequence[int]]
) -> list[Collection[int]]:
    """For each path, those worth comparing with: used, users, and of a like closure size."""
    near = [set(row) for row in references]
    for user, row in enumerate(references):
        for reference in row:
            near[reference].add(user)
    by_count = sorted(range(len(counts)), key=lambda i: (counts[i], i))
    for place, i in enumerate(by_count):
        near[i].update(by_count[max(place - WINDOW, 0) : place + WINDOW + 1])
        near[i].discard(i)
    nearest: list[Collection[int]] = []
    for i, found in enumerate(near):
        ranked = sorted((abs(counts[j] - counts[i]), j) for j in found)
        nearest.append([j for _, j in ranked[:PARTNERS]])
    return nearest


def _change_table(closures: Iterable[int]) -> list[int]:
    """The probability that one of n packages changes, for each n that a union can reach."""
    every = 0
    for closure in closures:
        every |= closure
    table = [0]
    for _ in range(every.bit_count()):
        table.append(table[-1] + (CERTAIN - table[-1]) // CHANGES_ONE_IN)
    return table


def _power(size: int) -> int:
    """A size as a power of four: 3 % more leave it as it is, but at the edge of a step."""
    return 1 << ((size.bit_length() + 1) // 2 * 2)
