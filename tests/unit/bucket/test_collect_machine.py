"""Builds, pulls, retags, removals and collections in any order, and dying anywhere.

Nothing that can be seen is ever partial, and nothing that a status or a tag names is lost.
"""

import json
from collections.abc import Iterator
from itertools import cycle
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from integration.tiny import artifact, tiny_image
from niximage.bucket import ObjectStore, hold, keys, threads
from niximage.bucket.collect import collect
from niximage.bucket.leases import leased
from niximage.bucket.publish import publish_manifest
from niximage.bucket.records import BuildRecord, find_build, save_build
from niximage.bucket.referrers import add_referrers
from niximage.bucket.remove import remove_repository
from niximage.errors import Retryable
from niximage.image.descriptor import MANIFEST, Descriptor
from support.interleaving import Killed, Program, interleave
from support.memory_store import START, MemoryStore
from support.stores import Hooked

HOUR = 3600.0
REPOSITORIES = ("team-a/one", "team-b/two")
IMAGES = [tiny_image(b"shared", f"layer {n}".encode()) for n in range(3)]
HASHES = [f"{n:064x}" for n in range(3)]  # one build for each image
TAGS = ("latest", "v1")
ARTIFACT = "application/vnd.test"


def broken(store: MemoryStore, torn: set[str]) -> list[str]:
    """What can be seen and cannot be pulled; in torn repositories an index may lose members."""
    problems = []
    for key in store.objects:
        repository, found, rest = key.removeprefix(f"{keys.ROOT}repositories/").partition(
            "/_manifests/revisions/sha256/"
        )
        if found:
            digest = f"sha256:{rest.removesuffix('/link')}"
            problems += [
                f"{key} without {each}" for each in _lacks(store, repository, digest, torn)
            ]
    return problems


def _lacks(store: MemoryStore, repository: str, digest: str, torn: set[str]) -> Iterator[str]:
    if keys.blob(digest) not in store.objects:
        yield keys.blob(digest)
        return
    manifest = json.loads(store.objects[keys.blob(digest)][0])
    for blob in [manifest["config"], *manifest["layers"]] if "layers" in manifest else ():
        for key in (keys.blob(blob["digest"]), keys.layer_link(repository, blob["digest"])):
            if key not in store.objects:
                yield key
    for member in manifest.get("manifests", ()) if repository not in torn else ():
        if keys.revision_link(repository, member["digest"]) not in store.objects:
            yield member["digest"]


class Bucket(RuleBasedStateMachine):
    """A bucket, and what the world outside believes to be in it."""

    def __init__(self) -> None:
        super().__init__()
        self.store = MemoryStore()
        self.statuses: dict[str, list[int]] = {each: [] for each in REPOSITORIES}
        self.removing: set[str] = set()
        self.removed: set[str] = set()
        self.torn: set[str] = set()  # a build went on while they were removed
        self.patch = pytest.MonkeyPatch()

    @initialize()
    def start(self) -> None:
        self.patch.setattr(threads, "WORKERS", 1)
        self.patch.setattr(hold, "now", lambda: self.store.now)

    def teardown(self) -> None:
        self.patch.undo()

    def build(self, repository: str, number: int, tag: str | None) -> Program:
        """A build Job, and then the operator, which believes it."""
        image, namespace = IMAGES[number], repository.partition("/")[0]
        record = BuildRecord(
            digest=image.digest,
            size=1,
            repository=repository,
            layers=2,
            reused_layers=0,
            reused_size=0,
            revision="c" * 40,
        )

        def run(store: ObjectStore) -> None:
            if find_build(store, namespace, HASHES[number]) is None or tag is not None:
                with leased(store, namespace):
                    image.upload(store)
                    tags = [HASHES[number], *([tag] if tag is not None else [])]
                    publish_manifest(
                        store, repository, image.manifest, tags=tags, asked_at=int(self.store.now)
                    )
                    save_build(store, namespace, HASHES[number], record)
            self.statuses[repository] = [number, *self.statuses[repository][:1]]

        return run

    def attach(self, repository: str, number: int) -> Program:
        """An artifact about an image."""
        subject = Descriptor.of(MANIFEST, IMAGES[number].manifest)

        def run(store: ObjectStore) -> None:
            with leased(store, repository.partition("/")[0]):
                manifest = artifact(store, subject, b"sbom", ARTIFACT)
                add_referrers(store, repository, [manifest])

        return run

    def collection(self, grace: float) -> Program:
        """What the command does: roots first, then the rest."""

        def run(store: ObjectStore) -> None:
            store.stat("begins")  # a call, so that it may begin when others are under way
            numbers = {n for each in self.statuses.values() for n in each}
            collect(store, [IMAGES[n].digest for n in numbers], grace=grace)

        return run

    def removal(self, repository: str) -> Program:
        """A NixImage is deleted, and its repository with it."""

        def run(store: ObjectStore) -> None:
            self.removing.add(repository)
            self.torn.add(repository)
            remove_repository(store, repository)
            self.removed.add(repository)

        return run

    programs = st.one_of(
        st.tuples(
            st.just("build"),
            st.sampled_from(REPOSITORIES),
            st.integers(0, 2),
            st.sampled_from([None, *TAGS]),
        ),
        st.tuples(st.just("attach"), st.sampled_from(REPOSITORIES), st.integers(0, 2)),
        st.tuples(st.just("removal"), st.sampled_from(REPOSITORIES)),
        st.tuples(st.just("collection"), st.sampled_from([HOUR, 6 * HOUR])),
    )

    @rule(
        chosen=st.lists(programs, min_size=1, max_size=3),
        deaths=st.lists(st.none() | st.integers(0, 60), max_size=3),
        turns=st.lists(st.tuples(st.integers(0, 2), st.integers(1, 40)), min_size=1, max_size=12),
        pace=st.sampled_from([0.0, 1.0, 600.0, HOUR]),
    )
    def together(
        self,
        chosen: list[tuple[Any, ...]],
        deaths: list[int | None],
        turns: list[tuple[int, int]],
        pace: float,
    ) -> None:
        """Some of them at the same time, slow or quick, and some die."""
        made: list[Program] = [getattr(self, name)(*arguments) for name, *arguments in chosen]
        # A collection never makes a build fail; a removal may take the image that it needs.
        fails = any(name == "removal" for name, *_ in chosen)
        self._run(made, deaths[: len(made)], turns, pace, fails=fails)

    @rule(repository=st.sampled_from(REPOSITORIES), death=st.none() | st.integers(0, 20))
    def remove(self, repository: str, death: int | None) -> None:
        self._run([self.removal(repository)], [death], [(0, 1)], 0.0)
        if death is None:
            self.torn.discard(repository)

    @rule(hours=st.sampled_from([0.1, 0.5, 2.0, 30.0]))
    def wait(self, hours: float) -> None:
        self.store.now += hours * HOUR

    @rule(repository=st.sampled_from(REPOSITORIES))
    def forget(self, repository: str) -> None:
        """A NixImage is deleted, and its images stay until they are collected."""
        self.statuses[repository] = []

    def _run(
        self,
        made: list[Program],
        deaths: list[int | None],
        turns: list[tuple[int, int]],
        pace: float,
        *,
        fails: bool = False,
    ) -> None:
        # Each turn: which of those that run, and how many calls it makes in a row.
        order = cycle(which for which, calls in turns for _ in range(calls))
        running = self.store.now

        def choose(_count: int) -> int:
            # Longer than a lease no build takes: time stands still then.
            if self.store.now - running < 20 * HOUR:
                self.store.now += pace
            return next(order)

        ended = interleave(self.store, made, choose, dies_at=deaths, between=self.whole)
        # A NixImage that is being deleted has no status, whatever was built meanwhile.
        for repository in self.removing:
            self.statuses[repository] = []
        self.removing -= self.removed
        self.removed.clear()
        for error in ended:
            if isinstance(error, Killed) or (fails and isinstance(error, Retryable)):
                continue
            if error is not None:
                raise error

    @invariant()
    def whole(self) -> None:
        assert broken(self.store, self.torn) == []
        for repository, numbers in self.statuses.items():
            for number in numbers if repository not in self.removing else ():
                link = keys.revision_link(repository, IMAGES[number].digest)
                assert link in self.store.objects, f"lost {repository} {number}"

    @invariant()
    def tags_lead_to_images(self) -> None:
        for key, (content, _) in self.store.objects.items():
            repository, found, rest = key.removeprefix(f"{keys.ROOT}repositories/").partition(
                "/_manifests/tags/"
            )
            if found and rest.endswith("/current/link") and repository not in self.torn:
                assert keys.revision_link(repository, content.decode()) in self.store.objects, key


SETTINGS = settings(
    max_examples=100,
    stateful_step_count=20,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


def test_any_interleaving_keeps_what_is_seen_whole() -> None:
    run_state_machine_as_test(Bucket, settings=SETTINGS)


@pytest.mark.parametrize("cleaner", ["collection", "removal"])
def test_a_slow_build_that_ends_during_the_listing_loses_nothing(
    cleaner: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "WORKERS", 1)
    store, repository, image = MemoryStore(), REPOSITORIES[0], IMAGES[0]
    monkeypatch.setattr(hold, "now", lambda: store.now)
    next_call = {"build": "", "cleaner": ""}
    waits = {
        "build": f"create {keys.revision_link(repository, image.digest)}",
        "cleaner": {
            "collection": f"list {keys.OWN}",
            "removal": f"list {keys.tag_records_prefix(repository)}",
        }[cleaner],
    }

    def noted(who: str, store: ObjectStore) -> ObjectStore:
        def note(verb: str, key: str) -> None:
            next_call[who] = f"{verb} {key}"

        return Hooked(store, note)

    def build(store: ObjectStore) -> None:
        with leased(store, "team-a"):
            image.publish(noted("build", store), repository)

    def clean(store: ObjectStore) -> None:
        store.stat("begins")  # a call, so that it begins when the build is under way
        if cleaner == "collection":
            collect(noted("cleaner", store), [], grace=HOUR)
        else:
            remove_repository(noted("cleaner", store), repository)

    def choose(running: int) -> int:
        # The build up to its commit; three hours; the cleaner halfway; the build; the cleaner.
        if running == 1 or next_call["build"] != waits["build"]:
            return 0
        store.now = max(store.now, START + 3 * HOUR)
        return 0 if next_call["cleaner"] == waits["cleaner"] else 1

    assert interleave(store, [build, clean], choose) == [None, None]
    assert keys.revision_link(repository, image.digest) in store.objects
    assert broken(store, set()) == []
