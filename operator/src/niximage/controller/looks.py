"""What `decide` asks to see: each look goes to one place, and an error is an answer, too."""

from dataclasses import replace

from niximage.api.base import seconds
from niximage.api.build import BuildRequest, PinnedSource
from niximage.api.image import NixImage
from niximage.controller.bases import find_base
from niximage.controller.bucket_looks import BucketLooks
from niximage.controller.builds.build_log import keep_log
from niximage.controller.builds.outcome import newest, outcome
from niximage.controller.builds.progress import ProgressReader
from niximage.controller.builds.turns import Turns, ask_for, with_trouble
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
from niximage.controller.views import Observed, Queued
from niximage.errors import NixImageError, Retryable


class Looks:
    """The places to look at."""

    def __init__(
        self,
        *,
        cache: Cache,
        cluster: Cluster,
        bucket: BucketLooks,
        resolver: Resolver,
        turns: Turns,
        progress: ProgressReader,
        config_maps: ConfigMaps,
    ) -> None:
        self._cache = cache
        self._cluster = cluster
        self._bucket = bucket
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
                ask = ask_for(image, look, settings)
                turn = self._turns.take(ask, self._cache.all_jobs())
                if isinstance(turn, Queued):
                    turn = with_trouble(turn, self._troubles(turn))
                return replace(observed, turn=turn)
            case FindPublished(input_hash):
                found = await self._bucket.published(key[0], image.repository, input_hash)
                return replace(observed, published=found)
            case MoveTags():
                moved = await self._bucket.move_tags(look, image.repository)
                return replace(observed, tagged=moved)
            case RemoveRepository():
                return replace(observed, removed=await self._bucket.remove(look))
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
        # Without binary caches it would be of no use.
        return await self._bucket.known(request) if settings.substituters else request

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

    async def _outcome(self, job: JobView, observed: Observed, *, log: bool) -> Observed:
        try:
            pods = await self._cluster.list_pods(job.namespace, job.name)
        except Retryable as error:
            return replace(observed, refused=error)
        pod = newest(pods)
        key = await keep_log(self._cluster, self._bucket.store, job, pod) if log and pod else ""
        return replace(observed, outcome=outcome(job, pods), log=key)
