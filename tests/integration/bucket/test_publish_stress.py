"""Readers during writes, writers at once, writers killed: nobody ever sees part of an image."""

import itertools
import random
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from integration.tiny import TinyImage, TinyIndex, tiny_image, tiny_index
from niximage.bucket import ObjectStore, keys
from niximage.bucket.file import FileStore
from niximage.bucket.images import has_blob, read_manifest, resolve_tag, verify_image
from niximage.bucket.manifest import parse_references
from niximage.bucket.publish import publish_manifest
from niximage.bucket.tags import move_tag
from support.killing import said_apart
from support.stores import WRITES, Hooked

REPOSITORY = "team-a/hello"
READERS = 300
PUBLISHES = 150


def violations(store: ObjectStore, name: str) -> list[str]:
    """What is missing of an image that can be seen, by digest or by tag."""
    tagged = not keys.is_digest(name)
    digest = resolve_tag(store, REPOSITORY, name) if tagged else name
    if digest is None:
        return []
    if store.stat(keys.revision_link(REPOSITORY, digest)) is None:
        return [f"the image of the tag {name}"] if tagged else []
    content = read_manifest(store, REPOSITORY, digest)
    if content is None:
        return [f"manifest {digest}"]
    references = parse_references(content)
    missing = [
        member.digest
        for member in references.manifests
        if store.stat(keys.revision_link(REPOSITORY, member.digest)) is None
    ]
    for member in references.manifests:
        missing += violations(store, member.digest)
    return missing + [
        blob.digest
        for blob in references.blobs
        if not has_blob(store, REPOSITORY, blob.digest)
        or store.stat(keys.blob(blob.digest)) is None
    ]


def poll_while(
    store: ObjectStore, images: Sequence[TinyImage | TinyIndex], write: Callable[[], None]
) -> list[str]:
    """Poll with all readers while something writes; what they saw that was not whole."""
    names = [image.digest for image in images] + [f"tag-{n}" for n in range(len(images))]
    done = threading.Event()
    polls = itertools.count()

    def read(number: int) -> list[str]:
        choose = random.Random(number)
        seen: list[str] = []
        while not done.wait(0.6 * choose.random()):
            seen += violations(store, choose.choice(names))
            next(polls)
        return seen

    with ThreadPoolExecutor(READERS) as pool:
        readers = [pool.submit(read, number) for number in range(READERS)]
        try:
            write()
        finally:
            done.set()
        seen = [each for reader in readers for each in reader.result()]
    assert next(polls) > READERS
    return seen


def test_readers_during_writes_see_whole_images_only(tmp_path: Path) -> None:
    store = FileStore(tmp_path / "bucket")
    # Every other one is for two platforms.
    images = [
        tiny_index(str(n)) if n % 2 else tiny_image(b"shared", f"image {n}".encode())
        for n in range(PUBLISHES)
    ]

    def write() -> None:
        with ThreadPoolExecutor(2) as pool:
            list(
                pool.map(
                    lambda n: images[n].publish(store, REPOSITORY, f"tag-{n}"), range(PUBLISHES)
                )
            )

    assert poll_while(store, images, write) == []
    for number, image in enumerate(images):
        assert violations(store, image.digest) == []
        assert resolve_tag(store, REPOSITORY, f"tag-{number}") == image.digest


def test_the_readers_would_see_a_wrong_order(tmp_path: Path) -> None:
    model, store = FileStore(tmp_path / "model"), FileStore(tmp_path / "bucket")
    images = [tiny_image(b"shared", f"image {n}".encode()) for n in range(30)]

    def write() -> None:
        for number, image in enumerate(images):
            image.publish(model, REPOSITORY, f"tag-{number}")
        found = list(model.list(""))
        random.Random(0).shuffle(found)
        for each in found:
            store.create(each.key, model.local_path(each.key))

    assert poll_while(store, images, write) != []


def test_writers_of_one_image_at_once_all_succeed(store: ObjectStore) -> None:
    image = tiny_image(b"one", b"two")
    with ThreadPoolExecutor(8) as pool:
        digests = list(pool.map(lambda _: image.publish(store, REPOSITORY, "latest"), range(8)))
    assert {each.digest for each in digests} == {image.digest}
    verify_image(store, REPOSITORY, image.digest)
    assert resolve_tag(store, REPOSITORY, "latest") == image.digest


def test_of_builds_at_once_the_one_asked_for_last_has_the_tag(exact_store: ObjectStore) -> None:
    store = exact_store
    images = [tiny_image(f"image {n}".encode()) for n in range(8)]
    for image in images:
        image.upload(store)

    def publish(number: int) -> None:
        publish_manifest(
            store, REPOSITORY, images[number].manifest, tags=["latest"], asked_at=number
        )

    for round_ in range(3):
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(publish, random.Random(round_).sample(range(8), 8)))
        assert resolve_tag(store, REPOSITORY, "latest") == images[7].digest


@pytest.mark.parametrize("asked_at", [1, None])
def test_a_tag_moved_twice_is_written_once(store: ObjectStore, asked_at: int | None) -> None:
    image = tiny_image(b"one")
    image.publish(store, REPOSITORY)
    move_tag(store, REPOSITORY, "latest", image.digest, asked_at=asked_at)
    before = list(store.list(""))
    assert move_tag(store, REPOSITORY, "latest", image.digest, asked_at=asked_at) is True
    assert list(store.list("")) == before


def test_a_tag_does_not_move_back(store: ObjectStore) -> None:
    old, new = tiny_image(b"old"), tiny_image(b"new")
    old.publish(store, REPOSITORY)
    new.publish(store, REPOSITORY)
    assert move_tag(store, REPOSITORY, "latest", old.digest, asked_at=1) is True
    assert move_tag(store, REPOSITORY, "latest", new.digest, asked_at=2) is True
    assert move_tag(store, REPOSITORY, "latest", old.digest, asked_at=1) is False
    assert resolve_tag(store, REPOSITORY, "latest") == new.digest
    assert move_tag(store, REPOSITORY, "latest", old.digest, asked_at=3) is True


def test_a_damaged_record_of_a_tag_is_replaced(store: ObjectStore) -> None:
    image = tiny_image(b"one")
    image.publish(store, REPOSITORY)
    store.create(keys.tag_record(REPOSITORY, "latest"), b"{]")
    assert move_tag(store, REPOSITORY, "latest", image.digest, asked_at=1) is True
    assert move_tag(store, REPOSITORY, "latest", image.digest, asked_at=0) is False


def test_a_mover_killed_anywhere_is_healed_by_the_next(exact_store: ObjectStore) -> None:
    old, new = tiny_image(b"old"), tiny_image(b"new")
    old.publish(exact_store, REPOSITORY)
    new.publish(exact_store, REPOSITORY)
    for step in itertools.count():
        tag = f"tag-{step}"
        move_tag(exact_store, REPOSITORY, tag, old.digest, asked_at=1)
        left = step

        def die(verb: str, _key: str) -> None:
            nonlocal left
            left -= verb in WRITES
            if left < 0:
                raise InterruptedError

        try:
            move_tag(Hooked(exact_store, die), REPOSITORY, tag, new.digest, asked_at=2)
        except InterruptedError:
            assert resolve_tag(exact_store, REPOSITORY, tag) == old.digest
        else:
            break
        move_tag(exact_store, REPOSITORY, tag, new.digest, asked_at=2)
        assert resolve_tag(exact_store, REPOSITORY, tag) == new.digest
    assert step == 3


KILLED = """
import sys
from pathlib import Path
import integration.bucket.test_publish_stress as test
from integration.tiny import tiny_image
from niximage.bucket.file import FileStore
from support.killing import kill_everywhere

store = FileStore(Path(sys.argv[1]))
image = tiny_image(b"one", b"two")

def check():
    for seen in (image.digest, "latest"):
        assert test.violations(store, seen) == []

publish = lambda hooked: image.publish(hooked, test.REPOSITORY, "latest")
print(kill_everywhere(store, publish, check))
assert test.resolve_tag(store, test.REPOSITORY, "latest") == image.digest
"""


def test_a_writer_killed_before_and_after_every_write_leaves_nothing_partial(
    tmp_path: Path,
) -> None:
    assert int(said_apart(KILLED, tmp_path / "bucket")) == 20
