"""The end of a path decides what it asks for; the rest is the repository's name."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from niximage.bucket import keys
from niximage.gateway.problems import Problem
from niximage.gateway.routes import (
    Base,
    Blob,
    ManifestByDigest,
    ManifestByTag,
    Referrers,
    Route,
    Tags,
    route,
)

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/v2", Base()),
        ("/v2/", Base()),
        ("/v2/a/manifests/v1", ManifestByTag("a", "v1")),
        ("/v2/a/b/c/manifests/v1", ManifestByTag("a/b/c", "v1")),
        (f"/v2/a/manifests/{DIGEST}", ManifestByDigest("a", DIGEST)),
        (f"/v2/a/blobs/{DIGEST}", Blob("a", DIGEST)),
        (f"/v2/a/referrers/{DIGEST}", Referrers("a", DIGEST)),
        ("/v2/a/tags/list", Tags("a")),
        # Names that look like endpoints.
        ("/v2/a/manifests/manifests/manifests", ManifestByTag("a/manifests", "manifests")),
        (f"/v2/a/manifests/x/blobs/{DIGEST}", Blob("a/manifests/x", DIGEST)),
        ("/v2/tags/list/tags/list", Tags("tags/list")),
        ("/v2/a/tags/list/manifests/list", ManifestByTag("a/tags/list", "list")),
        ("/v2/a/manifests/tags/list", Tags("a/manifests")),
    ],
)
def test_what_a_path_asks_for(path: str, expected: Route) -> None:
    assert route(path) == expected


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/v2/a", 404, "UNSUPPORTED"),
        ("/v2//manifests/x", 404, "UNSUPPORTED"),
        ("/v2/manifests/x", 404, "UNSUPPORTED"),
        ("/v2/a/blobs/x/y", 404, "UNSUPPORTED"),
        ("/v2/a/tags/list/", 404, "UNSUPPORTED"),
        ("/v2/_catalog", 404, "UNSUPPORTED"),
        ("/v2/A/manifests/x", 400, "NAME_INVALID"),
        ("/v2/a/../b/manifests/x", 400, "NAME_INVALID"),
        ("/v2/a//b/tags/list", 400, "NAME_INVALID"),
        ("/v2/a\n/tags/list", 404, "UNSUPPORTED"),
        ("/v2/" + "a" * 2000, 400, "NAME_INVALID"),
        ("/v2/a/manifests/", 400, "TAG_INVALID"),
        ("/v2/a/manifests/a b", 400, "TAG_INVALID"),
        ("/v2/a/manifests/x:y", 400, "DIGEST_INVALID"),
        ("/v2/a/blobs/", 400, "DIGEST_INVALID"),
        (f"/v2/a/blobs/{DIGEST}0", 400, "DIGEST_INVALID"),
        ("/v2/a/referrers/v1", 400, "DIGEST_INVALID"),
    ],
)
def test_what_a_path_cannot_ask_for(path: str, status: int, code: str) -> None:
    with pytest.raises(Problem) as caught:
        route(path)
    assert (caught.value.status, caught.value.code) == (status, code)


@given(st.text(st.sampled_from("/av2.-_:\n%") | st.characters(), max_size=60))
def test_any_path_gives_a_route_or_a_problem(text: str) -> None:
    try:
        found = route(f"/v2/{text}/manifests/v1")
    except Problem:
        return  # refused, as it should be
    assert isinstance(found, ManifestByTag)
    assert keys.is_repository(found.repository)
