"""Which store paths share a layer.

This planner gives each of the largest paths a layer of its own and puts the rest together.
Sizes count in powers of four and ties go by name, so that the plan stays as it is while
versions and hashes move. The customisation layer, which every image has, comes last and is
no part of the plan, but of the budget.

A plan is a function of the closure alone: equal inputs must give equal digests, whatever a
bucket holds.
"""

from dataclasses import dataclass
from typing import Final

from niximage.errors import Reason, Terminal
from niximage.image.closure import Closure, PathInfo

MAX_LAYERS: Final = 64  # with the customisation layer; beyond 127 runtimes give up
LARGE: Final = 64 << 10  # bytes of a NAR worth a layer: below it a request costs more than bytes


@dataclass(frozen=True, slots=True)
class PlannedLayer:
    """Store paths that are packed together, sorted."""

    paths: tuple[PathInfo, ...]

    @property
    def nar_size(self) -> int:
        """Bytes of the paths' NARs."""
        return sum(info.nar_size for info in self.paths)


def plan(closure: Closure, *, max_layers: int = MAX_LAYERS) -> tuple[PlannedLayer, ...]:
    """The layers of a closure, those that others build upon first.

    Args:
        closure: what to lay out.
        max_layers: the most layers of the image, the customisation layer included.

    Returns:
        At most `max_layers - 1` layers that together hold each path exactly once.

    Raises:
        Terminal: fewer than two layers allowed.
    """
    if max_layers < 2:  # noqa: PLR2004 (one for store paths, one for the customisation)
        raise Terminal(Reason.INVALID_SPEC, f"an image needs at least 2 layers, not {max_layers}")
    ranked = sorted(closure, key=_rank)
    large = sum(info.nar_size >= LARGE for info in ranked)
    count = large if large == len(ranked) <= max_layers - 1 else min(large, max_layers - 2)
    alone, rest = ranked[:count], ranked[count:]
    # A path's closure is larger than that of anything it refers to: dependencies come first.
    alone.sort(key=lambda i: (len(closure.reachable([i.path])), i.name, i.path))
    groups = [[info] for info in alone] + ([rest] if rest else [])
    return tuple(PlannedLayer(tuple(sorted(group, key=lambda i: i.path))) for group in groups)


def _rank(info: PathInfo) -> tuple[bool, int, str, str]:
    """Largest first, by powers of four; then by name, and by hash only between namesakes."""
    small = info.nar_size < LARGE
    return small, -((info.nar_size.bit_length() + 1) // 2), info.name, info.path
