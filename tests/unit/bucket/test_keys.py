"""The names of objects are Distribution's, and no input can make others."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from niximage.bucket import keys
from niximage.bucket.store import check_key
from niximage.errors import Terminal

HEX = "ab" + "0" * 62
DIGEST = f"sha256:{HEX}"
ROOT = "docker/registry/v2"


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (keys.blob(DIGEST), f"{ROOT}/blobs/sha256/ab/{HEX}/data"),
        (
            keys.layer_link("team/app", DIGEST),
            f"{ROOT}/repositories/team/app/_layers/sha256/{HEX}/link",
        ),
        (
            keys.revision_link("team/app", DIGEST),
            f"{ROOT}/repositories/team/app/_manifests/revisions/sha256/{HEX}/link",
        ),
        (
            keys.tag_link("team/app", "v1"),
            f"{ROOT}/repositories/team/app/_manifests/tags/v1/current/link",
        ),
        (
            keys.tag_index_link("team/app", "v1", DIGEST),
            f"{ROOT}/repositories/team/app/_manifests/tags/v1/index/sha256/{HEX}/link",
        ),
        (keys.layer_record("team", HEX), f"niximage/v1/layers/team/{HEX}"),
        (keys.layer_record(keys.VERIFIED, HEX), f"niximage/v1/layers/_verified/{HEX}"),
        (keys.build_record("team", HEX), f"niximage/v1/builds/team/{HEX}"),
        (
            keys.contents_record("team", DIGEST, "x86_64-linux"),
            f"niximage/v1/contents/team/{HEX}/x86_64-linux",
        ),
        (keys.tag_record("team/app", "v1"), "niximage/v1/tags/team/app/_tags/v1"),
        (keys.lease("team", "0a"), "niximage/v1/leases/team/0a"),
    ],
)
def test_the_layout(key: str, expected: str) -> None:
    assert key == expected
    check_key(key)


@pytest.mark.parametrize(
    ("name", "good"),
    [
        ("a", True),
        ("team/app", True),
        ("a/b/c/d", True),
        ("a.b_c__d-e--f", True),
        ("x" * 255, True),
        ("x" * 256, False),
        ("", False),
        ("A", False),
        ("/a", False),
        ("a/", False),
        ("a//b", False),
        ("_own", False),
        ("a/_layers", False),
        ("a..b", False),
        ("a/../b", False),
        ("-a", False),
        ("a\n", False),
        ("ä", False),
    ],
)
def test_repository_names(name: str, good: bool) -> None:
    assert keys.is_repository(name) is good


@pytest.mark.parametrize(
    ("tag", "good"),
    [
        *[(tag, True) for tag in ("v1", "_x", "A.b-C", "x" * 128)],
        *[(tag, False) for tag in ("", ".x", "-x", "a/b", "a:b", "v1\n", "x" * 129)],
    ],
)
def test_tags(tag: str, good: bool) -> None:
    assert keys.is_tag(tag) is good


@pytest.mark.parametrize(
    "digest", ["", HEX, f"sha512:{HEX}", DIGEST[:-1], DIGEST + "0", DIGEST.upper(), DIGEST + "\n"]
)
def test_what_is_no_digest(digest: str) -> None:
    assert not keys.is_digest(digest)
    with pytest.raises(Terminal, match="no digest"):
        keys.blob(digest)


MAKERS: list[Callable[[str], str]] = [
    keys.blob,
    lambda text: keys.layer_link(text, DIGEST),
    lambda text: keys.layer_link("team", text),
    lambda text: keys.revision_link(text, DIGEST),
    lambda text: keys.tag_link("team", text),
    lambda text: keys.layer_record(text, HEX),
    lambda text: keys.layer_record("team", text),
    lambda text: keys.build_record(text, HEX),
    lambda text: keys.build_record("team", text),
    lambda text: keys.contents_record(text, DIGEST, "x86_64-linux"),
    lambda text: keys.contents_record("team", text, "x86_64-linux"),
    lambda text: keys.contents_record("team", DIGEST, text),
    lambda text: keys.tag_record(text, "v1"),
    lambda text: keys.tag_record("team", text),
    lambda text: keys.lease(text, "0a"),
]


@given(
    st.text(st.sampled_from("ab/._-:\n\0\\%A0") | st.characters(), max_size=80),
    st.sampled_from(MAKERS),
)
def test_any_text_gives_a_good_key_or_an_error(text: str, make: Callable[[str], str]) -> None:
    try:
        key = make(text)
    except Terminal:
        return  # refused, as it should be
    check_key(key)
    assert key.startswith(("docker/registry/v2/", "niximage/v1/"))


@given(st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,20}", fullmatch=True))
def test_a_tag_is_read_back_from_its_key(tag: str) -> None:
    assert keys.tag_of("team/app", keys.tag_link("team/app", tag)) == tag
    assert keys.tag_of("team/app", keys.tag_index_link("team/app", tag, DIGEST)) is None
    assert keys.tag_of("team", keys.tag_link("team/app", tag)) is None
