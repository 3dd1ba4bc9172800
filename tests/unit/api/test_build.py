"""Input hashes: equal for equal images, different for anything that shapes an image."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from niximage.api.build import PinnedSource, input_hash
from niximage.api.canonical import canonical_hash, canonical_json
from niximage.api.image import NixImage

PINNED = PinnedSource(url="https://example.org/x", revision="a" * 40)
SYSTEM = "x86_64-linux"


def image(**spec: Any) -> NixImage:
    source = {"nixpkgs": {"channel": "nixos-26.05"}}
    return NixImage.model_validate(
        {"metadata": {"name": "web"}, "spec": {"packages": ["a", "bc"], "source": source, **spec}}
    )


def test_order_of_packages_and_names_of_sources_do_not_matter() -> None:
    same = input_hash(image(), PINNED, SYSTEM)
    assert input_hash(image(packages=["bc", "a"]), PINNED, SYSTEM) == same
    mirror = PINNED.model_copy(update={"url": "https://mirror.example.org/x", "ref": "refs/tags/1"})
    assert input_hash(image(), mirror, SYSTEM) == same
    assert input_hash(image(interval="1h", suspend=True, timeout="2h"), PINNED, SYSTEM) == same


@pytest.mark.parametrize(
    "spec",
    [
        {"packages": ["ab", "c"]},
        {"packages": ["a", "bc^out"]},
        {"config": {"cmd": ["hello"]}},
        {"config": {"cmd": ["hel", "lo"]}},
        {"config": {"env": [{"name": "A", "value": "b"}]}},
        {"config": {"user": "1000"}},
    ],
    ids=str,
)
def test_what_shapes_the_image_shapes_the_hash(spec: dict[str, Any]) -> None:
    assert input_hash(image(**spec), PINNED, SYSTEM) != input_hash(image(), PINNED, SYSTEM)


@pytest.mark.parametrize("change", [{"revision": "b" * 40}, {"path": "nix"}, {"attr": "pkgs"}])
def test_the_pinned_source_shapes_the_hash(change: dict[str, str]) -> None:
    other = PINNED.model_copy(update=change)
    assert input_hash(image(), other, SYSTEM) != input_hash(image(), PINNED, SYSTEM)


def test_the_system_shapes_the_hash() -> None:
    assert input_hash(image(), PINNED, "aarch64-linux") != input_hash(image(), PINNED, SYSTEM)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(JSON, JSON)
def test_different_documents_have_different_hashes(one: Any, two: Any) -> None:
    assert (canonical_json(one) == canonical_json(two)) == (repr_of(one) == repr_of(two))
    assert (canonical_hash(one) == canonical_hash(two)) == (repr_of(one) == repr_of(two))


def repr_of(value: Any) -> str:
    """Python's spelling, with sorted keys: tells 1 from True, which == does not."""
    match value:
        case dict():
            return "{" + ",".join(f"{k!r}:{repr_of(value[k])}" for k in sorted(value)) + "}"
        case list():
            return "[" + ",".join(map(repr_of, value)) + "]"
        case _:
            return repr(value)


@pytest.mark.parametrize("value", [1.5, {"a": [0.1]}, {1: "a"}])
def test_what_has_no_canonical_form_is_refused(value: Any) -> None:
    with pytest.raises(TypeError):
        canonical_json(value)
