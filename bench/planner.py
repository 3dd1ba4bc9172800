"""How many bytes an update pulls again, planner by planner, over histories of real packages.

Each image is planned anew at every revision. What counts is the bytes in layers that the
revision before did not have, divided by the bytes of the paths that changed; 1.00, a layer per
path, is the least there can be.
"""

import os
import random
import statistics
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from typing import Any, Final

from bench.autolayer import AutoLayer
from bench.debian import load_suites
from bench.histories import HISTORIES, IMAGES, Node, closure_of, graph_of, popularity, revisions
from niximage.image.closure import Closure, PathInfo
from niximage.image.planner import ExpectedRepull, Strategy, plan
from niximage.image.popularity import Popularity

BUDGETS: Final = (64, 30)  # layers, the customisation layer included
UPDATES: Final = 16
QUICK: Final = ("web", "media")  # images of a quick run
QUICK_UPDATES: Final = 4
MANY: Final = 15_000  # paths that a plan must not take long for
RUNS: Final = 3  # of which the quickest counts
NEWCOMERS: Final = 8  # unrelated packages, of which one is added to an image

OURS: Final = "expected re-pull"
AUTO: Final = "auto-layer"
BOUND: Final = "one per path"


class OneLayer:
    """All in one."""

    def groups(self, paths: Sequence[PathInfo], limit: int) -> list[list[int]]:
        """See `Strategy`."""
        return [list(range(len(paths)))][:limit]


class OnePerPath:
    """A layer per path, whatever the budget: the bound."""

    def groups(
        self,
        paths: Sequence[PathInfo],
        limit: int,  # noqa: ARG002 (a bound that keeps to a budget would be none)
    ) -> list[list[int]]:
        """See `Strategy`; the limit is not kept."""
        return [[i] for i in range(len(paths))]


class LargestAlone:
    """A layer per path for the largest, by powers of four; one for the rest."""

    def groups(self, paths: Sequence[PathInfo], limit: int) -> list[list[int]]:
        """See `Strategy`."""
        ranked = sorted(
            range(len(paths)), key=lambda i: (-((paths[i].nar_size.bit_length() + 1) // 2), i)
        )
        rest = ranked[limit - 1 :]
        return [[i] for i in ranked[: limit - 1]] + ([rest] if rest else [])


def run(*, quick: bool) -> dict[str, Any]:
    """Replay all histories.

    Args:
        quick: few images and updates: whether it works, not how well.

    Returns:
        `rows`, one per image and history, with the figure by budget and planner;
        `excess`, per budget and planner the mean of what is above the bound;
        `stability`, by budget and image the mean share of bytes in layers that stay as they
        are when an unrelated package is added;
        `seconds`, the least CPU time that a plan of `MANY` paths took.
    """
    count = QUICK_UPDATES if quick else UPDATES
    images = QUICK if quick else tuple(IMAGES)
    seconds = _speed(1_000 if quick else MANY)  # by itself: two at once slow each other down
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        parts = pool.map(_replay_history, HISTORIES, repeat(images), repeat(count))
        stability = pool.submit(_stability, images)
        rows = [row for part in parts for row in part]
    rows.sort(key=lambda row: (images.index(row["image"]), row["history"]))
    excess = {
        str(budget): {
            planner: round(statistics.mean(row[str(budget)][planner] - 1 for row in rows), 4)
            for planner in rows[0][str(budget)]
        }
        for budget in BUDGETS
    }
    return {
        "updates": count,
        "rows": rows,
        "excess": excess,
        "stability": stability.result(),
        "seconds": seconds,
    }


def table(results: Mapping[str, Any]) -> str:
    """The results as a Markdown table per budget."""
    lines = []
    for budget in map(str, BUDGETS):
        planners = list(results["excess"][budget])
        lines += [
            f"Bytes pulled / bytes changed, {budget} layers",
            "",
            "| image | paths | history | " + " | ".join(planners) + " |",
            "|---|--:|---|" + "--:|" * len(planners),
        ]
        for row in results["rows"]:
            figures = " | ".join(f"{row[budget][planner]:.2f}" for planner in planners)
            lines.append(f"| {row['image']} | {row['paths']} | {row['history']} | {figures} |")
        means = " | ".join(f"{results['excess'][budget][planner]:.3f}" for planner in planners)
        lines += [f"| mean excess | | | {means} |", ""]
    lines += [
        "Bytes in layers that stay as they are when an unrelated package is added",
        "",
        f"| layers | {' | '.join(results['stability'][str(BUDGETS[0])])} |",
        "|--:|" + "--:|" * len(results["stability"][str(BUDGETS[0])]),
    ]
    for budget, shares in results["stability"].items():
        lines.append(f"| {budget} | {' | '.join(f'{share:.0%}' for share in shares.values())} |")
    lines.append("")
    for paths, seconds in results["seconds"].items():
        lines.append(f"{paths} paths are planned in {seconds:.1f} s of CPU time.")
    return "\n".join(lines)


def _replay_history(history: str, images: Iterable[str], count: int) -> list[dict[str, Any]]:
    """One row per image."""
    suites = load_suites(*HISTORIES[history])
    planners: dict[str, Strategy] = {
        OURS: ExpectedRepull(),
        AUTO: AutoLayer(),
        "largest alone": LargestAlone(),
        "popularity": Popularity(popularity(suites[0])),
        "one layer": OneLayer(),
        BOUND: OnePerPath(),
    }
    rows = []
    for image in images:
        closures = [closure_of(g) for g in revisions(history, suites, image, count=count)]
        if len(closures) == 1:
            continue  # nothing of it differs between these suites today
        row: dict[str, Any] = {
            "image": image,
            "history": history,
            "paths": len(closures[0]),
            "updates": len(closures) - 1,
            "bytes": closures[0].nar_size,
        }
        for budget in BUDGETS:
            row[str(budget)] = {
                name: round(replay(closures, strategy, budget), 4)
                for name, strategy in planners.items()
            }
        rows.append(row)
    return rows


def replay(closures: Sequence[Closure], strategy: Strategy, budget: int) -> float:
    """Bytes in new layers over bytes of changed paths, when each revision is planned anew."""
    pulled = changed = 0
    paths_before: Closure | None = None
    layers_before: set[tuple[PathInfo, ...]] = set()
    for closure in closures:
        layers = plan(closure, max_layers=budget, strategy=strategy)
        if paths_before is not None:
            pulled += sum(layer.nar_size for layer in layers if layer.paths not in layers_before)
            changed += sum(info.nar_size for info in closure if info.path not in paths_before)
        paths_before, layers_before = closure, {layer.paths for layer in layers}
    return pulled / changed


def _stability(images: Iterable[str]) -> dict[str, dict[str, float]]:
    """By budget and image, the mean share of bytes that one more package leaves alone."""
    [suite] = load_suites("bookworm")
    chance = random.Random(5)
    shares: dict[str, dict[str, float]] = {str(budget): {} for budget in BUDGETS}
    for image in images:
        graph = graph_of(suite, IMAGES[image])
        strangers = chance.sample(sorted(suite.packages.keys() - graph), NEWCOMERS)
        closure = closure_of(graph)
        more = [
            # Whatever it needs is left out: it shall share nothing.
            closure_of({**graph, name: Node(suite.packages[name], ())})
            for name in strangers
        ]
        for budget in BUDGETS:
            before = set(plan(closure, max_layers=budget))
            shares[str(budget)][image] = round(
                statistics.mean(
                    sum(
                        layer.nar_size
                        for layer in before.intersection(plan(each, max_layers=budget))
                    )
                    / closure.nar_size
                    for each in more
                ),
                4,
            )
    return shares


def _speed(count: int) -> dict[str, float]:
    """CPU seconds for planning so many real packages at once: neighbours only add to it."""
    [suite] = load_suites("trixie")
    found = graph_of(suite, IMAGES["workstation"])
    for name in sorted(suite.packages):
        if len(found) >= count:
            break
        found |= graph_of(suite, [name])
    closure = closure_of(found)
    seconds = []
    for _ in range(RUNS):
        start = time.process_time()
        plan(closure)
        seconds.append(time.process_time() - start)
    return {str(len(closure)): round(min(seconds), 2)}
