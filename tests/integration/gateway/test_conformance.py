"""The read-only checks of OCI's conformance suite, each named after its part of the spec.

After https://github.com/opencontainers/distribution-spec/tree/main/conformance: what it asks
of a registry that takes no pushes, and the sentences of the spec about the same endpoints.
"""

import hashlib
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from integration.gateway.conftest import Answer, Client, running
from integration.tiny import artifact, tiny_image
from niximage.bucket import ObjectStore
from niximage.bucket.publish import publish_manifest
from niximage.bucket.referrers import add_referrers
from niximage.image.descriptor import INDEX, MANIFEST, Descriptor

NAME = "team-a/conformance"
IMAGE = tiny_image(b"one", hashlib.shake_256(b"large").digest(1 << 20))
OTHER = tiny_image(b"two")
SUBJECT = Descriptor.of(MANIFEST, IMAGE.manifest)
ABSENT = f"sha256:{'0' * 64}"
TAGS = ["test0", "test1", "test2", "test3"]
BLOBS = [descriptor.digest for descriptor in IMAGE.blobs]


@pytest.fixture
def registry(store: ObjectStore) -> Iterator[Client]:
    """A registry with an image under four tags, an index, and things that refer to it."""
    IMAGE.publish(store, NAME, *TAGS)
    OTHER.publish(store, NAME)
    publish_manifest(store, NAME, index())
    for content, kind in ((b"sbom", "a/sbom"), (b"signature", "a/signature"), (b"2", "a/sbom")):
        add_referrers(store, NAME, [artifact(store, SUBJECT, content, kind, {"note": kind})])
    with running(store) as client:
        yield client


def index() -> bytes:
    members = [Descriptor.of(MANIFEST, image.manifest) for image in (IMAGE, OTHER)]
    document = {
        "schemaVersion": 2,
        "mediaType": INDEX,
        "manifests": [member.to_json() for member in members],
    }
    return json.dumps(document).encode()


def tags(registry: Client, query: str = "") -> list[str]:
    answer = registry.ask(f"/v2/{NAME}/tags/list{query}")
    assert answer.status == 200
    found: list[str] = answer.json()["tags"]
    return [tag for tag in found if not tag.startswith("sha256-")]


def error_codes(answer: Answer) -> list[str]:
    assert answer.headers["Content-Type"] == "application/json"
    errors: list[dict[str, Any]] = answer.json()["errors"]
    return [error["code"] for error in errors]


def test_end_1_determining_support(registry: Client) -> None:
    assert registry.ask("/v2/").status == 200
    assert registry.ask("/v2/", "HEAD").status == 200


def test_end_2_pulling_blobs_head_of_an_absent_one_is_404(registry: Client) -> None:
    answer = registry.ask(f"/v2/{NAME}/blobs/{ABSENT}", "HEAD")
    assert (answer.status, answer.body) == (404, b"")


def test_end_2_pulling_blobs_get_of_an_absent_one_is_404(registry: Client) -> None:
    answer = registry.ask(f"/v2/{NAME}/blobs/{ABSENT}")
    assert (answer.status, error_codes(answer)) == (404, ["BLOB_UNKNOWN"])


@pytest.mark.parametrize("digest", BLOBS)
def test_end_2_pulling_blobs_head_says_digest_and_length(registry: Client, digest: str) -> None:
    answer = registry.ask(f"/v2/{NAME}/blobs/{digest}", "HEAD")
    sizes = {descriptor.digest: descriptor.size for descriptor in IMAGE.blobs}
    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers["Docker-Content-Digest"] == digest
    assert int(answer.headers["Content-Length"]) == sizes[digest]


@pytest.mark.parametrize("digest", BLOBS)
def test_end_2_pulling_blobs_get_gives_what_the_digest_names(registry: Client, digest: str) -> None:
    answer = registry.ask(f"/v2/{NAME}/blobs/{digest}")
    assert answer.status == 200
    assert answer.headers["Docker-Content-Digest"] == digest
    assert f"sha256:{hashlib.sha256(answer.body).hexdigest()}" == digest


@pytest.mark.parametrize("digest", BLOBS)
def test_end_2_pulling_blobs_a_range_resumes_a_download(registry: Client, digest: str) -> None:
    whole = registry.ask(f"/v2/{NAME}/blobs/{digest}").body
    answer = registry.ask(f"/v2/{NAME}/blobs/{digest}", Range=f"bytes={len(whole) // 2}-")
    assert (answer.status, answer.body) == (206, whole[len(whole) // 2 :])
    beyond = registry.ask(f"/v2/{NAME}/blobs/{digest}", Range=f"bytes={len(whole)}-")
    assert beyond.status == 416
    several = registry.ask(f"/v2/{NAME}/blobs/{digest}", Range="bytes=0-0,2-2")
    assert (several.status, several.body) == (200, whole)


@pytest.mark.parametrize("method", ["HEAD", "GET"])
@pytest.mark.parametrize("reference", [ABSENT, "absent"])
def test_end_3_pulling_manifests_an_absent_one_is_404(
    registry: Client, method: str, reference: str
) -> None:
    answer = registry.ask(f"/v2/{NAME}/manifests/{reference}", method)
    assert answer.status == 404
    if method == "GET":
        assert error_codes(answer) == ["MANIFEST_UNKNOWN"]


@pytest.mark.parametrize("reference", [IMAGE.digest, *TAGS])
def test_end_3_pulling_manifests_head_says_digest_and_length(
    registry: Client, reference: str
) -> None:
    answer = registry.ask(f"/v2/{NAME}/manifests/{reference}", "HEAD", Accept=MANIFEST)
    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers["Docker-Content-Digest"] == IMAGE.digest
    assert int(answer.headers["Content-Length"]) == len(IMAGE.manifest)


@pytest.mark.parametrize("reference", [IMAGE.digest, *TAGS])
def test_end_3_pulling_manifests_get_gives_the_very_bytes(registry: Client, reference: str) -> None:
    answer = registry.ask(f"/v2/{NAME}/manifests/{reference}", Accept=MANIFEST)
    assert (answer.status, answer.body) == (200, IMAGE.manifest)
    assert answer.headers["Docker-Content-Digest"] == IMAGE.digest


def test_end_3_pulling_manifests_content_type_is_the_media_type(registry: Client) -> None:
    found = f"sha256:{hashlib.sha256(index()).hexdigest()}"
    for digest, kind in ((IMAGE.digest, MANIFEST), (found, INDEX)):
        answer = registry.ask(f"/v2/{NAME}/manifests/{digest}", Accept=f"{MANIFEST}, {INDEX}")
        assert (answer.status, answer.headers["Content-Type"]) == (200, kind)
        assert answer.json()["mediaType"] == kind


def test_end_3_pulling_manifests_another_type_than_accepted_is_unknown(registry: Client) -> None:
    for path in (f"/v2/{NAME}/manifests/{IMAGE.digest}", f"/v2/{NAME}/manifests/test0"):
        answer = registry.ask(path, Accept=INDEX)
        assert (answer.status, error_codes(answer)) == (404, ["MANIFEST_UNKNOWN"])
        assert registry.ask(path, Accept="*/*").status == 200
        assert registry.ask(path).status == 200


def test_end_8a_listing_tags(registry: Client) -> None:
    answer = registry.ask(f"/v2/{NAME}/tags/list")
    assert answer.json()["name"] == NAME
    assert answer.json()["tags"] == sorted(answer.json()["tags"])
    assert tags(registry) == TAGS
    assert registry.ask("/v2/team-a/nobody/tags/list").status == 404


def test_end_8b_listing_tags_n_bounds_the_answer(registry: Client) -> None:
    assert len(registry.ask(f"/v2/{NAME}/tags/list?n=2").json()["tags"]) == 2
    none = registry.ask(f"/v2/{NAME}/tags/list?n=0")
    assert none.json()["tags"] == []
    assert none.headers["Link"] is None
    assert tags(registry, "?n=1000") == TAGS


def test_end_8b_listing_tags_last_begins_after_it(registry: Client) -> None:
    assert tags(registry, "?last=test1") == ["test2", "test3"]
    assert tags(registry, "?last=test11") == ["test2", "test3"]
    assert tags(registry, "?n=1&last=test0") == ["test1"]
    assert tags(registry, "?last=zzz") == []


def test_end_8b_listing_tags_the_link_leads_through_all(registry: Client) -> None:
    everything = registry.ask(f"/v2/{NAME}/tags/list").json()["tags"]
    seen: list[str] = []
    path: str | None = f"/v2/{NAME}/tags/list?n=2"
    while path is not None:
        answer = registry.ask(path)
        seen += answer.json()["tags"]
        link = answer.headers["Link"]
        found = re.fullmatch(r'<([^>]+)>; rel="next"', link) if link else None
        assert (link is None) == (found is None)
        path = found[1] if found else None
    assert seen == everything


@pytest.mark.parametrize("subject", [ABSENT, OTHER.digest])
@pytest.mark.parametrize("name", [NAME, "team-a/nobody"])
def test_end_12a_listing_referrers_of_what_has_none_is_an_empty_index(
    registry: Client, name: str, subject: str
) -> None:
    answer = registry.ask(f"/v2/{name}/referrers/{subject}")
    assert (answer.status, answer.headers["Content-Type"]) == (200, INDEX)
    assert answer.json() == {"schemaVersion": 2, "mediaType": INDEX, "manifests": []}


def test_end_12a_listing_referrers(registry: Client) -> None:
    answer = registry.ask(f"/v2/{NAME}/referrers/{IMAGE.digest}")
    assert (answer.status, answer.headers["Content-Type"]) == (200, INDEX)
    assert answer.headers["OCI-Filters-Applied"] is None
    listed = answer.json()["manifests"]
    assert sorted(each["artifactType"] for each in listed) == ["a/sbom", "a/sbom", "a/signature"]
    for each in listed:
        manifest = registry.ask(f"/v2/{NAME}/manifests/{each['digest']}")
        assert len(manifest.body) == each["size"]
        assert manifest.headers["Content-Type"] == each["mediaType"]
        assert manifest.json()["subject"]["digest"] == IMAGE.digest
        assert each["annotations"] == manifest.json()["annotations"]


@pytest.mark.parametrize(("kind", "count"), [("a/sbom", 2), ("a/signature", 1), ("a/none", 0)])
def test_end_12b_listing_referrers_of_a_type(registry: Client, kind: str, count: int) -> None:
    answer = registry.ask(f"/v2/{NAME}/referrers/{IMAGE.digest}?artifactType={kind}")
    assert answer.headers["OCI-Filters-Applied"] == "artifactType"
    assert [each["artifactType"] for each in answer.json()["manifests"]] == [kind] * count


@pytest.mark.parametrize(
    "path",
    [
        "manifests/sha256:totallywrong",
        "blobs/sha256:totallywrong",
        "blobs/md5:d41d8cd98f00b204e9800998ecf8427e",
        "referrers/sha256:totallywrong",
        "manifests/.INVALID_MANIFEST_NAME",
    ],
)
def test_error_codes_an_invalid_reference_is_400_with_a_code(registry: Client, path: str) -> None:
    answer = registry.ask(f"/v2/{NAME}/{path}")
    assert answer.status == 400
    assert error_codes(answer) in (["DIGEST_INVALID"], ["TAG_INVALID"])


@pytest.mark.parametrize(
    ("end", "method", "path"),
    [
        ("end-4a", "POST", "blobs/uploads/"),
        ("end-4b", "POST", f"blobs/uploads/?digest={ABSENT}"),
        ("end-5", "PATCH", "blobs/uploads/1"),
        ("end-6", "PUT", f"blobs/uploads/1?digest={ABSENT}"),
        ("end-7", "PUT", "manifests/test0"),
        ("end-9", "DELETE", "manifests/test0"),
        ("end-10", "DELETE", f"blobs/{BLOBS[0]}"),
        ("end-11", "POST", f"blobs/uploads/?mount={BLOBS[0]}&from=team-a/other"),
    ],
)
def test_end_4_to_11_content_management_is_unsupported(
    registry: Client, end: str, method: str, path: str
) -> None:
    answer = registry.ask(f"/v2/{NAME}/{path}", method)
    assert answer.status == 405, end
    assert error_codes(answer) == ["UNSUPPORTED"]
    assert answer.headers["Allow"] == "GET, HEAD"
    assert registry.ask(f"/v2/{NAME}/manifests/test0").body == IMAGE.manifest


def test_the_catalog_is_off(registry: Client) -> None:
    answer = registry.ask("/v2/_catalog")
    assert (answer.status, error_codes(answer)) == (404, ["UNSUPPORTED"])
