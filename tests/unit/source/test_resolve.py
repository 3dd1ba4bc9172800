"""What a source asks for, and what an answer of git means."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from niximage.api.source import Source
from niximage.source.resolve import Wanted, find_ref, near_names, parse_refs, wanted

A, B = "a" * 40, "b" * 64


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (
            {"nixpkgs": {"channel": "nixos-26.05"}},
            Wanted("https://nixpkgs", "refs/heads/nixos-26.05", ""),
        ),
        ({"nixpkgs": {"revision": A}}, Wanted("https://nixpkgs", "", A)),
        (
            {"git": {"url": "https://x/y", "ref": {"branch": "a/b"}, "path": "p", "attr": "q"}},
            Wanted("https://x/y", "refs/heads/a/b", "", "p", "q"),
        ),
        (
            {"git": {"url": "ssh://git@x/y", "ref": {"tag": "v1"}}},
            Wanted("ssh://git@x/y", "refs/tags/v1", ""),
        ),
        (
            {"git": {"url": "https://x", "ref": {"name": "refs/pull/1/head"}}},
            Wanted("https://x", "refs/pull/1/head", ""),
        ),
        ({"git": {"url": "https://x", "ref": {"commit": B}}}, Wanted("https://x", "", B)),
    ],
)
def test_what_a_source_asks_for(source: dict[str, object], expected: Wanted) -> None:
    assert wanted(Source.model_validate(source), "https://nixpkgs") == expected


@pytest.mark.parametrize(
    ("output", "commit"),
    [
        (f"{A}\trefs/tags/v1\n", A),
        (f"{A}\trefs/tags/v1\n{B}\trefs/tags/v1^{{}}\n", B),
        (f"{B}\trefs/tags/v1^{{}}\n{A}\trefs/tags/v1\n", B),
        (f"{A}\trefs/remotes/x/refs/tags/v1\n", None),
        (f"{A}\trefs/tags/v1.0\n", None),
        ("", None),
        ("warning: something\n", None),
        (f"{A[:-1]}\trefs/tags/v1\n", None),
        (f"{A} refs/tags/v1\n", None),
        (f"{A.upper()}\trefs/tags/v1\n", None),
    ],
)
def test_the_commit_of_a_tag(output: str, commit: str | None) -> None:
    assert find_ref(output.encode(), "refs/tags/v1") == commit


@given(st.binary(max_size=300))
def test_any_output_is_read(output: bytes) -> None:
    assert isinstance(parse_refs(output), dict)


def test_near_names_are_of_the_same_kind() -> None:
    refs = ["refs/heads/nixos-26.05", "refs/heads/nixos-25.11", "refs/tags/nixos-26.06", "HEAD"]
    assert near_names("refs/heads/nixos-26.06", refs) == ["nixos-26.05", "nixos-25.11"]
    assert near_names("refs/heads/other", refs) == []
    assert near_names("refs/heads/x", []) == []
