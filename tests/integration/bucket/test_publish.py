"""An image is seen whole or not at all, whatever happens to its writer."""

from collections.abc import Callable
from pathlib import Path

import pytest

from integration.tiny import TinyImage, tiny_image, tiny_index
from niximage.bucket import ObjectStore, keys
from niximage.bucket.images import list_tags, read_manifest, resolve_tag, verify_image
from niximage.bucket.publish import publish_manifest, put_blob
from niximage.errors import Reason, Retryable, Terminal
from niximage.image.descriptor import LAYER_GZIP, Descriptor
from support.stores import WRITES, Hooked

REPOSITORY = "team-a/hello"
IMAGE = tiny_image(b"one", b"two", b"three")


class StoppedError(Exception):
    """The writer died here."""


class Watched(Hooked):
    """A store that notes every write, and may die before one of them."""

    def __init__(self, store: ObjectStore, before: Callable[[int], None] | None = None) -> None:
        super().__init__(store, self._note)
        self._before = before
        self.writes: list[tuple[str, str]] = []

    def _note(self, verb: str, key: str) -> None:
        if verb in WRITES:
            if self._before is not None:
                self._before(len(self.writes))
            self.writes.append((verb, key))


def test_a_published_image_is_there_by_digest_and_by_tag(store: ObjectStore) -> None:
    published = IMAGE.publish(store, REPOSITORY, "latest", "v1")
    assert published.digest == IMAGE.digest
    assert read_manifest(store, REPOSITORY, published.digest) == IMAGE.manifest
    assert resolve_tag(store, REPOSITORY, "v1") == published.digest
    assert list(list_tags(store, REPOSITORY)) == ["latest", "v1"]
    (manifest,) = verify_image(store, REPOSITORY, published.digest)
    assert set(manifest.blobs) == set(IMAGE.blobs)
    assert manifest.size == sum(len(content) for content in IMAGE.blobs.values())


def test_links_are_71_bytes_as_distribution_wants_them(store: ObjectStore) -> None:
    IMAGE.publish(store, REPOSITORY, "latest")
    links = list(store.list(f"{keys.ROOT}repositories/"))
    assert len(links) == 4 + 1 + 2
    assert {link.size for link in links} == {71}


def test_the_commit_order(store: ObjectStore) -> None:
    watched = Watched(store)
    IMAGE.publish(watched, REPOSITORY, "latest")
    blobs = [keys.blob(descriptor.digest) for descriptor in IMAGE.blobs]
    links = [keys.layer_link(REPOSITORY, descriptor.digest) for descriptor in IMAGE.blobs]
    written = [key for _verb, key in watched.writes]
    assert written[:4] == blobs
    assert sorted(written[4:8]) == sorted(links)
    assert written[8:] == [
        keys.blob(IMAGE.digest),
        keys.revision_link(REPOSITORY, IMAGE.digest),
        keys.tag_index_link(REPOSITORY, "latest", IMAGE.digest),
        keys.tag_link(REPOSITORY, "latest"),
    ]


def test_publishing_again_writes_nothing(store: ObjectStore) -> None:
    IMAGE.publish(store, REPOSITORY, "latest")
    before = list(store.list(""))
    watched = Watched(store)
    IMAGE.publish(watched, REPOSITORY, "latest")
    assert {verb for verb, _key in watched.writes} == {"create"}
    assert list(store.list("")) == before


def test_a_tag_moves_to_a_new_image(store: ObjectStore) -> None:
    IMAGE.publish(store, REPOSITORY, "latest")
    newer = tiny_image(b"newer")
    newer.publish(store, REPOSITORY, "latest")
    assert resolve_tag(store, REPOSITORY, "latest") == newer.digest
    verify_image(store, REPOSITORY, IMAGE.digest)


def test_a_writer_killed_at_any_step_leaves_no_partial_image(store: ObjectStore) -> None:
    newer = tiny_image(b"one", b"two", b"four")
    IMAGE.publish(store, REPOSITORY, "latest")

    for step in range(100):

        def die(number: int, step: int = step) -> None:
            if number == step:
                raise StoppedError

        try:
            newer.publish(Watched(store, die), REPOSITORY, "latest", "next")
        except StoppedError:
            _all_visible_images_are_whole(store)
        else:
            break
    else:
        pytest.fail("the writer never came through")
    assert step > 8
    assert resolve_tag(store, REPOSITORY, "latest") == newer.digest
    verify_image(store, REPOSITORY, newer.digest)


def _all_visible_images_are_whole(store: ObjectStore) -> None:
    for tag in list_tags(store, REPOSITORY):
        digest = resolve_tag(store, REPOSITORY, tag)
        assert digest is not None
        verify_image(store, REPOSITORY, digest)
    revisions = f"{keys.manifests_prefix(REPOSITORY)}revisions/sha256/"
    for link in store.list(revisions):
        verify_image(store, REPOSITORY, f"sha256:{link.key.removeprefix(revisions)[:64]}")


def test_each_killed_writer_is_healed_by_one_repeat(bucket_url: str, store: ObjectStore) -> None:
    steps = 12
    for step in range(steps):
        repository = f"team-a/app-{step}"
        image = tiny_image(f"app {step}".encode(), b"shared")

        def die(number: int, step: int = step) -> None:
            if number == step:
                raise StoppedError

        watched = Watched(store, die)
        try:
            image.publish(watched, repository, "latest")
        except StoppedError:
            assert resolve_tag(store, repository, "latest") is None
        image.publish(store, repository, "latest")
        assert resolve_tag(store, repository, "latest") == image.digest
        verify_image(store, repository, image.digest)


def test_a_missing_blob_stops_the_publish(store: ObjectStore) -> None:
    lost, _content = IMAGE.layers[1]
    for descriptor, content in IMAGE.blobs.items():
        if descriptor != lost:
            put_blob(store, descriptor, content)
    with pytest.raises(Retryable, match=f"{lost.digest} is not there"):
        publish_manifest(store, REPOSITORY, IMAGE.manifest, tags=["latest"])
    assert list(store.list(f"{keys.ROOT}repositories/")) == []


def test_a_bad_tag_stops_the_publish_before_anything_is_seen(store: ObjectStore) -> None:
    IMAGE.upload(store)
    with pytest.raises(Terminal, match="no tag"):
        publish_manifest(store, REPOSITORY, IMAGE.manifest, tags=["good", "../bad"])
    assert list(store.list(f"{keys.ROOT}repositories/")) == []


def test_a_blob_that_is_not_what_it_says_is_refused(store: ObjectStore, tmp_path: Path) -> None:
    descriptor = Descriptor.of(LAYER_GZIP, b"right")
    file = tmp_path / "blob"
    file.write_bytes(b"not right")
    for content in (b"wrong", file):
        with pytest.raises(Retryable, match="changed before it was uploaded"):
            put_blob(store, descriptor, content)
    assert store.stat(keys.blob(descriptor.digest)) is None


def test_a_blob_from_a_file_is_written_once(store: ObjectStore, tmp_path: Path) -> None:
    descriptor = Descriptor.of(LAYER_GZIP, b"layer")
    file = tmp_path / "blob"
    file.write_bytes(b"layer")
    assert put_blob(store, descriptor, file) is True
    assert put_blob(store, descriptor, file) is False


def test_a_truncated_blob_is_healed(store: ObjectStore) -> None:
    descriptor, content = IMAGE.layers[0]
    store.create(keys.blob(descriptor.digest), content[:-1])
    IMAGE.publish(store, REPOSITORY)
    verify_image(store, REPOSITORY, IMAGE.digest)


def test_a_broken_link_is_healed(store: ObjectStore) -> None:
    IMAGE.publish(store, REPOSITORY)
    link = keys.revision_link(REPOSITORY, IMAGE.digest)
    store.replace(link, IMAGE.digest.encode() + b"\n")
    with pytest.raises(Retryable, match="is no link"):
        verify_image(store, REPOSITORY, IMAGE.digest)
    IMAGE.publish(store, REPOSITORY)
    verify_image(store, REPOSITORY, IMAGE.digest)


def _drop(store: ObjectStore, key: str) -> None:
    found = store.stat(key)
    assert found is not None
    assert store.delete(found)


@pytest.mark.parametrize(
    ("lost", "told"),
    [
        (lambda i: keys.revision_link(REPOSITORY, i.digest), "is not in"),
        (lambda i: keys.blob(i.digest), "is not in"),
        (lambda i: keys.blob(i.config[0].digest), "is not there"),
        (lambda i: keys.blob(i.layers[2][0].digest), "is not there"),
        (lambda i: keys.layer_link(REPOSITORY, i.layers[0][0].digest), "is not linked"),
    ],
    ids=["revision", "manifest", "config", "layer", "link"],
)
def test_verification_says_what_is_missing(
    store: ObjectStore, lost: Callable[[TinyImage], str], told: str
) -> None:
    IMAGE.publish(store, REPOSITORY)
    _drop(store, lost(IMAGE))
    with pytest.raises(Retryable, match=told) as caught:
        verify_image(store, REPOSITORY, IMAGE.digest)
    assert caught.value.reason is Reason.RESULT_INVALID


def test_verification_recomputes_the_manifest_s_digest(store: ObjectStore) -> None:
    IMAGE.publish(store, REPOSITORY)
    store.replace(keys.blob(IMAGE.digest), IMAGE.manifest.replace(b"amd64", b"arm64") + b" ")
    with pytest.raises(Retryable, match="does not have this digest"):
        verify_image(store, REPOSITORY, IMAGE.digest)


# Several platforms -------------------------------------------------------------------------------

INDEX = tiny_index()


def test_an_index_is_verified_with_its_members(store: ObjectStore) -> None:
    published = INDEX.publish(store, REPOSITORY, "latest")
    assert published.digest == INDEX.digest
    manifests = verify_image(store, REPOSITORY, INDEX.digest, keep=True)
    assert [set(each.blobs) for each in manifests] == [set(each.blobs) for each in INDEX.members]


def test_a_writer_of_an_index_killed_at_any_step_leaves_no_partial_image(
    store: ObjectStore,
) -> None:
    for step in range(100):

        def die(number: int, step: int = step) -> None:
            if number == step:
                raise StoppedError

        try:
            INDEX.publish(Watched(store, die), REPOSITORY, "latest")
        except StoppedError:
            _all_visible_images_are_whole(store)
        else:
            break
    else:
        pytest.fail("the writer never came through")
    assert step > 12
    assert resolve_tag(store, REPOSITORY, "latest") == INDEX.digest


def test_an_index_without_a_member_is_not_published(store: ObjectStore) -> None:
    INDEX.members[0].publish(store, REPOSITORY)
    INDEX.members[1].publish(store, "team-a/other")
    with pytest.raises(Retryable, match=f"{INDEX.members[1].digest} was not published to team-a"):
        publish_manifest(store, REPOSITORY, INDEX.content)


@pytest.mark.parametrize(
    ("lost", "told"),
    [
        (lambda i: keys.revision_link(REPOSITORY, i.digest), "is not in"),
        (lambda i: keys.blob(i.digest), "is not in"),
        (lambda i: keys.blob(i.config[0].digest), "is not there"),
        (lambda i: keys.layer_link(REPOSITORY, i.layers[1][0].digest), "is not linked"),
    ],
    ids=["revision", "manifest", "config", "link"],
)
def test_verification_of_an_index_says_what_a_member_lacks(
    store: ObjectStore, lost: Callable[[TinyImage], str], told: str
) -> None:
    INDEX.publish(store, REPOSITORY)
    _drop(store, lost(INDEX.members[1]))
    with pytest.raises(Retryable, match=told) as caught:
        verify_image(store, REPOSITORY, INDEX.digest)
    assert caught.value.reason is Reason.RESULT_INVALID


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"size":', b'"size":1'),
        (b"image.manifest.v1+json", b"image.index.v1+json"),
    ],
)
def test_an_index_that_tells_wrongly_of_its_members_is_not_believed(
    store: ObjectStore, old: bytes, new: bytes
) -> None:
    INDEX.publish(store, REPOSITORY)
    wrong = INDEX.content.replace(old, new, 1)
    digest = Descriptor.of("", wrong).digest
    store.create(keys.blob(digest), wrong)
    store.create(keys.revision_link(REPOSITORY, digest), digest.encode())
    with pytest.raises(Retryable, match="is not what its index says"):
        verify_image(store, REPOSITORY, digest)
