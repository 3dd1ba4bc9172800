"""What refers to an image is listed with it, whoever writes at the same time."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from integration.tiny import artifact, tiny_image
from niximage.bucket import ObjectStore, keys
from niximage.bucket.artifacts import attach
from niximage.bucket.images import read_manifest, resolve_tag, verify_image
from niximage.bucket.publish import publish_manifest, put_blob
from niximage.bucket.referrers import add_referrers, list_referrers
from niximage.errors import Retryable, Terminal
from niximage.image.descriptor import INDEX, MANIFEST, Descriptor
from support.stores import WRITES, Hooked

REPOSITORY = "team-a/hello"
IMAGE = tiny_image(b"one")
SUBJECT = Descriptor.of(MANIFEST, IMAGE.manifest)


def test_nothing_refers_to_an_image_at_first(store: ObjectStore) -> None:
    IMAGE.publish(store, REPOSITORY)
    assert list_referrers(store, REPOSITORY, IMAGE.digest) == []
    assert list_referrers(store, REPOSITORY, "sha256:" + "0" * 64) == []


def test_an_artifact_is_listed_with_type_and_annotations(store: ObjectStore) -> None:
    IMAGE.publish(store, REPOSITORY)
    sbom = artifact(store, SUBJECT, b"sbom", "application/spdx+json", {"who": "me"})
    [added] = add_referrers(store, REPOSITORY, [sbom])
    assert list_referrers(store, REPOSITORY, IMAGE.digest) == [added]
    assert added.to_json() == {
        **Descriptor.of(MANIFEST, sbom).to_json(),
        "artifactType": "application/spdx+json",
        "annotations": {"who": "me"},
    }
    verify_image(store, REPOSITORY, added.descriptor.digest)


def test_clients_of_a_stock_registry_find_the_index_by_its_tag(store: ObjectStore) -> None:
    IMAGE.publish(store, REPOSITORY)
    [added] = add_referrers(store, REPOSITORY, [artifact(store, SUBJECT, b"sbom", "a/sbom")])
    digest = resolve_tag(store, REPOSITORY, IMAGE.digest.replace(":", "-"))
    assert digest is not None
    index = read_manifest(store, REPOSITORY, digest)
    assert index is not None
    assert json.loads(index) == {
        "schemaVersion": 2,
        "mediaType": INDEX,
        "manifests": [added.to_json()],
    }


def test_attaching_again_writes_nothing(store: ObjectStore) -> None:
    IMAGE.publish(store, REPOSITORY)
    manifest = artifact(store, SUBJECT, b"sbom", "a/sbom")
    add_referrers(store, REPOSITORY, [manifest])
    before = list(store.list(""))
    add_referrers(store, REPOSITORY, [manifest])
    assert list(store.list("")) == before


def test_of_eight_writers_at_once_none_loses(store: ObjectStore) -> None:
    IMAGE.publish(store, REPOSITORY)
    manifests = [artifact(store, SUBJECT, bytes([n]), f"a/kind-{n}") for n in range(8)]
    with ThreadPoolExecutor(8) as pool:
        written = pool.map(lambda one: add_referrers(store, REPOSITORY, [one]), manifests)
        added = [referrer for [referrer] in written]
    listed = list_referrers(store, REPOSITORY, IMAGE.digest)
    assert listed == sorted(added, key=lambda each: each.descriptor.digest)


def test_a_writer_killed_at_any_step_is_healed_by_one_repeat(store: ObjectStore) -> None:
    IMAGE.publish(store, REPOSITORY)
    [first] = add_referrers(store, REPOSITORY, [artifact(store, SUBJECT, b"first", "a/first")])
    manifest = artifact(store, SUBJECT, b"second", "a/second")
    for step in range(100):
        left = step

        def die(verb: str, _key: str) -> None:
            nonlocal left
            if verb in WRITES:
                left -= 1
                if left < 0:
                    raise InterruptedError

        try:
            [second] = add_referrers(Hooked(store, die), REPOSITORY, [manifest])
        except InterruptedError:
            assert list_referrers(store, REPOSITORY, IMAGE.digest) == [first]
        else:
            break
    assert step > 5
    assert set(_digests(store)) == {first.descriptor.digest, second.descriptor.digest}


def test_a_file_is_attached_as_it_was_when_it_was_read(
    exact_store: ObjectStore, tmp_path: Path
) -> None:
    IMAGE.publish(exact_store, REPOSITORY)
    file = tmp_path / "sbom"
    file.write_bytes(b"first")

    def change(_verb: str, _key: str) -> None:
        file.write_bytes(b"other")

    store = Hooked(exact_store, before=change)
    file_type = "a/sbom"
    attach(store, REPOSITORY, IMAGE.digest, [file], artifact_type=file_type, file_type=file_type)
    (listed,) = list_referrers(store, REPOSITORY, IMAGE.digest)
    (manifest,) = verify_image(store, REPOSITORY, listed.descriptor.digest)
    (layer,) = manifest.layers
    content = exact_store.read(keys.blob(layer.digest), limit=99)
    assert content is not None
    assert Descriptor.of(file_type, content) == layer


def test_a_damaged_blob_is_replaced_by_what_is_attached(
    exact_store: ObjectStore, tmp_path: Path
) -> None:
    """A layer that is damaged can be packed anew; a user's file only the user has."""
    IMAGE.publish(exact_store, REPOSITORY)
    file = tmp_path / "sbom"
    file.write_bytes(b"right")
    key = keys.blob(Descriptor.of("a/sbom", b"right").digest)
    exact_store.create(key, b"wrong")
    attach(
        exact_store, REPOSITORY, IMAGE.digest, [file], artifact_type="a/sbom", file_type="a/sbom"
    )
    assert exact_store.read(key, limit=99) == b"right"


def test_a_deleted_referrer_is_listed_no_more_after_the_next(store: ObjectStore) -> None:
    IMAGE.publish(store, REPOSITORY)
    [gone] = add_referrers(store, REPOSITORY, [artifact(store, SUBJECT, b"gone", "a/gone")])
    found = store.stat(keys.revision_link(REPOSITORY, gone.descriptor.digest))
    assert found is not None
    assert store.delete(found)
    [added] = add_referrers(store, REPOSITORY, [artifact(store, SUBJECT, b"new", "a/new")])
    assert _digests(store) == [added.descriptor.digest]


def test_what_has_no_subject_is_refused(store: ObjectStore) -> None:
    IMAGE.upload(store)
    with pytest.raises(Terminal, match="has no subject"):
        add_referrers(store, REPOSITORY, [IMAGE.manifest])
    assert list(store.list(f"{keys.ROOT}repositories/")) == []


def test_an_index_is_published_after_its_members(store: ObjectStore) -> None:
    index = json.dumps(
        {"schemaVersion": 2, "mediaType": INDEX, "manifests": [SUBJECT.to_json()]}
    ).encode()
    put_blob(store, SUBJECT, IMAGE.manifest)
    with pytest.raises(Retryable, match=f"{SUBJECT.digest} was not published to {REPOSITORY}"):
        publish_manifest(store, REPOSITORY, index, tags=["v1"])
    IMAGE.publish(store, REPOSITORY)
    published = publish_manifest(store, REPOSITORY, index, tags=["v1"])
    assert published == Descriptor.of(INDEX, index)
    assert resolve_tag(store, REPOSITORY, "v1") == published.digest


def _digests(store: ObjectStore) -> list[str]:
    return [each.descriptor.digest for each in list_referrers(store, REPOSITORY, IMAGE.digest)]
