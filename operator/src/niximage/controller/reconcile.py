"""The thin executor around `decide`: do what it asks, tell it what was seen, write its status.

One call of `reconcile` goes round until `decide` has nothing more to see or do. Nothing here
judges; what goes wrong on the way is an observation like any other.
"""

import asyncio
import datetime as dt
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from niximage.api.base import seconds
from niximage.api.build import BuildRequest
from niximage.api.status import NixImageStatus
from niximage.bucket.evaluations import find_evaluation
from niximage.bucket.known import find_image
from niximage.bucket.store import ObjectStore
from niximage.controller.answers import invalid
from niximage.controller.bases import find_base
from niximage.controller.cache import Cache, CachedImage, Key
from niximage.controller.client import Cluster, Conflict, NotThere
from niximage.controller.decide import decide
from niximage.controller.job import job_manifest
from niximage.controller.outcome import outcome
from niximage.controller.resolver import Resolver
from niximage.controller.settings import Settings
from niximage.controller.views import (
    Absent,
    CreateJob,
    DeleteJob,
    Effect,
    FindBase,
    FindPublished,
    JobState,
    JobView,
    Look,
    Observed,
    Published,
    ReadOutcome,
    Resolve,
)
from niximage.errors import NixImageError, Reason, Retryable

ROUNDS: Final = 12  # looks and effects of one pass; more is a bug that must not spin
BUCKET_TIMEOUT: Final = 60.0  # seconds of one look into the bucket

log = logging.getLogger(__name__)


def utc_now() -> dt.datetime:
    """The time, to the second, as the API writes it."""
    return dt.datetime.now(dt.UTC).replace(microsecond=0)


class Reconciler:
    """Brings one image at a time nearer to what its spec says."""

    def __init__(
        self,
        *,
        cache: Cache,
        cluster: Cluster,
        store: ObjectStore,
        resolver: Resolver,
        settings: Settings,
        clock: Callable[[], dt.datetime] = utc_now,
    ) -> None:
        self._cache = cache
        self._cluster = cluster
        self._store = store
        self._resolver = resolver
        self._settings = settings
        self._clock = clock

    async def reconcile(self, key: Key) -> float | None:
        """Look at an image, do what is due, write its status.

        Returns:
            Seconds until it is to be looked at again without an event, or None.

        Raises:
            Retryable: the API server refused the status; the image is to be looked at again.
        """
        cached = self._cache.image(key)
        if cached is None:
            return None
        observed = Observed(jobs=self._cache.jobs(key))
        for _ in range(ROUNDS):
            if cached.image is None:
                await self._write(key, cached, invalid(cached.problem, cached, self._clock()))
                return None
            decision = decide(cached.image, observed, self._clock(), self._settings)
            if decision.status is not None and not decision.effects:
                cached = await self._write(key, cached, decision.status)
                if cached is None or cached.image is None:
                    return None
            if not decision.looks and not decision.effects:
                return decision.requeue_after
            for look in decision.looks:
                observed = await self._look(look, cached, observed)
            for effect in decision.effects:
                observed = await self._perform(effect, cached, observed)
        log.error("%s/%s: no end after %d rounds", *key, ROUNDS)
        raise Retryable(Reason.INTERNAL_ERROR, f"{key[0]}/{key[1]} came to no end")

    async def _write(
        self, key: Key, cached: CachedImage, status: NixImageStatus
    ) -> CachedImage | None:
        """Write the status if it differs; returns the image as it is then, None if gone."""
        patch = status.merge_patch_from(cached.status)
        if not patch:
            return cached
        version = cached.metadata["resourceVersion"]
        body = {"metadata": {"resourceVersion": version}, "status": patch}
        try:
            written = CachedImage.from_json(await self._cluster.patch_status(*key, body))
        except NotThere:
            self._cache.drop_image(key, cached.metadata["uid"])
            return None
        self._cache.put_image(written)
        return written

    async def _look(self, look: Look, cached: CachedImage, observed: Observed) -> Observed:
        assert cached.image is not None
        spec = cached.image.spec
        match look:
            case Resolve():
                source = await self._resolver.resolve(spec.source, max_age=seconds(spec.interval))
                return replace(observed, source=source)
            case FindBase(name):
                metadata = cached.image.metadata
                found_base = find_base(self._cache, (metadata.namespace, metadata.name), name)
                return replace(observed, base=found_base)
            case FindPublished(input_hash):
                metadata = cached.image.metadata
                try:
                    async with asyncio.timeout(BUCKET_TIMEOUT):
                        found = await asyncio.to_thread(
                            find_published,
                            self._store,
                            metadata.namespace,
                            cached.image.repository,
                            input_hash,
                        )
                except TimeoutError:
                    slow = Retryable(
                        Reason.BUCKET_UNAVAILABLE,
                        f"{self._store.url} did not answer within {BUCKET_TIMEOUT:.0f} s",
                    )
                    return replace(observed, published=slow)
                except NixImageError as error:
                    return replace(observed, published=error)
                return replace(observed, published=found)
            case ReadOutcome(job):
                return await self._read_outcome(job, observed)

    async def _read_outcome(self, job: JobView, observed: Observed) -> Observed:
        try:
            said = outcome(job, await self._cluster.list_pods(job.namespace, job.name))
        except Retryable as error:
            return replace(observed, refused=error)
        return replace(observed, outcome=said)

    async def _perform(self, effect: Effect, cached: CachedImage, observed: Observed) -> Observed:
        try:
            match effect:
                case CreateJob():
                    job = await self._create(effect, cached)
                case DeleteJob(old):
                    log.info("deleting Job %s/%s (%s)", old.namespace, old.name, old.state.value)
                    await self._cluster.delete_job(old.namespace, old.name, old.uid)
                    job = replace(old, state=JobState.DELETING)
        except NixImageError as error:
            return replace(observed, refused=error)
        self._cache.put_job(job)
        others = tuple(j for j in observed.jobs if j.name != job.name)
        return replace(observed, jobs=(*others, job))

    async def _request(self, request: BuildRequest) -> BuildRequest:
        """The request, perhaps with what its packages were evaluated to before."""
        if not self._settings.substituters:
            return request  # it would be of no use
        try:
            async with asyncio.timeout(BUCKET_TIMEOUT):
                return await asyncio.to_thread(with_evaluation, self._store, request)
        except (TimeoutError, NixImageError):
            return request  # the build evaluates, and tells of the bucket if it must

    async def _create(self, create: CreateJob, cached: CachedImage) -> JobView:
        """Create the Job, or adopt the one of that name, whoever asked for it first."""
        assert cached.image is not None
        create = replace(create, request=await self._request(create.request))
        manifest = job_manifest(cached.image, create, self._settings)
        namespace = cached.image.metadata.namespace
        try:
            created = await self._cluster.create_job(manifest)
            log.info("created Job %s/%s, attempt %d", namespace, create.name, create.attempt)
            return JobView.from_json(created)
        except Conflict:
            found = await self._cluster.get_job(namespace, create.name)
            if found is None:  # it went away in between: the next pass creates it
                raise
            log.info("adopted Job %s/%s", namespace, create.name)
            return JobView.from_json(found)


def find_published(
    store: ObjectStore, namespace: str, repository: str, input_hash: str
) -> Published | Absent:
    """Look for the image of some inputs: it counts only if the whole of it is there.

    One that the bucket has under another name of the namespace gets this one too.

    Raises:
        NixImageError: the bucket does not answer.
    """
    record = find_image(store, namespace, repository, input_hash)
    if record is None:
        return Absent.ABSENT
    return Published(
        digest=record.digest,
        layers=record.layers,
        size=record.size,
        reused_layers=record.reused_layers,
        reused_size=record.reused_size,
    )


def with_evaluation(store: ObjectStore, request: BuildRequest) -> BuildRequest:
    """The request with what its packages were evaluated to before, where that is known and fits.

    Raises:
        NixImageError: the bucket does not answer.
    """
    whole = request.model_copy(update={"known": find_evaluation(store, request)})
    return whole if whole.fits_variable else request
