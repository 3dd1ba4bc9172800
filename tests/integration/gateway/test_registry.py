"""The read side of OCI distribution-spec 1.1, over real HTTP, on both stores."""

import hashlib

import pytest

from integration.gateway.conftest import Client
from integration.tiny import tiny_image
from niximage.bucket import ObjectStore, keys
from niximage.image.descriptor import INDEX, MANIFEST, Descriptor
from support.kubernetes import eventually

REPOSITORY = "team-a/hello"
IMAGE = tiny_image(b"one", hashlib.shake_256(b"large").digest(6 << 20))
(LAYER, CONTENT) = IMAGE.layers[1]
ABSENT = "sha256:" + "0" * 64


@pytest.fixture
def published(store: ObjectStore, gateway: Client) -> Client:
    IMAGE.publish(store, REPOSITORY, "latest", "v1", "v2")
    return gateway


def test_the_base_says_that_this_is_a_registry(gateway: Client) -> None:
    for path in ("/v2/", "/v2"):
        answer = gateway.ask(path)
        assert answer.status == 200
        assert answer.headers["Docker-Distribution-Api-Version"] == "registry/2.0"
        assert answer.json() == {}


@pytest.mark.parametrize("reference", [IMAGE.digest, "latest"])
def test_a_manifest_comes_with_its_digest(published: Client, reference: str) -> None:
    answer = published.ask(f"/v2/{REPOSITORY}/manifests/{reference}")
    assert answer.status == 200
    assert answer.body == IMAGE.manifest
    assert answer.headers["Content-Type"] == MANIFEST
    assert answer.headers["Docker-Content-Digest"] == IMAGE.digest
    assert answer.headers["ETag"] == f'"{IMAGE.digest}"'


@pytest.mark.parametrize(
    "path",
    [
        "/v2/",
        f"/v2/{REPOSITORY}/manifests/{IMAGE.digest}",
        f"/v2/{REPOSITORY}/manifests/latest",
        f"/v2/{REPOSITORY}/blobs/{LAYER.digest}",
        f"/v2/{REPOSITORY}/tags/list",
        f"/v2/{REPOSITORY}/manifests/absent",
        f"/v2/{REPOSITORY}/blobs/sha256:bad",
    ],
)
def test_head_says_what_get_says_without_the_body(published: Client, path: str) -> None:
    got, asked = published.ask(path), published.ask(path, "HEAD")
    assert asked.status == got.status
    assert asked.body == b""
    names = ("Content-Type", "Content-Length", "Docker-Content-Digest", "ETag", "Accept-Ranges")
    assert [asked.headers[n] for n in names] == [got.headers[n] for n in names]
    assert int(asked.headers["Content-Length"]) == len(got.body)


def test_a_blob_comes_whole(published: Client) -> None:
    for descriptor, content in IMAGE.blobs.items():
        answer = published.ask(f"/v2/{REPOSITORY}/blobs/{descriptor.digest}")
        assert (answer.status, answer.body) == (200, content)
        assert answer.headers["Content-Type"] == "application/octet-stream"
        assert answer.headers["Docker-Content-Digest"] == descriptor.digest
        assert answer.headers["Accept-Ranges"] == "bytes"


@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [
        ("bytes=0-9", 0, 10),
        ("bytes=7-", 7, None),
        ("bytes=-5", -5, None),
        ("bytes=3-3", 3, 4),
        ("bytes=0-99999999", 0, None),
        ("bytes=4194300-4194310", 4_194_300, 4_194_311),  # over the edge of a chunk
    ],
)
def test_a_range_of_a_blob(published: Client, asked: str, start: int, stop: int | None) -> None:
    answer = published.ask(f"/v2/{REPOSITORY}/blobs/{LAYER.digest}", Range=asked)
    assert (answer.status, answer.body) == (206, CONTENT[start:stop])
    first = start % len(CONTENT)
    last = first + len(answer.body) - 1
    assert answer.headers["Content-Range"] == f"bytes {first}-{last}/{len(CONTENT)}"


def test_a_range_behind_the_end_is_unsatisfiable(published: Client) -> None:
    answer = published.ask(f"/v2/{REPOSITORY}/blobs/{LAYER.digest}", Range="bytes=99999999-")
    assert answer.status == 416
    assert answer.headers["Content-Range"] == f"bytes */{len(CONTENT)}"


@pytest.mark.parametrize("asked", ["bytes=0-9", "bytes=99999999-"])
def test_a_head_has_no_range(published: Client, asked: str) -> None:
    answer = published.ask(f"/v2/{REPOSITORY}/blobs/{LAYER.digest}", "HEAD", Range=asked)
    assert (answer.status, answer.headers["Content-Range"]) == (200, None)
    assert answer.headers["Content-Length"] == str(len(CONTENT))


def test_a_range_of_something_else_gives_the_whole(published: Client) -> None:
    path = f"/v2/{REPOSITORY}/blobs/{LAYER.digest}"
    answer = published.ask(path, Range="bytes=0-9", If_Range='"another"')
    assert (answer.status, answer.body) == (200, CONTENT)
    answer = published.ask(path, Range="bytes=0-9", If_Range=f'"{LAYER.digest}"')
    assert (answer.status, answer.body) == (206, CONTENT[:10])


@pytest.mark.parametrize(
    ("path", "etag"),
    [
        (f"/v2/{REPOSITORY}/manifests/latest", IMAGE.digest),
        (f"/v2/{REPOSITORY}/blobs/{LAYER.digest}", LAYER.digest),
    ],
)
def test_what_the_client_has_is_not_sent_again(published: Client, path: str, etag: str) -> None:
    for header in (f'"{etag}"', f'"other", W/"{etag}"', "*"):
        answer = published.ask(path, If_None_Match=header)
        assert (answer.status, answer.body) == (304, b"")
        assert answer.headers["ETag"] == f'"{etag}"'
    assert published.ask(path, If_None_Match='"other"').status == 200


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        (f"/v2/{REPOSITORY}/manifests/absent", 404, "MANIFEST_UNKNOWN"),
        (f"/v2/{REPOSITORY}/manifests/{ABSENT}", 404, "MANIFEST_UNKNOWN"),
        (f"/v2/{REPOSITORY}/blobs/{ABSENT}", 404, "BLOB_UNKNOWN"),
        # A manifest is no blob of the repository, and a blob no manifest.
        (f"/v2/{REPOSITORY}/blobs/{IMAGE.digest}", 404, "BLOB_UNKNOWN"),
        (f"/v2/{REPOSITORY}/manifests/{LAYER.digest}", 404, "MANIFEST_UNKNOWN"),
        # Tenancy: the blob is in the bucket, but not in this repository.
        (f"/v2/team-b/hello/blobs/{LAYER.digest}", 404, "NAME_UNKNOWN"),
        (f"/v2/team-a/blobs/{LAYER.digest}", 404, "NAME_UNKNOWN"),
        ("/v2/team-b/hello/manifests/latest", 404, "NAME_UNKNOWN"),
        ("/v2/team-b/hello/tags/list", 404, "NAME_UNKNOWN"),
        (f"/v2/{REPOSITORY}/manifests/sha256:abc", 400, "DIGEST_INVALID"),
        (f"/v2/{REPOSITORY}/manifests/{ABSENT.upper()}", 400, "DIGEST_INVALID"),
        (f"/v2/{REPOSITORY}/manifests/md5:{'0' * 32}", 400, "DIGEST_INVALID"),
        (f"/v2/{REPOSITORY}/blobs/latest", 400, "DIGEST_INVALID"),
        (f"/v2/{REPOSITORY}/referrers/nothing", 400, "DIGEST_INVALID"),
        (f"/v2/{REPOSITORY}/manifests/-dash", 400, "TAG_INVALID"),
        (f"/v2/{REPOSITORY}/manifests/{'x' * 129}", 400, "TAG_INVALID"),
        ("/v2/Team/hello/manifests/latest", 400, "NAME_INVALID"),
        ("/v2/team/../etc/manifests/latest", 400, "NAME_INVALID"),
        ("/v2/team%2F..%2Fetc/manifests/latest", 400, "NAME_INVALID"),
        ("/v2/_own/manifests/latest", 400, "NAME_INVALID"),
        (f"/v2/{'x' * 256}/manifests/latest", 400, "NAME_INVALID"),
        (f"/v2/{'x/' * 2000}manifests/latest", 400, "NAME_INVALID"),
        ("/v2/team/%00/manifests/latest", 400, "NAME_INVALID"),
        (f"/v2/{REPOSITORY}/tags/list?n=-1", 400, "PAGINATION_NUMBER_INVALID"),
        (f"/v2/{REPOSITORY}/tags/list?n=x", 400, "PAGINATION_NUMBER_INVALID"),
        ("/v2/_catalog", 404, "UNSUPPORTED"),
        (f"/v2/{REPOSITORY}", 404, "UNSUPPORTED"),
        ("/elsewhere", 404, "UNSUPPORTED"),
    ],
)
def test_errors_as_the_spec_writes_them(
    published: Client, path: str, status: int, code: str
) -> None:
    answer = published.ask(path)
    assert answer.status == status
    assert answer.headers["Content-Type"].startswith("application/json")
    (error,) = answer.json()["errors"]
    assert error["code"] == code
    assert set(error) == {"code", "message", "detail"}


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"])
@pytest.mark.parametrize(
    "path", [f"/v2/{REPOSITORY}/blobs/uploads/", f"/v2/{REPOSITORY}/manifests/latest", "/v2/"]
)
def test_writes_are_not_allowed(published: Client, method: str, path: str) -> None:
    answer = published.ask(path, method)
    assert answer.status == 405
    assert answer.headers["Allow"] == "GET, HEAD"
    assert answer.json()["errors"][0]["code"] == "UNSUPPORTED"


def test_tags_come_in_order_and_in_pages(published: Client, store: ObjectStore) -> None:
    path = f"/v2/{REPOSITORY}/tags/list"
    assert published.ask(path).json() == {"name": REPOSITORY, "tags": ["latest", "v1", "v2"]}
    first = published.ask(f"{path}?n=2")
    assert first.json()["tags"] == ["latest", "v1"]
    assert first.headers["Link"] == f'<{path}?n=2&last=v1>; rel="next"'
    rest = published.ask(f"{path}?n=2&last=v1")
    assert rest.json()["tags"] == ["v2"]
    assert rest.headers["Link"] is None
    assert published.ask(f"{path}?n=0").json()["tags"] == []
    IMAGE.publish(store, REPOSITORY, "v1-a", "v1.0")
    assert published.ask(path).json()["tags"] == ["latest", "v1", "v1-a", "v1.0", "v2"]


def test_an_image_without_tags_has_an_empty_list(store: ObjectStore, gateway: Client) -> None:
    IMAGE.publish(store, REPOSITORY)
    answer = gateway.ask(f"/v2/{REPOSITORY}/tags/list")
    assert (answer.status, answer.json()) == (200, {"name": REPOSITORY, "tags": []})


def test_referrers_of_anything_are_an_empty_index(published: Client) -> None:
    answer = published.ask(f"/v2/{REPOSITORY}/referrers/{IMAGE.digest}")
    assert answer.status == 200
    assert answer.headers["Content-Type"] == INDEX
    assert answer.json() == {"schemaVersion": 2, "mediaType": INDEX, "manifests": []}


@pytest.mark.parametrize("name", ["a", "a/b/c/d", "team/blobs", "blobs/manifests", "x/tags/list"])
def test_names_may_have_any_parts(store: ObjectStore, gateway: Client, name: str) -> None:
    IMAGE.publish(store, name, "list")
    assert gateway.ask(f"/v2/{name}/manifests/list").body == IMAGE.manifest
    assert gateway.ask(f"/v2/{name}/manifests/{IMAGE.digest}").body == IMAGE.manifest
    assert gateway.ask(f"/v2/{name}/blobs/{LAYER.digest}").body == CONTENT
    assert gateway.ask(f"/v2/{name}/tags/list").json()["tags"] == ["list"]


def test_a_tag_that_moves_is_seen_within_moments(published: Client, store: ObjectStore) -> None:
    path = f"/v2/{REPOSITORY}/manifests/latest"
    assert published.ask(path).body == IMAGE.manifest
    newer = tiny_image(b"newer")
    newer.publish(store, REPOSITORY, "latest")
    eventually("the new tag", lambda: published.ask(path).body == newer.manifest, within=5)


def test_what_comes_later_is_found_later(store: ObjectStore, gateway: Client) -> None:
    path = f"/v2/{REPOSITORY}/manifests/{IMAGE.digest}"
    assert gateway.ask(path).status == 404
    IMAGE.publish(store, REPOSITORY)
    assert gateway.ask(path).status == 200


def test_a_blob_that_was_collected_is_gone(published: Client, store: ObjectStore) -> None:
    path = f"/v2/{REPOSITORY}/blobs/{LAYER.digest}"
    assert published.ask(path).status == 200
    found = store.stat(keys.blob(LAYER.digest))
    assert found is not None
    store.delete(found)
    assert published.ask(path).json()["errors"][0]["code"] == "BLOB_UNKNOWN"


def test_a_manifest_that_is_not_its_digest_is_never_served(
    store: ObjectStore, gateway: Client
) -> None:
    IMAGE.publish(store, REPOSITORY)
    store.replace(keys.blob(IMAGE.digest), IMAGE.manifest + b" ")
    answer = gateway.ask(f"/v2/{REPOSITORY}/manifests/{IMAGE.digest}")
    assert answer.status == 503
    assert answer.json()["errors"][0]["code"] == "UNAVAILABLE"


def test_an_empty_blob_is_served(store: ObjectStore, gateway: Client) -> None:
    empty = Descriptor.of("application/octet-stream", b"")
    store.create(keys.blob(empty.digest), b"")
    store.create(keys.layer_link(REPOSITORY, empty.digest), empty.digest.encode())
    answer = gateway.ask(f"/v2/{REPOSITORY}/blobs/{empty.digest}")
    assert (answer.status, answer.body) == (200, b"")


@pytest.mark.parametrize("algorithm", ["sha384", "sha512"])
def test_digests_of_other_kinds_are_not_there(published: Client, algorithm: str) -> None:
    digest = f"{algorithm}:{hashlib.new(algorithm, IMAGE.manifest).hexdigest()}"
    for kind, code in (("manifests", "MANIFEST_UNKNOWN"), ("blobs", "BLOB_UNKNOWN")):
        answer = published.ask(f"/v2/{REPOSITORY}/{kind}/{digest}")
        assert (answer.status, answer.json()["errors"][0]["code"]) == (404, code)


def test_health_and_readiness(gateway: Client) -> None:
    assert gateway.ask("/healthz").status == 200
    assert gateway.ask("/readyz").status == 200
