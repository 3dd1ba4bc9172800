"""A cluster, a bucket and a source in memory, and the real reconciler before them.

Events reach the operator's cache late, twice, in another order, or not at all; writes meet
conflicts and errors; the operator is killed between any two of its actions.
"""

import asyncio
import copy
import datetime as dt
import itertools
from collections.abc import AsyncGenerator, Callable
from typing import Any

from niximage.api.build import BuildFailure, BuildRequest, PinnedSource, PublishResult
from niximage.bucket.remove import Removed
from niximage.controller.bucket_looks import BucketLooks
from niximage.controller.builds.progress import ProgressReader
from niximage.controller.builds.turns import Turns
from niximage.controller.cache import Cache
from niximage.controller.cluster.config_map import ConfigMaps
from niximage.controller.cluster.connection import Conflict, NotThere
from niximage.controller.job_view import JobState, JobView
from niximage.controller.looks import Looks
from niximage.controller.metrics import Metrics
from niximage.controller.reconcile import Reconciler
from niximage.controller.sources.due import Question
from niximage.controller.sources.resolver import Resolver
from niximage.controller.steps import RemoveRepository
from niximage.controller.stored import Key, StoredImage
from niximage.controller.views import Absent, Published
from niximage.errors import NixImageError, Reason, Retryable
from niximage.source.resolve import wanted
from support.memory_store import MemoryStore
from unit.controller.states import NOW, SETTINGS

Json = dict[str, Any]
KEY: Key = ("team-a", "web")


class Killed(Exception):  # noqa: N818 (what happens to the operator)
    """The operator is gone before its next call."""


def digest_of(input_hash: str) -> str:
    return f"sha256:{input_hash}"


class World:
    """All that outlives the operator, and the operator that can be killed."""

    def __init__(self) -> None:
        self.now = NOW
        self.numbers = itertools.count(100)
        self.revision = "0" * 40
        self.image: Json | None = None
        self.jobs: dict[str, Json] = {}
        self.outcomes: dict[str, Json] = {}  # of pods, by the Job's uid
        self.bucket: dict[str, Published] = {}
        self.config_maps: dict[str, Json] = {}
        self.removed = ""  # the uid of the image whose repository was removed last
        self.faults: list[str] = []  # what becomes of the next calls, the last first
        self.calls_left: int | None = None
        self.created: list[tuple[str, str]] = []
        self.slow: Callable[[Json], object] | None = None  # what it waits for with its answer
        self.questions: list[float] = []  # when the source's server was asked
        self.pending: list[tuple[str, str, Json]] = []  # events on their way
        self.start()

    def start(self, *, acted_until: float | None = None) -> None:
        """A new operator, which knows nothing but a full list."""
        self.calls_left = None
        self.pending = []
        self.cache = Cache()
        self.turns = Turns(self.seconds)
        resolver = Resolver(
            self.resolve, retry_delay=1, acted_until=acted_until, clock=self.seconds
        )
        looks = Looks(
            cache=self.cache,
            cluster=self,
            bucket=MemoryBucket(self),
            resolver=resolver,
            turns=self.turns,
            progress=ProgressReader(self, self.seconds),
            config_maps=ConfigMaps(self, self.seconds),
        )
        self.reconciler = Reconciler(
            cache=self.cache,
            cluster=self,
            looks=looks,
            settings=SETTINGS,
            metrics=Metrics(),
            announce=self.create_event,
            clock=lambda: self.now,
        )
        self.relist()

    def seconds(self) -> float:
        """The time, as a clock tells it."""
        return self.now.timestamp()

    def relist(self) -> None:
        """A full list: it repairs what events did not tell."""
        self.cache.begin_list()
        images = (
            [StoredImage.from_json(copy.deepcopy(self.image))] if self.image is not None else []
        )
        jobs = [JobView.from_json(copy.deepcopy(job)) for job in self.jobs.values()]
        self.cache.finish_list(images, jobs, [])

    def reconcile(self) -> float | None:
        """One pass; what fails is tried again by later ones, as the queue would."""
        try:
            return asyncio.run(self.reconciler.reconcile(KEY))
        except NixImageError:
            return 0.0
        except Killed:
            self.start()
            return 0.0
        finally:
            self.turns.settle(KEY)

    # What users and the world do ----------------------------------------------------------------

    def apply(self, spec: Json) -> None:
        """Create the image, or change its spec."""
        if self.image is None:
            metadata = {
                "name": KEY[1],
                "namespace": KEY[0],
                "uid": f"u-{next(self.numbers)}",
                "generation": 1,
                "resourceVersion": str(next(self.numbers)),
            }
            self.image = {"metadata": metadata, "spec": spec, "status": {"observedGeneration": -1}}
        elif self.image["spec"] != spec:
            self.image["spec"] = spec
            self.image["metadata"]["generation"] += 1
            self.image["metadata"]["resourceVersion"] = str(next(self.numbers))
        self.tell("image", "MODIFIED", self.image)

    def annotate(self, annotations: dict[str, str]) -> None:
        assert self.image is not None
        self.image["metadata"]["annotations"] = annotations
        self.image["metadata"]["resourceVersion"] = str(next(self.numbers))
        self.tell("image", "MODIFIED", self.image)

    def delete(self) -> None:
        """Delete the image, once nobody keeps it."""
        assert self.image is not None
        metadata = self.image["metadata"]
        if not metadata.get("finalizers"):
            self._gone()
        elif "deletionTimestamp" not in metadata:
            metadata["deletionTimestamp"] = f"{self.now:%Y-%m-%dT%H:%M:%SZ}"
            metadata["generation"] += 1
            metadata["resourceVersion"] = str(next(self.numbers))
            self.tell("image", "MODIFIED", self.image)

    def _gone(self) -> None:
        """The image is no more; its Jobs go with it."""
        assert self.image is not None
        self.tell("image", "DELETED", self.image)
        self.image = None
        self.config_maps = {}
        for name in list(self.jobs):
            self.drop_job(name)

    def drop_job(self, name: str) -> None:
        self.tell("job", "DELETED", self.jobs.pop(name))

    def end_job(self, name: str, how: str) -> None:
        """A Job's pod ends: `succeeds`, `lies`, `fails`, `is evicted` or `runs out of memory`."""
        job = self.jobs[name]
        inputs = job["metadata"]["annotations"]["niximage.dev/input-hash"]
        good = how in {"succeeds", "lies"}
        if how == "succeeds":
            self.bucket[inputs] = Published(digest_of(inputs), 1, 1, 0, 0)
        code, message, reason = 0, "", "Completed"
        match how:
            case "succeeds" | "lies":
                message = (
                    PublishResult(
                        input_hash=inputs,
                        repository="team-a/web",
                        digest=digest_of(inputs),
                        layers=1,
                        size=1,
                        reused_layers=0,
                        reused_size=0,
                    )
                    .to_message()
                    .decode()
                )
            case "fails":
                failure = BuildFailure(reason=Reason.BUILD_FAILED, message="no")
                code, message = 65, failure.to_message().decode()
            case "is evicted":
                code = 143
            case _:
                code, reason = 137, "OOMKilled"
        ended = {"exitCode": code, "reason": reason, "message": message}
        step = {"name": "publish", "state": {"terminated": ended}}
        self.outcomes[job["metadata"]["uid"]] = step
        kind = "Complete" if good else "Failed"
        job["status"] = {
            "conditions": [
                {
                    "type": kind,
                    "status": "True",
                    "lastTransitionTime": f"{self.now:%Y-%m-%dT%H:%M:%SZ}",
                }
            ]
        }
        self.tell("job", "MODIFIED", job)

    # Events -------------------------------------------------------------------------------------

    def tell(self, kind: str, event: str, body: Json) -> None:
        self.pending.append((kind, event, copy.deepcopy(body)))

    def deliver(self, index: int) -> None:
        """Let one event arrive, whichever was sent first."""
        kind, event, body = self.pending.pop(index % len(self.pending))
        if kind == "image":
            if event == "DELETED":
                self.cache.drop_image(KEY, body["metadata"]["uid"])
            else:
                self.cache.put_image(StoredImage.from_json(body))
        elif event == "DELETED":
            self.cache.drop_job(JobView.from_json(body))
        else:
            self.cache.put_job(JobView.from_json(body))

    # The API server -----------------------------------------------------------------------------

    def _call(self) -> str:
        if self.calls_left is not None:
            if self.calls_left == 0:
                raise Killed
            self.calls_left -= 1
        fault = self.faults.pop() if self.faults else ""
        match fault:
            case "conflict":
                raise Conflict(Reason.CLUSTER_UNAVAILABLE, "409")
            case "refused":
                raise Retryable(Reason.CLUSTER_UNAVAILABLE, "500")
            case _:
                return fault

    def _after(self, fault: str) -> None:
        if fault == "lost reply":
            raise Retryable(Reason.CLUSTER_UNAVAILABLE, "timeout")

    async def call(
        self, method: str, path: str, *, body: Json | None = None, content: str = ""
    ) -> Json:
        """ConfigMaps: what is there of them."""
        fault = self._call()
        name = path.rpartition("/")[2]
        if method == "POST":
            assert body is not None
            if body["metadata"]["name"] in self.config_maps:
                raise Conflict(Reason.CLUSTER_UNAVAILABLE, "409")
            found = {**body, "metadata": {**body["metadata"], "uid": f"c-{next(self.numbers)}"}}
        elif name not in self.config_maps:
            raise NotThere(Reason.CLUSTER_UNAVAILABLE, "404")
        elif method == "DELETE":
            return self.config_maps.pop(name)
        else:
            found = _merged(self.config_maps[name], body or {})
        if method != "GET":
            found["metadata"]["resourceVersion"] = str(next(self.numbers))
            self.config_maps[found["metadata"]["name"]] = found
        self._after(fault)
        return copy.deepcopy(found)

    async def list_images(self, keep: object) -> list[Any]:
        raise NotImplementedError

    async def list_jobs(self, keep: object) -> list[Any]:
        raise NotImplementedError

    async def list_classes(self) -> list[Json]:
        raise NotImplementedError

    async def read_log(self, *_: object, **__: object) -> str:
        raise Retryable(Reason.CLUSTER_UNAVAILABLE, "no log")

    async def follow_log(self, *_: object, **__: object) -> AsyncGenerator[bytes, None]:
        self._call()
        if self.jobs:
            raise Retryable(Reason.CLUSTER_UNAVAILABLE, "no log")
        yield b""

    async def list_events_of(self, *_: object) -> list[Json]:
        return []

    async def list_pods(self, namespace: str, job: str) -> list[Json]:
        self._call()
        found = self.jobs.get(job)
        step = self.outcomes.get(found["metadata"]["uid"]) if found is not None else None
        if step is None:
            return []
        metadata = {"name": "pod", "creationTimestamp": "2026-05-04T12:00:00Z"}
        return [{"metadata": metadata, "status": {"containerStatuses": [step]}}]

    async def patch_status(self, namespace: str, name: str, patch: Json) -> Json:
        fault = self._call()
        if self.image is None:
            raise NotThere(Reason.CLUSTER_UNAVAILABLE, "404")
        if patch["metadata"]["resourceVersion"] != self.image["metadata"]["resourceVersion"]:
            raise Conflict(Reason.CLUSTER_UNAVAILABLE, "409")
        self.image["status"] = _merged(self.image["status"], patch["status"])
        self.image["metadata"]["resourceVersion"] = str(next(self.numbers))
        self.tell("image", "MODIFIED", self.image)
        self._after(fault)
        return copy.deepcopy(self.image)

    async def patch_image(self, namespace: str, name: str, patch: Json) -> Json:
        fault = self._call()
        if self.image is None:
            raise NotThere(Reason.CLUSTER_UNAVAILABLE, "404")
        metadata = self.image["metadata"]
        finalizers: list[str] = patch["metadata"]["finalizers"]
        if patch["metadata"]["resourceVersion"] != metadata["resourceVersion"]:
            raise Conflict(Reason.CLUSTER_UNAVAILABLE, "409")
        before = metadata.get("finalizers", [])
        leaving = "deletionTimestamp" in metadata
        assert not (leaving and set(finalizers) - set(before)), "the API server would refuse it"
        policy = self.image["spec"].get("output", {}).get("deletionPolicy")
        if leaving and policy == "Delete":
            assert self.removed == metadata["uid"], "it goes before its repository has gone"
        metadata["finalizers"] = finalizers
        metadata["resourceVersion"] = str(next(self.numbers))
        answer = copy.deepcopy(self.image)
        if leaving and not finalizers:
            self._gone()
        else:
            self.tell("image", "MODIFIED", self.image)
        self._after(fault)
        return answer

    async def create_job(self, manifest: Json) -> Json:
        fault = self._call()
        name = manifest["metadata"]["name"]
        if name in self.jobs:
            raise Conflict(Reason.CLUSTER_UNAVAILABLE, "409")
        job = copy.deepcopy(manifest)
        job["metadata"]["uid"] = f"j-{next(self.numbers)}"
        job["metadata"]["creationTimestamp"] = f"{self.now:%Y-%m-%dT%H:%M:%SZ}"
        owner = manifest["metadata"]["ownerReferences"][0]["uid"]
        self.created.append((owner, name))
        if self.image is not None and self.image["metadata"]["uid"] == owner:
            self.jobs[name] = job  # else the garbage collector takes it at once
            self.tell("job", "ADDED", job)
        self._after(fault)
        return copy.deepcopy(job)

    def create_event(self, manifest: Json) -> None:
        assert manifest["regarding"]["name"] == KEY[1]

    async def get_job(self, namespace: str, name: str) -> Json | None:
        self._call()
        return copy.deepcopy(self.jobs.get(name))

    async def delete_job(self, namespace: str, name: str, uid: str) -> None:
        fault = self._call()
        if name in self.jobs and self.jobs[name]["metadata"]["uid"] == uid:
            self.drop_job(name)
        self._after(fault)

    async def resolve(self, question: Question) -> PinnedSource:
        self.questions.append(self.seconds())
        if self.slow:
            for _ in range(1000):
                if self.image is not None and self.slow(self.image):
                    break
                await asyncio.sleep(0.01)
        return wanted(question.source, question.nixpkgs_url).pinned(self.revision)

    # What can be said of it ---------------------------------------------------------------------

    def live_jobs(self) -> list[JobView]:
        views = [JobView.from_json(job) for job in self.jobs.values()]
        return [view for view in views if view.state is JobState.LIVE]

    def request_of(self, name: str) -> BuildRequest:
        pod = self.jobs[name]["spec"]["template"]["spec"]
        variables = {e["name"]: e["value"] for e in pod["containers"][0]["env"]}
        return BuildRequest.model_validate_json(variables["NIXIMAGE_REQUEST"])

    def let_go(self) -> None:
        """No more faults: an image that is being deleted goes."""
        self.faults, self.calls_left = [], None
        for _ in range(60):
            if self.image is None or "deletionTimestamp" not in self.image["metadata"]:
                return
            while self.pending:
                self.deliver(0)
            self.relist()
            self.reconcile()
            self.now += dt.timedelta(hours=1)
        raise AssertionError("it never goes")

    def settle(self) -> Json:
        """No more faults; every build succeeds; time passes, and events arrive."""
        assert self.image is not None
        self.faults, self.calls_left = [], None
        for _ in range(60):
            while self.pending:
                self.deliver(0)
            self.relist()
            before = self.image["metadata"]["resourceVersion"]
            self.reconcile()
            for job in self.live_jobs():
                self.end_job(job.name, "succeeds")
            quiet = self.image["metadata"]["resourceVersion"] == before and not self.pending
            waits = {c["type"] for c in self.image["status"].get("conditions", [])}
            if quiet and not {"Reconciling", "Outdated"} & waits:
                return self.image
            self.now += dt.timedelta(hours=1)
        raise AssertionError(f"it never comes to rest: {self.image['status']}")


class MemoryBucket(BucketLooks):
    def __init__(self, world: World) -> None:
        super().__init__(MemoryStore())
        self._world = world

    async def remove(self, look: RemoveRepository) -> Removed | NixImageError:
        try:
            self._world._call()
        except NixImageError as error:
            return Retryable(Reason.BUCKET_UNAVAILABLE, str(error))
        assert self._world.image is not None
        self._world.removed = self._world.image["metadata"]["uid"]
        self._world.bucket.clear()
        return Removed(0, 1, 1)

    async def published(
        self, namespace: str, repository: str, input_hash: str
    ) -> Published | Absent | NixImageError:
        try:
            self._world._call()
        except NixImageError as error:
            return Retryable(Reason.BUCKET_UNAVAILABLE, str(error))
        return self._world.bucket.get(input_hash, Absent.ABSENT)


def _merged(old: Json, patch: Json) -> Json:
    """RFC 7396."""
    new = dict(old)
    for key, value in patch.items():
        if value is None:
            new.pop(key, None)
        elif isinstance(value, dict) and isinstance(new.get(key), dict):
            new[key] = _merged(new[key], value)
        else:
            new[key] = value
    return new
