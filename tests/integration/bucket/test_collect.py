"""Garbage collection on real stores: what stays, what goes, and dying halfway."""

import json
import time
from itertools import count
from pathlib import Path

import pytest

from integration.tiny import artifact, tiny_image, tiny_index
from niximage.api.canonical import canonical_json
from niximage.bucket import ObjectStore, hold, keys, threads
from niximage.bucket.collect import Collection, collect
from niximage.bucket.contents import ContentsRecord, LayerContents, save_contents
from niximage.bucket.images import list_tags, resolve_tag, verify_image
from niximage.bucket.leases import LIFETIME, leased
from niximage.bucket.logs import read_log, save_log
from niximage.bucket.publish import publish_manifest, put_blob
from niximage.bucket.records import (
    BuildRecord,
    LayerRecord,
    find_build,
    find_layer,
    save_build,
    save_layer,
    save_names,
)
from niximage.bucket.referrers import add_referrers, list_referrers
from niximage.bucket.remove import remove_repository, remove_tags
from niximage.bucket.tags import move_tag
from niximage.errors import Reason, Retryable, Terminal
from niximage.image.descriptor import INDEX, LAYER_GZIP, MANIFEST, Descriptor
from support.killing import said_apart
from support.stores import WRITES, Hooked

HOUR = 3600.0
DAY = 24 * HOUR
REPOSITORY = "team-a/hello"
OLD, NEW = tiny_image(b"shared", b"old"), tiny_image(b"shared", b"new")
HASH = "ab" * 32


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is two days later than the stores believe."""
    monkeypatch.setattr(hold, "now", lambda: time.time() + 2 * DAY)


def gc(store: ObjectStore, *roots: str, grace: float = DAY, dry_run: bool = False) -> Collection:
    return collect(store, roots, grace=grace, dry_run=dry_run)


def everything(store: ObjectStore) -> list[str]:
    return [found.key for found in store.list("")]


def test_what_a_status_names_stays_and_the_rest_goes(exact_store: ObjectStore, later: None) -> None:
    store = exact_store
    OLD.publish(store, REPOSITORY, HASH)
    NEW.publish(store, REPOSITORY, "cd" * 32)
    result = gc(store, NEW.digest)
    verify_image(store, REPOSITORY, NEW.digest)
    assert resolve_tag(store, REPOSITORY, "cd" * 32) == NEW.digest
    assert resolve_tag(store, REPOSITORY, HASH) is None
    old = [d for d in OLD.blobs if d not in NEW.blobs]
    left = everything(store)
    for descriptor in old:
        assert not [key for key in left if descriptor.digest[7:] in key]
    freed = result.repositories[REPOSITORY]
    assert (freed.tags, freed.manifests, freed.links, freed.blobs) == (1, 1, 2, 3)
    assert freed.bytes == sum(d.size for d in old) + len(OLD.manifest)
    assert (result.kept_images, result.kept_blobs) == (1, 4)
    assert result.damaged == []
    again = gc(store, NEW.digest)
    assert again.total.bytes == 0
    assert everything(store) == left


def test_what_is_young_stays(store: ObjectStore) -> None:
    OLD.publish(store, REPOSITORY, HASH)
    before = list(store.list(""))
    result = gc(store)
    assert list(store.list("")) == before
    assert result.total.blobs == 0


def test_a_dry_run_tells_the_same_and_deletes_nothing(
    exact_store: ObjectStore, later: None
) -> None:
    OLD.publish(exact_store, REPOSITORY, HASH)
    NEW.publish(exact_store, REPOSITORY, "latest")
    before = list(exact_store.list(""))
    told = gc(exact_store, dry_run=True)
    assert list(exact_store.list("")) == before
    done = gc(exact_store)
    assert told.repositories == done.repositories
    assert told.total.blobs == 3


def test_tags_of_users_keep_their_images(store: ObjectStore, later: None) -> None:
    OLD.publish(store, REPOSITORY, "v1")
    gc(store)
    verify_image(store, REPOSITORY, OLD.digest)


def test_an_index_keeps_its_members_and_an_image_its_referrers(
    store: ObjectStore, later: None
) -> None:
    OLD.publish(store, REPOSITORY)
    NEW.publish(store, REPOSITORY)
    member = Descriptor.of(MANIFEST, OLD.manifest)
    index = json.dumps(
        {"schemaVersion": 2, "mediaType": INDEX, "manifests": [member.to_json()]}
    ).encode()
    top = publish_manifest(store, REPOSITORY, index, tags=["multi"])
    [about_index] = add_referrers(store, REPOSITORY, [artifact(store, top, b"sbom", "a/sbom")])
    [about_it] = add_referrers(
        store,
        REPOSITORY,
        [artifact(store, about_index.descriptor, b"signature", "a/signature")],
    )
    [about_dead] = add_referrers(
        store,
        REPOSITORY,
        [artifact(store, Descriptor.of(MANIFEST, NEW.manifest), b"gone", "a/gone")],
    )
    gc(store)
    verify_image(store, REPOSITORY, OLD.digest)
    assert list_referrers(store, REPOSITORY, top.digest) == [about_index]
    assert list_referrers(store, REPOSITORY, about_index.descriptor.digest) == [about_it]
    verify_image(store, REPOSITORY, about_it.descriptor.digest)
    assert list_referrers(store, REPOSITORY, NEW.digest) == []
    assert store.stat(keys.revision_link(REPOSITORY, about_dead.descriptor.digest)) is None


def test_blobs_shared_between_repositories_stay_while_one_lives(
    store: ObjectStore, later: None
) -> None:
    OLD.publish(store, "team-b/other", "latest")
    OLD.publish(store, REPOSITORY)
    remove_repository(store, "team-b/other")
    gc(store, OLD.digest)
    verify_image(store, REPOSITORY, OLD.digest)
    assert list(store.list(keys.repository_prefix("team-b/other"))) == []


def test_logs_go_when_nobody_names_them(store: ObjectStore, later: None) -> None:
    named, forgotten = (save_log(store, "team-a", build, "text") for build in ("a-1", "b-2"))
    assert collect(store, [], grace=DAY, logs=[named]).total.records == 1
    assert read_log(store, named) == "text"
    assert read_log(store, forgotten) is None


def test_records_go_with_what_they_name(store: ObjectStore, later: None) -> None:
    OLD.publish(store, REPOSITORY, "latest")
    kept, content = OLD.layers[0]
    lost = Descriptor.of(LAYER_GZIP, b"lost")
    put_blob(store, lost, b"lost")
    for key, blob in ((HASH, kept), ("cd" * 32, lost)):
        record = LayerRecord(
            diff_id=blob.digest, digest=blob.digest, size=blob.size, media_type=blob.media_type
        )
        save_layer(store, "team-a", key, record)
    store.create(keys.layer_record("team-a", "ef" * 32), b"nonsense")
    result = gc(store)
    assert result.repositories[""].records == 2
    assert find_layer(store, "team-a", HASH) is not None
    assert store.stat(keys.layer_record("team-a", "cd" * 32)) is None
    assert store.stat(keys.layer_record("team-a", "ef" * 32)) is None
    assert store.stat(keys.blob(lost.digest)) is None
    assert store.read(keys.blob(kept.digest), limit=9999) == content


def test_names_go_after_their_layer(store: ObjectStore, later: None) -> None:
    OLD.publish(store, REPOSITORY, HASH)
    layer = next(d for d in OLD.blobs if d.media_type.endswith(("gzip", "zstd")))
    record = LayerRecord(
        digest=layer.digest, size=layer.size, media_type=layer.media_type, diff_id=layer.digest
    )
    save_layer(store, keys.VERIFIED, HASH, record)
    save_names(store, HASH, b"names")
    gc(store, OLD.digest)
    assert keys.layer_names(HASH) in everything(store)
    gc(store)
    assert keys.layer_record(keys.VERIFIED, HASH) not in everything(store)
    gc(store)
    assert keys.layer_names(HASH) not in everything(store)


def test_evaluations_go_when_nobody_needed_them_for_a_month(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = keys.evaluation_record("team-a", HASH)
    store.create(name, b"{}")
    for days, stays in ((30, True), (32, False)):
        monkeypatch.setattr(hold, "now", lambda days=days: time.time() + days * DAY)
        gc(store)
        assert (name in everything(store)) is stays


def test_an_image_for_two_platforms_lives_and_goes_as_one(store: ObjectStore, later: None) -> None:
    index = tiny_index()
    index.publish(store, REPOSITORY, HASH)
    config, _ = index.members[1].config
    layers = [
        LayerContents(digest=d.digest, size=d.size, media_type=d.media_type, diff_id=d.digest)
        for d, _ in index.members[1].layers
    ]
    record = ContentsRecord(config=config.digest, config_size=config.size, layers=layers)
    save_contents(store, "team-a", index.digest, "aarch64-linux", record)
    before = everything(store)
    assert gc(store, index.digest).kept_images == 3
    assert everything(store) == before
    assert len(verify_image(store, REPOSITORY, index.digest)) == 2
    freed = gc(store).total
    assert (freed.tags, freed.manifests) == (1, 3)
    assert everything(store) == []


def test_removal_takes_an_index_and_its_members(store: ObjectStore) -> None:
    tiny_index().publish(store, REPOSITORY, HASH)
    assert remove_repository(store, REPOSITORY).manifests == 3
    assert list(store.list(keys.manifests_prefix(REPOSITORY))) == []


def test_a_base_from_elsewhere_stays_known_while_its_layers_are_used(
    store: ObjectStore, later: None
) -> None:
    OLD.publish(store, REPOSITORY, "latest")
    config = Descriptor.of("application/vnd.oci.image.config.v1+json", b"the base's")
    put_blob(store, config, b"the base's")
    below = [
        LayerContents(digest=d.digest, size=d.size, media_type=d.media_type, diff_id=d.digest)
        for d, _ in OLD.layers[:1]
    ]
    record = ContentsRecord(config=config.digest, config_size=config.size, layers=below)
    save_contents(store, "team-a", "sha256:" + "5" * 64, "x86_64-linux", record)
    gc(store)
    assert store.stat(keys.blob(config.digest)) is not None
    assert store.stat(keys.contents_record("team-a", "sha256:" + "5" * 64, "x86_64-linux"))
    remove_repository(store, REPOSITORY)
    gc(store)
    assert everything(store) == []


def test_a_lease_counts_for_as_long_as_a_build_may_take(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    OLD.upload(store)
    with leased(store, "team-a"):
        monkeypatch.setattr(hold, "now", lambda: time.time() + LIFETIME - 60)
        assert gc(store, grace=HOUR).total.blobs == 0
        monkeypatch.setattr(hold, "now", lambda: time.time() + LIFETIME + 60)
        assert gc(store, grace=HOUR).total.blobs == 3
    assert [key for key in everything(store) if "leases" in key] == []


def test_the_grace_begins_when_an_image_was_last_seen_in_use(
    exact_store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = exact_store
    OLD.publish(store, REPOSITORY)
    link = store.stat(keys.revision_link(REPOSITORY, OLD.digest))
    monkeypatch.setattr(hold, "now", lambda: time.time() + 13 * HOUR)
    gc(store, OLD.digest)
    assert store.stat(keys.revision_link(REPOSITORY, OLD.digest)) != link
    gc(store)
    verify_image(store, REPOSITORY, OLD.digest)


def test_what_is_damaged_is_told_and_stays(store: ObjectStore, later: None) -> None:
    OLD.publish(store, REPOSITORY, "latest")
    store.replace(keys.blob(OLD.digest), b"damaged")
    store.create(keys.tag_link(REPOSITORY, "broken"), b"no digest")
    result = gc(store)
    assert set(result.damaged) == {OLD.digest, keys.tag_link(REPOSITORY, "broken")}
    assert store.stat(keys.revision_link(REPOSITORY, OLD.digest)) is not None


def test_foreign_objects_stay(store: ObjectStore, later: None) -> None:
    foreign = [
        "elsewhere/x",
        f"{keys.ROOT}uploads/x",
        f"{keys.OWN}unknown/team-a/x",
        f"{keys.ROOT}blobs/sha512/aa/data",
    ]
    for key in foreign:
        store.create(key, b"x")
    gc(store)
    assert everything(store) == sorted(foreign)


@pytest.mark.parametrize("verb", [WRITES, {"list", "read", "stat"}], ids=["writes", "reads"])
def test_a_collection_killed_anywhere_loses_nothing(
    exact_store: ObjectStore, later: None, monkeypatch: pytest.MonkeyPatch, verb: set[str]
) -> None:
    store = exact_store
    monkeypatch.setattr(threads, "WORKERS", 1)
    for step in count():
        OLD.publish(store, REPOSITORY, HASH)
        NEW.publish(store, REPOSITORY, "latest")
        left = step

        def die(what: str, _key: str) -> None:
            nonlocal left
            left -= what in verb
            if left < 0:
                raise InterruptedError

        try:
            gc(Hooked(store, die))
        except InterruptedError:
            verify_image(store, REPOSITORY, NEW.digest)
            if store.stat(keys.revision_link(REPOSITORY, OLD.digest)) is not None:
                verify_image(store, REPOSITORY, OLD.digest)
        else:
            break
        if step % 5 == 4:
            assert gc(store).kept_images == 1
    assert step >= 6


KILLED = """
import sys, time
from pathlib import Path
import integration.bucket.test_collect as test
from niximage.bucket import hold, keys, threads
from niximage.bucket.file import FileStore
from niximage.bucket.images import verify_image
from support.killing import kill_everywhere

threads.WORKERS = 1
hold.now = lambda: time.time() + 2 * test.DAY
store = FileStore(Path(sys.argv[1]))
test.NEW.publish(store, test.REPOSITORY, "latest")

def check():
    verify_image(store, test.REPOSITORY, test.NEW.digest)
    if store.stat(keys.revision_link(test.REPOSITORY, test.OLD.digest)) is not None:
        verify_image(store, test.REPOSITORY, test.OLD.digest)

old = lambda: test.OLD.publish(store, test.REPOSITORY, test.HASH)
print(kill_everywhere(store, test.gc, check, begin=old))
"""


def test_a_collection_killed_before_and_after_every_write_loses_nothing(tmp_path: Path) -> None:
    assert int(said_apart(KILLED, tmp_path / "bucket")) >= 10


def test_an_object_used_again_meanwhile_is_spared(
    exact_store: ObjectStore, later: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = exact_store
    OLD.publish(store, REPOSITORY)
    used = False

    def use(verb: str, _key: str) -> None:
        nonlocal used
        if verb == "delete" and not used:
            used = True
            OLD.publish(store, REPOSITORY)

    result = gc(Hooked(store, use))
    assert result.spared == 1 + 3 + 4
    verify_image(store, REPOSITORY, OLD.digest)


def test_an_image_taken_up_again_meanwhile_is_spared(
    exact_store: ObjectStore, later: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = exact_store
    OLD.publish(store, REPOSITORY)
    record = BuildRecord(
        digest=OLD.digest,
        size=1,
        repository=REPOSITORY,
        layers=2,
        reused_layers=0,
        reused_size=0,
        revision="c" * 40,
    )
    save_build(store, "team-a", HASH, record)
    found = None

    def adopt(verb: str, _key: str) -> None:
        nonlocal found
        if verb == "delete" and found is None:
            found = find_build(store, "team-a", HASH)

    gc(Hooked(store, adopt))
    assert found == record
    verify_image(store, REPOSITORY, OLD.digest)


def test_an_image_whose_deletion_has_begun_is_not_taken_up(
    exact_store: ObjectStore, later: None
) -> None:
    store = exact_store
    OLD.publish(store, REPOSITORY)
    blobs = list(store.list(f"{keys.ROOT}blobs/"))
    assert store.delete(blobs[0])
    with pytest.raises(Retryable):
        verify_image(store, REPOSITORY, OLD.digest, keep=True)


def test_a_store_that_fails_is_told(exact_store: ObjectStore, later: None) -> None:
    OLD.publish(exact_store, REPOSITORY)

    def fail(verb: str, _key: str) -> None:
        if verb == "delete":
            raise Retryable(Reason.BUCKET_UNAVAILABLE, "the bucket is on fire")

    with pytest.raises(Retryable, match="on fire"):
        gc(Hooked(exact_store, fail))


@pytest.mark.parametrize("grace", [0.0, 3599.0, -1.0, float("nan")])
def test_too_short_a_grace_is_refused(store: ObjectStore, grace: float) -> None:
    with pytest.raises(Terminal, match="too short"):
        gc(store, grace=grace)


def test_a_root_that_is_no_digest_is_refused(store: ObjectStore) -> None:
    with pytest.raises(Terminal, match="no digest"):
        gc(store, "latest")


def test_removing_a_repository_leaves_those_below_it(store: ObjectStore, later: None) -> None:
    OLD.publish(store, REPOSITORY, "latest", "v1")
    OLD.publish(store, f"{REPOSITORY}/below", "latest")
    removed = remove_repository(store, REPOSITORY)
    assert (removed.tags, removed.manifests, removed.links) == (2, 1, 3)
    assert list(store.list(f"{keys.repository_prefix(REPOSITORY)}_")) == []
    verify_image(store, f"{REPOSITORY}/below", OLD.digest)
    assert remove_repository(store, REPOSITORY) == type(removed)(0, 0, 0)


def test_single_tags_are_removed_and_the_image_stays(store: ObjectStore) -> None:
    OLD.publish(store, REPOSITORY, "web", "web-2", "stable")
    move_tag(store, REPOSITORY, "web", OLD.digest, asked_at=1)
    removed = remove_tags(store, REPOSITORY, ["web", "never-there"])
    assert (removed.tags, removed.manifests, removed.links) == (1, 0, 0)
    assert list(list_tags(store, REPOSITORY)) == ["stable", "web-2"]
    assert [key for key in everything(store) if key.startswith(keys.OWN)] == []
    verify_image(store, REPOSITORY, OLD.digest)


def test_links_that_a_build_has_just_written_survive_a_removal(store: ObjectStore) -> None:
    OLD.publish(store, REPOSITORY)
    assert remove_repository(store, REPOSITORY).links == 0
    OLD.publish(store, REPOSITORY)
    verify_image(store, REPOSITORY, OLD.digest)


def test_records_are_written_in_one_spelling(store: ObjectStore, tmp_path: Path) -> None:
    record = LayerRecord(
        diff_id="sha256:" + "1" * 64, digest=OLD.digest, size=1, media_type=LAYER_GZIP
    )
    save_layer(store, "team-a", HASH, record)
    content = store.read(keys.layer_record("team-a", HASH), limit=9999)
    assert content == canonical_json(record.to_json())
