"""Images that the bucket has under another name need links, and no build."""

from integration.tiny import tiny_image, tiny_index
from niximage.bucket import ObjectStore, keys
from niximage.bucket.images import verify_image
from niximage.bucket.known import find_image
from niximage.bucket.records import BuildRecord, save_build

IMAGE = tiny_image(b"one")
INPUTS = "ab" * 32
BUILD = BuildRecord(
    digest=IMAGE.digest,
    size=100,
    repository="team-a/hello",
    layers=1,
    reused_layers=0,
    reused_size=0,
    revision="c" * 40,
)


def publish(store: ObjectStore) -> None:
    IMAGE.publish(store, BUILD.repository)
    save_build(store, "team-a", INPUTS, BUILD)


def test_an_image_is_found_under_its_name(store: ObjectStore) -> None:
    publish(store)
    assert find_image(store, "team-a", BUILD.repository, INPUTS) == BUILD


def test_an_image_gets_another_name_of_its_namespace(store: ObjectStore) -> None:
    publish(store)
    found = find_image(store, "team-a", "team-a/other", INPUTS)
    assert found is not None
    assert (found.digest, found.repository) == (IMAGE.digest, "team-a/other")
    verify_image(store, "team-a/other", IMAGE.digest)
    # Asked again, nothing is different.
    assert find_image(store, "team-a", "team-a/other", INPUTS) == found
    assert find_image(store, "team-a", BUILD.repository, INPUTS) == BUILD


def test_no_image_crosses_namespaces(store: ObjectStore) -> None:
    publish(store)
    assert find_image(store, "team-b", "team-b/hello", INPUTS) is None


def test_an_image_that_lost_a_blob_gets_no_name(store: ObjectStore) -> None:
    publish(store)
    key = keys.blob(IMAGE.layers[0][0].digest)
    found = store.stat(key)
    assert found is not None
    store.delete(found)
    assert find_image(store, "team-a", "team-a/other", INPUTS) is None
    assert list(store.list(keys.repository_prefix("team-a/other"))) == []


def test_an_index_gets_another_name_with_all_its_members(store: ObjectStore) -> None:
    index = tiny_index()
    build = BUILD.model_copy(update={"digest": index.digest})
    index.publish(store, BUILD.repository)
    save_build(store, "team-a", INPUTS, build)
    found = find_image(store, "team-a", "team-a/other", INPUTS)
    assert found is not None
    assert found.digest == index.digest
    assert len(verify_image(store, "team-a/other", index.digest)) == 2
    for member in index.members:
        verify_image(store, "team-a/other", member.digest)


def test_an_index_that_lost_a_blob_of_a_member_is_not_found(store: ObjectStore) -> None:
    index = tiny_index()
    index.publish(store, BUILD.repository)
    save_build(store, "team-a", INPUTS, BUILD.model_copy(update={"digest": index.digest}))
    found = store.stat(keys.blob(index.members[1].layers[1][0].digest))
    assert found is not None
    store.delete(found)
    for repository in (BUILD.repository, "team-a/other"):
        assert find_image(store, "team-a", repository, INPUTS) is None
    assert list(store.list(keys.repository_prefix("team-a/other"))) == []
