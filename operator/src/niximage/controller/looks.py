"""What `decide` asks to see: each look goes to one place, and an error is an answer, too."""

import asyncio
import time
from dataclasses import replace
from typing import Final

from niximage.api.base import seconds
from niximage.api.build import BuildRequest, PinnedSource
from niximage.api.image import NixImage
from niximage.bucket.evaluations import find_evaluation
from niximage.bucket.images import read_manifest
from niximage.bucket.known import find_image
from niximage.bucket.publish import publish_manifest
from niximage.bucket.remove import Removed, remove_repository, remove_tags
from niximage.bucket.store import ObjectStore
from niximage.bucket.tags import move_tag
from niximage.controller.bases import find_base
from niximage.controller.builds.build_log import keep_log
from niximage.controller.builds.job import class_label
from niximage.controller.builds.outcome import newest, outcome
from niximage.controller.builds.progress import ProgressReader
from niximage.controller.builds.turns import Ask, Caps, Turns, with_trouble
from niximage.controller.cache import Cache
from niximage.controller.cluster.client import Cluster
from niximage.controller.cluster.config_map import ConfigMaps
from niximage.controller.decision.classes import denied_artifact
from niximage.controller.job_view import LOST, PENDING, JobView
from niximage.controller.settings import Settings
from niximage.controller.sources.due import Question, told_before
from niximage.controller.sources.resolver import Resolver
from niximage.controller.steps import (
    FindBase,
    FindJob,
    FindPublished,
    HideImage,
    Look,
    MoveTags,
    ReadOutcome,
    ReadProgress,
    RemoveRepository,
    Resolve,
    ShowImage,
    TakeTurn,
)
from niximage.controller.stored import CachedImage
from niximage.controller.views import Absent, Observed, Published, Queued
from niximage.errors import NixImageError, Reason, Retryable

BUCKET_TIMEOUT: Final = 60.0  # seconds of one look into the bucket
REMOVE_TIMEOUT: Final = 240.0  # seconds of one attempt to remove a repository
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
        config_maps: ConfigMaps,
    ) -> None:
        self._cache = cache
        self._cluster = cluster
        self._store = store
        self._resolver = resolver
        self._turns = turns
        self._progress = progress
        self._config_maps = config_maps

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
                source = await self._resolved(image, settings, fresh=fresh)
                return replace(observed, source=source)
            case FindBase(name):
                return replace(observed, base=find_base(self._cache, key, name))
            case TakeTurn():
                ask = _ask(look, cached, settings, self._turns.now)
                turn = self._turns.take(ask, self._cache.all_jobs())
                if isinstance(turn, Queued):
                    turn = with_trouble(turn, self._troubles(turn))
                return replace(observed, turn=turn)
            case FindPublished(input_hash):
                found = await self._published(key[0], image.repository, input_hash)
                return replace(observed, published=found)
            case MoveTags():
                return replace(observed, tagged=await self._move_tags(look, image.repository))
            case RemoveRepository():
                return replace(observed, removed=await self._remove(look))
            case ShowImage() | HideImage():
                return replace(observed, shown=await self._config_map(look, image))
            case FindJob() | ReadOutcome() | ReadProgress():
                return await self._at_job(look, observed)

    async def _at_job(
        self, look: FindJob | ReadOutcome | ReadProgress, observed: Observed
    ) -> Observed:
        match look:
            case FindJob(job):
                return await self._find_job(job, observed)
            case ReadOutcome(job, log):
                return await self._outcome(job, observed, log=log)
            case ReadProgress(job, fresh):
                found = await self._progress.read(job, fresh=fresh)
                return replace(observed, progress=found)

    async def _resolved(
        self, image: NixImage, settings: Settings, *, fresh: bool
    ) -> PinnedSource | NixImageError:
        """The revision of an image's source, unless its class does not allow where that is from."""
        spec = image.spec
        question = Question(spec.source, image.metadata.namespace, settings.nixpkgs_url)
        source = await self._resolver.resolve(
            question,
            interval=seconds(spec.interval),
            told=told_before(image, settings.nixpkgs_url),
            fresh=fresh,
        )
        if isinstance(source, PinnedSource):
            return denied_artifact(source, settings.build_class) or source
        return source

    def _troubles(self, queued: Queued) -> dict[str, str]:
        """What is wrong with the pods of the Jobs that a build waits for, as their images tell."""
        found = {}
        for job in queued.behind:
            cached = self._cache.image((job.namespace, job.image))
            build = cached.image.status.current_build if cached and cached.image else None
            progress = build.progress if build and build.job_name == job.name else None
            if progress is not None and progress.phase in {PENDING, LOST}:
                found[job.name] = progress.message
        return found

    async def known(self, request: BuildRequest, settings: Settings) -> BuildRequest:
        """The request, perhaps with what its packages were evaluated to before."""
        if not settings.substituters:
            return request  # it would be of no use
        try:
            async with asyncio.timeout(BUCKET_TIMEOUT):
                return await asyncio.to_thread(with_evaluation, self._store, request)
        except (TimeoutError, NixImageError):
            return request  # the build evaluates, and tells of the bucket if it must

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

    async def _move_tags(self, move: MoveTags, repository: str) -> MoveTags | NixImageError:
        # A call that is given up goes on in its thread, and one of a replica that lost its Lease
        # may come late: neither moves a tag back that was moved since.
        asked_at = time.time_ns()
        try:
            async with asyncio.timeout(BUCKET_TIMEOUT):
                await asyncio.to_thread(move_tags, self._store, repository, move, asked_at)
        except TimeoutError:
            return Retryable(
                Reason.BUCKET_UNAVAILABLE,
                f"{self._store.url} did not take the tags within {BUCKET_TIMEOUT:.0f} s",
            )
        except NixImageError as error:
            return error
        return move

    async def _find_job(self, job: JobView, observed: Observed) -> Observed:
        """See whether a Job is still there; if it is not, the cache learns of it."""
        try:
            found = await self._cluster.get_job(job.namespace, job.name)
        except NixImageError:
            return replace(observed, in_the_way=job)
        there = None if found is None else JobView.from_json(found)
        if there is None or there.uid != job.uid:
            self._cache.drop_job(job)
        if there is not None:
            self._cache.put_job(there)
        others = tuple(each for each in observed.jobs if each.name != job.name)
        jobs = others if there is None else (*others, there)
        return replace(observed, jobs=jobs, in_the_way=job)

    async def _config_map(
        self, look: ShowImage | HideImage, image: NixImage
    ) -> ShowImage | HideImage | NixImageError:
        try:
            match look:
                case ShowImage():
                    await self._config_maps.show(image, look)
                case HideImage():
                    await self._config_maps.hide(image, look)
        except NixImageError as error:
            return error
        return look

    async def _remove(self, look: RemoveRepository) -> Removed | NixImageError:
        try:
            async with asyncio.timeout(REMOVE_TIMEOUT):
                return await asyncio.to_thread(remove, self._store, look)
        except TimeoutError:
            return Retryable(
                Reason.BUCKET_UNAVAILABLE,
                f"{self._store.url} has not removed all of it within {REMOVE_TIMEOUT:.0f} s",
            )
        except NixImageError as error:
            return error

    async def _outcome(self, job: JobView, observed: Observed, *, log: bool) -> Observed:
        try:
            pods = await self._cluster.list_pods(job.namespace, job.name)
        except Retryable as error:
            return replace(observed, refused=error)
        pod = newest(pods)
        key = await keep_log(self._cluster, self._store, job, pod) if log and pod else ""
        return replace(observed, outcome=outcome(job, pods), log=key)


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
        build_class=class_label(build_class) if build_class is not None else "",
        caps=caps,
        urgency=look.urgency,
        since=now,
    )


def remove(store: ObjectStore, look: RemoveRepository) -> Removed:
    """Remove a repository, or some of its tags.

    Raises:
        NixImageError: the bucket does not answer.
    """
    if look.tags is None:
        return remove_repository(store, look.repository)
    return remove_tags(store, look.repository, look.tags)


def move_tags(store: ObjectStore, repository: str, move: MoveTags, asked_at: int) -> None:
    """Have tags name an image that is published.

    Args:
        store: the bucket.
        repository: `<namespace>/<name>`.
        move: which tags, and the image.
        asked_at: when that was decided, in nanoseconds since 1970.

    Raises:
        NixImageError: it is not there any more, a tag was moved by a later decision, or the
            bucket does not answer.
    """
    manifest = read_manifest(store, repository, move.digest)
    if manifest is None:
        raise Retryable(
            Reason.BUCKET_UNAVAILABLE,
            f"{store.url} holds {repository}@{move.digest} no longer",
            hint="Annotate reconcile.fluxcd.io/forceAt to have it built again",
        )
    publish_manifest(store, repository, manifest)
    for tag in move.tags:
        if not move_tag(store, repository, tag, move.digest, asked_at=asked_at):
            raise Retryable(
                Reason.BUCKET_UNAVAILABLE,
                f"the tag {tag} of {repository} names an image that was asked for later",
                hint="Does another NixImage, or another cluster, have this repository and tag?",
            )


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
    return request.knowing(find_evaluation(store, request))
