"""The closure is whole and tidy, or it is refused."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from niximage.errors import Reason, Retryable
from niximage.image.closure import Closure, PathInfo, is_store_path, store_path_name
from unit.image.closures import closure, graphs, info, store_path


def test_self_references_are_dropped_and_references_sorted() -> None:
    a, b, c = info("a", references=["c", "a", "b"]), info("b"), info("c")
    assert Closure.of([a, b, c])[a.path].references == tuple(sorted([b.path, c.path]))


@given(graphs(), st.randoms(use_true_random=False))
def test_the_order_of_infos_does_not_matter(
    graph: dict[str, tuple[int, list[str]]], random: object
) -> None:
    infos = list(closure(graph))
    shuffled = infos.copy()
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert list(Closure.of(shuffled)) == infos


def test_reachable_is_the_roots_and_all_below() -> None:
    found = closure({"a": (1, ["b"]), "b": (1, ["c"]), "c": (1, []), "d": (1, ["c"])})
    assert found.reachable([store_path("b")]) == {store_path("b"), store_path("c")}


def test_circles_of_references_end() -> None:
    found = closure({"a": (1, ["b"]), "b": (1, ["a"])})
    assert len(found.reachable([store_path("a")])) == 2


def test_the_nar_sizes_add_up() -> None:
    assert closure({"a": (1, []), "b": (20, ["a"])}).nar_size == 21


A = info("a", references=["b"])
B = info("b")


@pytest.mark.parametrize(
    ("infos", "said"),
    [
        ([A], "refers to"),
        ([B, replace(B, nar_size=5)], "two different infos"),
        ([replace(B, path="/nix/store/../etc")], "is no store path"),
        ([replace(B, path=B.path + "/bin")], "is no store path"),
        ([replace(B, nar_hash="sha256:abc")], "has the NAR hash"),
        ([replace(B, nar_size=-1)], "has a NAR of -1 bytes"),
        ([replace(B, references=("--option",))], "is no store path"),
    ],
)
def test_what_is_malformed_is_refused(infos: list[PathInfo], said: str) -> None:
    with pytest.raises(Retryable, match=said) as caught:
        Closure.of(infos)
    assert caught.value.reason is Reason.RESULT_INVALID


def test_a_store_path_s_name_follows_its_hash() -> None:
    assert store_path_name(store_path("hello-2.12")) == "hello-2.12"


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path + "\n",
        lambda path: path + "/x",
        lambda path: path.replace("/nix/store/", "/nix/store//"),
        lambda path: path[:20],
    ],
)
def test_what_is_almost_a_store_path_is_none(spoil: Callable[[str], str]) -> None:
    assert is_store_path(store_path("a"))
    assert not is_store_path(spoil(store_path("a")))
