"""What `decide` asks to see: each look goes to one place, and an error is an answer, too."""

import asyncio
from dataclasses import replace
from typing import Final

from niximage.api.base import seconds
from niximage.bucket.images import read_manifest
from niximage.bucket.publish import publish_manifest
from niximage.bucket.records import find_build
from niximage.bucket.store import ObjectStore
from niximage.controller.bases import find_base
from niximage.controller.cache import Cache, CachedImage
from niximage.controller.client import Cluster
from niximage.controller.outcome import outcome
from niximage.controller.progress import ProgressReader
from niximage.controller.resolver import Resolver
from niximage.controller.settings import Settings
from niximage.controller.turns import Ask, Caps, Turns
from niximage.controller.views import (
    Absent,
    FindBase,
    FindPublished,
    JobView,
    Look,
    Observed,
    Published,
    ReadOutcome,
    ReadProgress,
    Resolve,
    TakeTurn,
)
from niximage.errors import NixImageError, Reason, Retryable

BUCKET_TIMEOUT: Final = 60.0  # seconds of one look into the bucket
_NO_CAP: Final = 1 << 30


class Looks:
    """The places to look at."""

    def __init__(
        self,
        *,
        cache: Cache,
        cluster: Cluster,
        store: ObjectStore,
        resolver: Resolver,
        turns: Turns,
        progress: ProgressReader,
    ) -> None:
        self._cache = cache
        self._cluster = cluster
        self._store = store
        self._resolver = resolver
        self._turns = turns
        self._progress = progress

    async def look(
        self, look: Look, cached: CachedImage, observed: Observed, settings: Settings
    ) -> Observed:
        """What is known once a look is taken.

        Args:
            look: what to see.
            cached: the image, which was understood.
            observed: what is known so far.
            settings: the operator's, with what the image's class says.
        """
        assert cached.image is not None
        image = cached.image
        key = (image.metadata.namespace, image.metadata.name)
        match look:
            case Resolve(fresh):
                source = await self._resolver.resolve(
                    image.spec.source,
                    nixpkgs_url=settings.nixpkgs_url,
                    max_age=0 if fresh else seconds(image.spec.interval),
                )
                return replace(observed, source=source)
            case FindBase(name):
                return replace(observed, base=find_base(self._cache, key, name))
            case FindPublished(input_hash):
                found = await self._published(key[0], image.repository, input_hash)
                return replace(observed, published=found)
            case ReadOutcome(job):
                return await self._outcome(job, observed)
            case ReadProgress(job):
                return replace(observed, progress=await self._progress.read(job))
            case TakeTurn():
                ask = _ask(look, cached, settings, self._turns.now)
                return replace(observed, turn=self._turns.take(ask, self._cache.all_jobs()))

    async def _published(
        self, namespace: str, repository: str, input_hash: str
    ) -> Published | Absent | NixImageError:
        try:
            async with asyncio.timeout(BUCKET_TIMEOUT):
                return await asyncio.to_thread(
                    find_published, self._store, namespace, repository, input_hash
                )
        except TimeoutError:
            return Retryable(
                Reason.BUCKET_UNAVAILABLE,
                f"{self._store.url} did not answer within {BUCKET_TIMEOUT:.0f} s",
            )
        except NixImageError as error:
            return error

    async def _outcome(self, job: JobView, observed: Observed) -> Observed:
        try:
            said = outcome(job, await self._cluster.list_pods(job.namespace, job.name))
        except Retryable as error:
            return replace(observed, refused=error)
        return replace(observed, outcome=said)


def _ask(look: TakeTurn, cached: CachedImage, settings: Settings, now: float) -> Ask:
    """The request for a turn, with the caps that hold for the image."""
    assert cached.image is not None
    image, build_class = cached.image, settings.build_class
    caps = Caps(total=settings.max_builds, namespace=settings.max_builds_per_namespace)
    if build_class is not None:
        caps = replace(
            caps,
            of_class=build_class.spec.max_builds,
            class_namespace=build_class.spec.max_builds_per_namespace,
        )
    if image.spec.build.queue_name:
        caps = Caps(total=_NO_CAP, namespace=_NO_CAP)  # Kueue decides when it starts
    return Ask(
        key=(image.metadata.namespace, image.metadata.name),
        input_hash=look.input_hash,
        build_class=build_class.metadata.name[:63] if build_class is not None else "",
        caps=caps,
        urgency=look.urgency,
        since=now,
    )


def find_published(
    store: ObjectStore, namespace: str, repository: str, input_hash: str
) -> Published | Absent:
    """Look for the image of some inputs: its record counts only if the whole image is there.

    An image that another NixImage of the namespace has built is published here, too: that
    writes links, no blobs.

    Raises:
        NixImageError: the bucket does not answer.
    """
    record = find_build(store, namespace, input_hash)
    if record is None:
        return Absent.ABSENT
    if record.repository != repository:
        manifest = read_manifest(store, record.repository, record.digest)
        if manifest is None:
            return Absent.ABSENT
        publish_manifest(store, repository, manifest, tags=[input_hash])
    return Published(
        digest=record.digest,
        layers=record.layers,
        size=record.size,
        reused_layers=record.reused_layers,
        reused_size=record.reused_size,
    )
