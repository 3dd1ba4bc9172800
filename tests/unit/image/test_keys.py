"""Layer keys: equal for equal layers, different for all others."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from niximage.image.entries import FileEntry, directory, file, symlink
from niximage.image.keys import entries_layer_key, store_layer_key
from unit.image.closures import closure, graphs, info

Graph = dict[str, tuple[int, list[str]]]

ENTRY = st.one_of(
    st.builds(
        file,
        st.binary(min_size=1, max_size=4),
        st.binary(max_size=4),
        st.sampled_from([0o444, 0o555]),
        uid=st.sampled_from([0, 1000]),
        gid=st.sampled_from([0, 1000]),
    ),
    st.builds(directory, st.binary(min_size=1, max_size=4), st.sampled_from([0o755, 0o1777])),
    st.builds(symlink, st.binary(min_size=1, max_size=4), st.binary(min_size=1, max_size=4)),
)


@given(graphs(), st.randoms(use_true_random=False))
def test_the_order_of_paths_does_not_matter(graph: Graph, chance: object) -> None:
    infos = list(closure(graph))
    shuffled = infos.copy()
    chance.shuffle(shuffled)  # type: ignore[attr-defined]
    assert store_layer_key(shuffled) == store_layer_key(infos)


@given(st.sets(st.sampled_from("abcdefgh")), st.sets(st.sampled_from("abcdefgh")))
def test_different_paths_have_different_keys(one: set[str], other: set[str]) -> None:
    keys = [store_layer_key([info(name) for name in names]) for names in (one, other)]
    assert (keys[0] == keys[1]) == (one == other)


def test_the_content_counts_not_only_the_path() -> None:
    a = info("a")
    assert store_layer_key([a]) != store_layer_key([replace(a, nar_hash=info("b").nar_hash)])


def test_the_codec_counts() -> None:
    assert store_layer_key([info("a")]) != store_layer_key([info("a")], codec="zstd-9.9.9/3/4M")


@given(st.lists(ENTRY, max_size=3), st.lists(ENTRY, max_size=3))
def test_different_entries_have_different_keys(
    one: list[FileEntry], other: list[FileEntry]
) -> None:
    assert (entries_layer_key(one) == entries_layer_key(other)) == (one == other)


def test_no_entries_and_no_paths_are_told_apart() -> None:
    assert entries_layer_key([]) != store_layer_key([])


def test_the_key_is_what_it_always_was() -> None:
    """Another key for the same layer packs every image of every user anew."""
    assert store_layer_key([info("a"), info("b")]) == (
        "b0b69ccdcdc068de3e9da4ee6c1525458e76dc3f4eb4c8f48b16a0c3d1940fb5"
    )
