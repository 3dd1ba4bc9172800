"""The watch's ears, the queue and its workers: what the operator does while it acts."""

import asyncio
import logging
import random
import time
from typing import Any, Final

import pydantic

from niximage.api.build_class import CLASS_PLURAL, NixBuildClass
from niximage.api.image import PLURAL, explain
from niximage.api.source import Source
from niximage.bucket.store import ObjectStore
from niximage.controller.bucket_looks import BucketLooks
from niximage.controller.builds.progress import ProgressReader
from niximage.controller.builds.turns import Turns
from niximage.controller.cache import Cache
from niximage.controller.cluster.announcer import Announcer
from niximage.controller.cluster.client import ApiServer
from niximage.controller.cluster.config_map import ConfigMaps
from niximage.controller.cluster.connection import Conflict
from niximage.controller.health import Health
from niximage.controller.job_view import JobView
from niximage.controller.looks import Looks
from niximage.controller.metrics import Metrics
from niximage.controller.queue import KeyedQueue
from niximage.controller.reconcile import Reconciler
from niximage.controller.settings import Settings
from niximage.controller.sources.due import Question
from niximage.controller.sources.origins import Origins
from niximage.controller.sources.resolver import Resolver
from niximage.controller.stored import Key, StoredImage
from niximage.errors import NixImageError, Retryable
from niximage.source.flux import PLURALS

PASS_TIMEOUT: Final = 300.0  # seconds of one pass over one image
JITTER: Final = 0.05  # of a delay, so that images applied together do not stay together

log = logging.getLogger(__name__)


class Operator:
    """The watch's ears, the queue and its workers."""

    def __init__(
        self,
        cluster: ApiServer,
        store: ObjectStore,
        settings: Settings,
        *,
        metrics: Metrics,
        health: Health,
        acted_until: float | None = None,
    ) -> None:
        """Nothing is known yet.

        Args:
            cluster: the API server.
            store: the bucket.
            settings: how it is set up.
            metrics: where its figures go.
            health: learns how it is.
            acted_until: when the operator before this one was at work last, in seconds since
                1970; None: it is not known to have paused.
        """
        self._cluster = cluster
        self._metrics = metrics
        self._health = health
        self._settings = settings
        self._cache = Cache()
        self._queue: KeyedQueue[Key] = KeyedQueue(
            is_urgent=lambda key: not self._cache.is_answered(key)
        )
        self._turns = Turns(time.monotonic)
        self._announcer = Announcer(cluster)
        origins = Origins(cluster, told=lambda reason: metrics.resolves.labels(reason).inc())
        self._resolver = Resolver(
            origins.pin, retry_delay=settings.retry_delay, acted_until=acted_until
        )
        looks = Looks(
            cache=self._cache,
            cluster=cluster,
            bucket=BucketLooks(store),
            resolver=self._resolver,
            turns=self._turns,
            progress=ProgressReader(cluster),
            config_maps=ConfigMaps(cluster),
        )
        self._reconciler = Reconciler(
            cache=self._cache,
            cluster=cluster,
            looks=looks,
            settings=settings,
            metrics=metrics,
            announce=self._announcer.add,
            spread=spread,
        )
        metrics.watch(self._cache, lambda: len(self._queue), lambda: len(self._turns))

    def seen(self, plural: str, event: dict[str, Any]) -> None:
        """Learn of one watch event, and have its image looked at. Neither blocks nor raises."""
        try:
            gone = event["type"] == "DELETED"
            body = event["object"]
            if plural == CLASS_PLURAL:
                self._class_seen(body, gone=gone)
                return
            if plural == PLURAL:
                key = (body["metadata"]["namespace"], body["metadata"]["name"])
                for above in self._cache.based_on(key):
                    self._queue.add(above)  # of a write of ours, too: they learn of it here only
                if gone:
                    self._cache.drop_image(key, body["metadata"]["uid"])
                elif not self._cache.put_image(StoredImage.from_json(body)):
                    return  # the echo of a write of ours, or of a list
            else:
                job = JobView.from_json(body)
                key = (job.namespace, job.image)
                if gone:
                    self._cache.drop_job(job)
                elif not self._cache.put_job(job):
                    return
                self._wake()
            self._queue.add(key)
        except Exception:
            log.exception("an event that was not understood: %s", event.get("type"))

    def _wake(self) -> None:
        """Have the images looked at whose turn to build may have come."""
        for key in self._turns.due(self._cache.all_jobs()):
            self._queue.add(key)

    def _class_seen(self, body: dict[str, Any], *, gone: bool) -> None:
        """Learn of a class, and have its images looked at."""
        found = None if gone else _class(body)
        name = body["metadata"]["name"]
        keys = self._cache.drop_class(name) if found is None else self._cache.put_class(found)
        for key in keys:
            self._queue.add(key)

    def flux_seen(self, plural: str, namespace: str, name: str) -> None:
        """Learn that an object of Flux is new, changed or gone: it is asked anew."""
        kind = next(kind for kind, plurals in PLURALS.items() if plurals == plural)
        keys = self._cache.following(namespace, f"{kind}/{name}")
        if keys:
            source = Source.model_validate({"sourceRef": {"kind": kind, "name": name}})
            self._resolver.forget(Question(source, namespace, ""))
        for key in keys:
            self._queue.add(key)

    def flux_served(self, plural: str) -> None:
        """Learn that a kind of Flux came or went: all images that follow one are looked at."""
        for namespace, followed in self._cache.followed():
            kind, _, name = followed.partition("/")
            if PLURALS.get(kind) == plural:
                self.flux_seen(plural, namespace, name)

    async def list_all(self) -> None:
        """Replace the cache by full lists, and have every image looked at.

        Raises:
            Retryable: the API server does not answer.
        """
        self._cache.begin_list()
        # Classes belong to no namespace: who may look into some only knows of none.
        bodies = [] if self._settings.namespaces else await self._cluster.list_classes()
        classes = [found for body in bodies if (found := _class(body)) is not None]
        images = await self._cluster.list_images(StoredImage.from_json)
        jobs = await self._cluster.list_jobs(JobView.from_json)
        changed = self._cache.finish_list(images, jobs, classes)
        for key in sorted(changed):
            self._queue.add(key)
        self._wake()
        self._health.was_listed()
        self._metrics.listed.set_to_current_time()
        log.info("listed %d images and %d Jobs", len(images), len(jobs))

    async def resync(self) -> None:
        """List all again now and then: it repairs what the watch missed."""
        while True:
            await asyncio.sleep(spread(self._settings.resync_interval))
            try:
                await self.list_all()
            except NixImageError as error:
                log.warning("the full list failed, and is tried again: %s", error)

    async def announce(self) -> None:
        """Write Events, for ever."""
        await self._announcer.run()

    async def work(self) -> None:
        """Take keys and reconcile them, for ever."""
        while True:
            key = await self._queue.get()
            began, result = time.monotonic(), "done"
            try:
                async with asyncio.timeout(PASS_TIMEOUT):
                    delay = await self._reconciler.reconcile(key)
                self._queue.forget(key)
                if delay is not None:
                    self._queue.add_after(key, delay)
            except Conflict:
                result = "conflict"
                self._queue.add_failed(key)  # somebody wrote in between; the event is on its way
            except NixImageError as error:
                result = "refused"
                after = error.retry_after if isinstance(error, Retryable) else 0.0
                delay = self._queue.add_failed(key, at_least=after)
                log.warning("%s/%s: %s; again in %.1f s", *key, error, delay)
            except TimeoutError:
                result = "timeout"
                delay = self._queue.add_failed(key)
                log.warning("%s/%s took more than %d s", *key, PASS_TIMEOUT)
            except Exception:
                result = "bug"
                delay = self._queue.add_failed(key)
                log.exception("%s/%s: a bug; again in %.1f s", *key, delay)
            finally:
                self._metrics.passes.labels(result).observe(time.monotonic() - began)
                if self._turns.settle(key):
                    self._wake()
                self._queue.done(key)


def _class(body: dict[str, Any]) -> NixBuildClass | None:
    """A class as the API server gives it, or None for one of another time."""
    try:
        return NixBuildClass.model_validate(body)
    except pydantic.ValidationError as error:
        name = body["metadata"]["name"]
        log.warning("the NixBuildClass %s is not valid: %s", name, explain(error))
        return None


def spread(delay: float) -> float:
    """A delay, a little longer, so that images applied together do not stay together."""
    return delay * (1 + JITTER * random.random())  # noqa: S311 (no secret hangs on it)
