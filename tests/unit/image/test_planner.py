"""The plan holds every path once, keeps to its budget, and does not depend on order."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from niximage.errors import Terminal
from niximage.image.closure import Closure
from niximage.image.planner import LARGE, plan
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


def test_large_paths_stand_alone_and_small_ones_together() -> None:
    found = closure(
        {
            "glibc": (LARGE * 400, []),
            "tiny": (10, []),
            "python": (LARGE * 900, ["glibc"]),
            "app": (99, ["python"]),
        }
    )
    assert [sorted(layer) for layer in names(found)] == [["glibc"], ["python"], ["app", "tiny"]]


def test_what_others_build_upon_comes_first() -> None:
    found = closure(
        {"z-base": (LARGE, []), "a-app": (LARGE * 9, ["m-lib"]), "m-lib": (LARGE * 3, ["z-base"])}
    )
    assert names(found) == [["z-base"], ["m-lib"], ["a-app"]]


def test_beyond_the_budget_the_smaller_large_ones_join_the_rest() -> None:
    found = closure({"a": (LARGE * 100, []), "b": (LARGE * 30, []), "c": (LARGE, []), "d": (1, [])})
    assert [sorted(layer) for layer in names(found, 4)] == [["a"], ["b"], ["c", "d"]]


def test_a_small_change_of_sizes_changes_nothing() -> None:
    sizes = {"a": 500_000, "b": 400_000, "c": 300_000, "d": 270_000}
    before = closure({name: (size, []) for name, size in sizes.items()})
    after = closure({name: (int(size * 1.03), []) for name, size in sizes.items()})
    assert names(before, 4) == names(after, 4)


def test_a_budget_that_leaves_no_layer_is_refused() -> None:
    with pytest.raises(Terminal, match="at least 2 layers"):
        plan(closure({"a": (1, [])}), max_layers=1)


def test_namesakes_are_told_apart_by_their_paths() -> None:
    two = Closure.of([*closure({"a": (LARGE, [])}, "x"), *closure({"a": (LARGE, [])}, "y")])
    paths = sorted([store_path("a", "x"), store_path("a", "y")])
    assert [layer.paths[0].path for layer in plan(two)] == paths
