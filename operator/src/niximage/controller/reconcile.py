"""The thin executor around `decide`: do what it asks, tell it what was seen, write its status.

One call of `reconcile` goes round until `decide` has nothing more to see or do. Nothing here
judges; what goes wrong on the way is an observation like any other.
"""

import asyncio
import contextlib
import datetime as dt
import logging
import platform
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

from niximage.api.build_class import NixBuildClass
from niximage.api.image import FINALIZER, NixImage
from niximage.api.status import NixImageStatus
from niximage.bucket.remove import Removed
from niximage.controller.builds.job import job_manifest
from niximage.controller.cache import Cache
from niximage.controller.cluster.client import Cluster
from niximage.controller.cluster.connection import Conflict, NotThere, Refused
from niximage.controller.decision.answers import invalid
from niximage.controller.decision.case import Decision
from niximage.controller.decision.classes import denied, find_class, with_class, without_data
from niximage.controller.decision.decide import decide
from niximage.controller.decision.removal import let_go
from niximage.controller.events import Happened, event_manifest, happened, removed
from niximage.controller.job_view import JobState, JobView
from niximage.controller.looks import Looks
from niximage.controller.metrics import Metrics
from niximage.controller.settings import Settings
from niximage.controller.steps import CreateJob, DeleteJob, Effect, SetFinalizers
from niximage.controller.stored import CachedImage, Key
from niximage.controller.views import ClassWanting, Observed
from niximage.errors import NixImageError, Reason, Retryable, Terminal, plain_text

HOST: Final = platform.node()
ROUNDS: Final = 12  # looks and effects of one pass; more is a bug that must not spin
SOON: Final = 1.0  # seconds; a status that is overwritten within them is not worth a write

LOGGED: Final = 500  # bytes of what went wrong

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
        looks: Looks,
        settings: Settings,
        metrics: Metrics,
        announce: Callable[[dict[str, Any]], None],
        clock: Callable[[], dt.datetime] = utc_now,
        spread: Callable[[float], float] = lambda delay: delay,
    ) -> None:
        """Nothing is looked at yet.

        Args:
            cache: what is known of images, Jobs and classes.
            cluster: the API server.
            looks: the places to look at.
            settings: the operator's.
            metrics: where its figures go.
            announce: has an Event written; never blocks.
            clock: the time, in UTC.
            spread: makes a delay a little longer, so that images applied together do not stay
                together.
        """
        self._cache = cache
        self._cluster = cluster
        self._looks = looks
        self._settings = settings
        self._metrics = metrics
        self._announce = announce
        self._clock = clock
        self._spread = spread

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
        observed = Observed(jobs=self._cache.jobs(key), sharers=self._cache.sharers(key))
        for _ in range(ROUNDS):
            if cached.image is None:
                await self._not_understood(key, cached)
                return None
            policy, settings = self._policy(cached.image)
            observed = replace(observed, policy=policy)
            decision = decide(cached.image, observed, self._clock(), settings)
            if not decision.looks and not decision.effects:
                if decision.status is not None:
                    await self._write(key, cached, decision.status)
                return self._next_look(decision)
            if decision.looks:
                cached, observed = await self._look(cached, observed, decision, settings)
                if cached is None:
                    return None
            for effect in decision.effects:
                observed = await self._perform(effect, cached, observed, settings)
            if decision.ends_pass and observed.refused is None:
                return 0.0
        log.error("%s/%s: no end after %d rounds", *key, ROUNDS)
        raise Retryable(Reason.INTERNAL_ERROR, f"{key[0]}/{key[1]} came to no end")

    def _next_look(self, decision: Decision) -> float | None:
        if decision.requeue_after is None:
            return decision.poll_after
        return self._spread(decision.requeue_after)

    def _policy(self, image: NixImage) -> tuple[ClassWanting | NixImageError | None, Settings]:
        """What stands against a build of the image, and the settings that its class gives it."""
        found = find_class(image.spec.build.class_name, self._cache.classes())
        match found:
            case ClassWanting():
                return found, self._settings
            case NixBuildClass():
                settings = with_class(self._settings, found)
                return denied(image, found) or without_data(image, settings), settings
            case None:
                return without_data(image, self._settings), self._settings

    async def _look(
        self, cached: CachedImage, observed: Observed, decision: Decision, settings: Settings
    ) -> tuple[CachedImage | None, Observed]:
        """Take a decision's looks; meanwhile, if that lasts, write its status.

        Returns:
            The image as it is then, None if gone, and what is known.
        """
        assert cached.image is not None
        key = (cached.image.metadata.namespace, cached.image.metadata.name)
        now: CachedImage | None = cached
        for look in decision.looks:
            looking = asyncio.create_task(self._looks.look(look, cached, observed, settings))
            try:
                if decision.status is not None and not await _ends_soon(looking):
                    now = await self._write(key, cached, decision.status)
                    if now is None:
                        return None, observed
                observed = await looking
            finally:
                looking.cancel()
        return now, observed

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
        if cached.image is not None:
            self._tell(cached.image, status)
        return written

    def _tell(self, image: NixImage, after: NixImageStatus) -> None:
        """Count what changed, and make Events of it."""
        self._metrics.changed(image.status, after)
        events = happened(image.status, after)
        for event in events:
            self._event(image, after, event)
        warnings = [event for event in events if event.type == "Warning"]
        if warnings:  # several are of one cause, and the last says what follows
            namespace, name = image.metadata.namespace, image.metadata.name
            words = plain_text(" ".join(warnings[-1].note.split()), LOGGED)
            about = {"namespace": namespace, "image": name}
            log.warning("%s/%s: %s: %s", namespace, name, warnings[-1].reason, words, extra=about)

    def _event(self, image: NixImage, after: NixImageStatus, event: Happened) -> None:
        self._announce(event_manifest(image, after, event, dt.datetime.now(dt.UTC), HOST))

    async def _perform(
        self, effect: Effect, cached: CachedImage, observed: Observed, settings: Settings
    ) -> Observed:
        try:
            match effect:
                case SetFinalizers(finalizers):
                    await self._set_finalizers(cached, finalizers)
                    if cached.image is not None and isinstance(observed.removed, Removed):
                        event = removed(cached.image.repository, observed.removed)
                        self._event(cached.image, cached.image.status, event)
                    return observed
                case CreateJob():
                    job = await self._create(effect, cached, settings)
                case DeleteJob(old):
                    about = {"namespace": old.namespace, "image": old.image, "job": old.name}
                    words = "deleting Job %s/%s (%s)"
                    log.info(words, old.namespace, old.name, old.state.value, extra=about)
                    await self._cluster.delete_job(old.namespace, old.name, old.uid)
                    job = replace(old, state=JobState.DELETING)
        except Conflict as error:
            if isinstance(effect, SetFinalizers):
                raise  # somebody wrote in between; the event is on its way
            return replace(observed, refused=error)
        except NixImageError as error:
            return replace(observed, refused=error)
        self._cache.put_job(job)
        others = tuple(j for j in observed.jobs if j.name != job.name)
        return replace(observed, jobs=(*others, job))

    async def _set_finalizers(self, cached: CachedImage, finalizers: Sequence[str]) -> None:
        namespace, name = cached.metadata["namespace"], cached.metadata["name"]
        words = "finalizers of %s/%s: %s"
        about = {"namespace": namespace, "image": name}
        log.info(words, namespace, name, ", ".join(finalizers) or "none", extra=about)
        version = cached.metadata["resourceVersion"]
        patch = {"metadata": {"resourceVersion": version, "finalizers": list(finalizers)}}
        with contextlib.suppress(NotThere):
            written = await self._cluster.patch_image(namespace, name, patch)
            self._cache.put_image(CachedImage.from_json(written))

    async def _not_understood(self, key: Key, cached: CachedImage) -> None:
        """Say what is wrong with a stored spec; an image that is being deleted is let go."""
        finalizers = cached.metadata.get("finalizers") or []
        if "deletionTimestamp" in cached.metadata and FINALIZER in finalizers:
            log.warning("%s/%s has no valid spec: its repository is left as it is", *key)
            await self._set_finalizers(cached, let_go(finalizers).finalizers)
            return
        await self._write(key, cached, invalid(cached.problem, cached, self._clock()))

    async def _create(self, create: CreateJob, cached: CachedImage, settings: Settings) -> JobView:
        """Create the Job, or adopt the one of that name, whoever asked for it first."""
        assert cached.image is not None
        create = replace(create, request=await self._looks.known(create.request, settings))
        manifest = job_manifest(cached.image, create, settings)
        namespace = cached.image.metadata.namespace
        try:
            created = await self._cluster.create_job(manifest)
            about = {
                "namespace": namespace,
                "image": cached.image.metadata.name,
                "job": create.name,
                "input_hash": create.request.input_hash,
            }
            words = "created Job %s/%s, attempt %d"
            log.info(words, namespace, create.name, create.attempt, extra=about)
            return JobView.from_json(created)
        except Conflict:
            found = await self._cluster.get_job(namespace, create.name)
            if found is None:  # it went away in between: the next pass creates it
                raise
            log.info("adopted Job %s/%s", namespace, create.name)
            return JobView.from_json(found)
        except Refused as error:
            raise Terminal(
                Reason.INVALID_SPEC,
                f"the build's Job is refused: {error.message}",
                hint="Change what spec.build, or its NixBuildClass, says of pods",
            ) from None


async def _ends_soon(task: "asyncio.Task[Observed]") -> bool:
    """Wait a little for a look."""
    done, _ = await asyncio.wait({task}, timeout=SOON)
    return bool(done)
