"""The plan holds every path once, keeps to its budget, and does not depend on order."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from niximage.errors import Terminal
from niximage.image.closure import Closure
from niximage.image.planner import plan
from niximage.image.popularity import Popularity
from unit.image.closures import closure, graphs, store_path

Graph = dict[str, tuple[int, list[str]]]


def names(found: Closure, max_layers: int = 64) -> list[list[str]]:
    return [[info.name for info in layer.paths] for layer in plan(found, max_layers=max_layers)]


@given(graphs(), st.integers(2, 50))
def test_each_path_is_in_exactly_one_layer(graph: Graph, budget: int) -> None:
    found = closure(graph)
    planned = [info.path for layer in plan(found, max_layers=budget) for info in layer.paths]
    assert sorted(planned) == list(found.infos)


@given(graphs(), st.integers(2, 50))
def test_the_customisation_layer_still_fits_the_budget(graph: Graph, budget: int) -> None:
    layers = plan(closure(graph), max_layers=budget)
    assert len(layers) <= budget - 1
    assert all(layer.paths for layer in layers)


@given(graphs(), st.integers(2, 50), st.randoms(use_true_random=False))
def test_the_order_of_paths_does_not_matter(
    graph: Graph, budget: int, chance: random.Random
) -> None:
    infos = list(closure(graph))
    chance.shuffle(infos)
    assert plan(Closure.of(infos), max_layers=budget) == plan(closure(graph), max_layers=budget)


@given(graphs(), st.integers(2, 50))
def test_other_hashes_give_the_same_plan(graph: Graph, budget: int) -> None:
    before, after = (
        [sorted(layer) for layer in names(closure(graph, salt=salt), budget)]
        for salt in ("old", "new")
    )
    assert before == after


def test_paths_that_change_together_share_a_layer_before_large_ones_do() -> None:
    found = closure(
        {
            "glibc": (30_000_000, []),
            "python": (90_000_000, ["glibc"]),
            "app": (900, ["python"]),
            "app-data": (800, ["app"]),
        }
    )
    assert [sorted(layer) for layer in names(found, 4)] == [
        ["glibc"],
        ["python"],
        ["app", "app-data"],
    ]


def test_what_changes_rarely_comes_first() -> None:
    size = 10_000_000
    found = closure({"z-base": (size, []), "a-app": (size, ["m-lib"]), "m-lib": (size, ["z-base"])})
    assert names(found) == [["z-base"], ["m-lib"], ["a-app"]]


def test_a_small_change_of_sizes_changes_nothing() -> None:
    sizes = {"a": 500_000, "b": 400_000, "c": 300_000, "d": 290_000}
    before = closure({name: (size, []) for name, size in sizes.items()})
    after = closure({name: (int(size * 1.03), []) for name, size in sizes.items()})
    assert names(before, 4) == names(after, 4)


def debian_like(seed: int, count: int = 250) -> Graph:
    """A graph of the shape that closures have: few large, many small, leaves used often."""
    chance = random.Random(seed)
    graph: Graph = {}
    known: list[str] = []
    for number in range(count):
        references = (
            {chance.choice(known[: 1 + len(known) // 3]) for _ in range(4)} if known else ()
        )
        name = f"package{number}-1.{number}"
        graph[name] = (int(chance.lognormvariate(12, 2)), sorted(references))
        known.append(name)
    return graph


def grouped(graph: Graph) -> set[frozenset[str]]:
    return {frozenset(layer) for layer in names(closure(graph))}


@pytest.mark.parametrize("seed", range(4))
def test_a_version_bump_moves_no_path_to_another_layer(seed: int) -> None:
    graph = debian_like(seed)
    bumped = "package100-1.100"

    def renamed(name: str) -> str:
        return "package100-1.101" if name == bumped else name

    after = {renamed(n): (s, [renamed(r) for r in refs]) for n, (s, refs) in graph.items()}
    assert {frozenset(map(renamed, layer)) for layer in grouped(graph)} == grouped(after)


@pytest.mark.parametrize("seed", range(4))
def test_an_unrelated_package_leaves_most_layers_as_they_are(seed: int) -> None:
    graph = debian_like(seed)
    before = grouped(graph)
    for size in (1_000, 100_000, 5_000_000):
        after = grouped({**graph, "unrelated-1.0": (size, [])})
        kept = sum(graph[name][0] for layer in before & after for name in layer)
        assert len(before & after) >= 0.75 * len(before), size
        assert kept >= 0.9 * sum(size for size, _ in graph.values()), size


@settings(max_examples=40, deadline=None)
@given(graphs(), st.integers(0, 10**9))
def test_an_unrelated_package_moves_nothing_while_there_is_room(graph: Graph, size: int) -> None:
    size += 1_000_000  # less would not be worth a layer's own bytes in the manifest
    graph = {name: (own + 1_000_000, below) for name, (own, below) in graph.items()}
    more = {**graph, "unrelated": (size, [])}
    assert names(closure(more)).count(["unrelated"]) == 1
    before, after = ({frozenset(layer) for layer in names(closure(each))} for each in (graph, more))
    assert after == before | {frozenset(["unrelated"])}


@given(graphs(), st.integers(2, 50))
def test_the_popularity_strategy_keeps_the_same_promises(graph: Graph, budget: int) -> None:
    found = closure(graph)
    popular = Popularity({"p1": 5000, "p3": 200})
    layers = plan(found, max_layers=budget, strategy=popular)
    assert sorted(info.path for layer in layers for info in layer.paths) == list(found.infos)
    assert len(layers) <= budget - 1


def test_a_budget_that_leaves_no_layer_is_refused() -> None:
    with pytest.raises(Terminal, match="at least 2 layers"):
        plan(closure({"a": (1, [])}), max_layers=1)


def test_namesakes_are_told_apart_by_their_paths() -> None:
    size = 1_000_000
    two = Closure.of([*closure({"a": (size, [])}, "x"), *closure({"a": (size, [])}, "y")])
    paths = sorted([store_path("a", "x"), store_path("a", "y")])
    assert sorted(info.path for layer in plan(two) for info in layer.paths) == paths
