"""Records save work, and are believed only as far as the bucket bears them out."""

import json

import pytest

from integration.tiny import tiny_image
from niximage.bucket import ObjectStore, keys
from niximage.bucket.records import (
    RECORD_LIMIT,
    BuildRecord,
    LayerRecord,
    find_build,
    find_layer,
    save_build,
    save_layer,
)

KEY = "ab" * 32
IMAGE = tiny_image(b"one")
LAYER, CONTENT = IMAGE.layers[0]
RECORD = LayerRecord(
    diff_id="sha256:" + "1" * 64, digest=LAYER.digest, size=LAYER.size, media_type=LAYER.media_type
)
BUILD = BuildRecord(
    digest=IMAGE.digest,
    size=100,
    repository="team-a/hello",
    layers=1,
    reused_layers=0,
    reused_size=0,
    revision="c" * 40,
)


def test_a_layer_is_found_while_its_blob_is_there(store: ObjectStore) -> None:
    assert save_layer(store, "team-a", KEY, RECORD) == RECORD
    assert find_layer(store, "team-a", KEY) is None
    store.create(keys.blob(LAYER.digest), CONTENT)
    assert find_layer(store, "team-a", KEY) == RECORD
    assert RECORD.descriptor == LAYER


def test_a_layer_whose_blob_has_another_size_is_not_found(store: ObjectStore) -> None:
    store.create(keys.blob(LAYER.digest), CONTENT[:-1])
    save_layer(store, "team-a", KEY, RECORD)
    assert find_layer(store, "team-a", KEY) is None


def test_namespaces_do_not_share_layers(store: ObjectStore) -> None:
    store.create(keys.blob(LAYER.digest), CONTENT)
    save_layer(store, "team-a", KEY, RECORD)
    assert find_layer(store, "team-b", KEY) is None
    assert find_layer(store, keys.VERIFIED, KEY) is None


def test_the_first_record_stands_so_that_digests_stay(store: ObjectStore) -> None:
    store.create(keys.blob(LAYER.digest), CONTENT)
    save_layer(store, "team-a", KEY, RECORD)
    other = RECORD.model_copy(update={"digest": "sha256:" + "2" * 64})
    assert save_layer(store, "team-a", KEY, other) == RECORD
    assert find_layer(store, "team-a", KEY) == RECORD


def test_a_record_without_its_blob_gives_way(store: ObjectStore) -> None:
    store.create(keys.blob(LAYER.digest), CONTENT)
    save_layer(store, "team-a", KEY, RECORD.model_copy(update={"digest": "sha256:" + "2" * 64}))
    assert save_layer(store, "team-a", KEY, RECORD) == RECORD
    assert find_layer(store, "team-a", KEY) == RECORD


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not json",
        b"[]",
        b"{}",
        json.dumps({**RECORD.to_json(), "v": 2}).encode(),
        json.dumps({**RECORD.to_json(), "kind": "build"}).encode(),
        json.dumps({**RECORD.to_json(), "unknown": 1}).encode(),
        json.dumps({**RECORD.to_json(), "size": str(LAYER.size)}).encode(),
        json.dumps({**RECORD.to_json(), "digest": "sha256:../../etc"}).encode(),
        b"x" * (RECORD_LIMIT + 1),
        b"\xff\xfe",
    ],
    ids=range(11),
)
def test_what_is_no_record_is_a_miss_and_replaced(store: ObjectStore, content: bytes) -> None:
    store.create(keys.blob(LAYER.digest), CONTENT)
    store.create(keys.layer_record("team-a", KEY), content)
    store.create(keys.build_record("team-a", KEY), content)
    assert find_layer(store, "team-a", KEY) is None
    assert find_build(store, "team-a", KEY) is None
    save_layer(store, "team-a", KEY, RECORD)
    assert find_layer(store, "team-a", KEY) == RECORD


def test_a_build_is_found_while_all_of_its_image_is_there(store: ObjectStore) -> None:
    save_build(store, "team-a", KEY, BUILD)
    assert find_build(store, "team-a", KEY) is None
    IMAGE.publish(store, "team-a/hello")
    assert find_build(store, "team-a", KEY) == BUILD
    found = store.stat(keys.blob(LAYER.digest))
    assert found is not None
    store.delete(found)
    assert find_build(store, "team-a", KEY) is None


def test_a_build_in_another_namespace_s_repository_is_not_believed(store: ObjectStore) -> None:
    IMAGE.publish(store, "team-b/hello")
    save_build(store, "team-a", KEY, BUILD.model_copy(update={"repository": "team-b/hello"}))
    assert find_build(store, "team-a", KEY) is None


def test_a_build_saved_again_is_written_only_when_it_changed(store: ObjectStore) -> None:
    key = keys.build_record("team-a", KEY)
    save_build(store, "team-a", KEY, BUILD)
    before = store.stat(key)
    save_build(store, "team-a", KEY, BUILD)
    assert store.stat(key) == before
    save_build(store, "team-a", KEY, BUILD.model_copy(update={"revision": "d" * 40}))
    assert store.stat(key) != before
