"""Minutes of everything that may go wrong, all at once.

Clients edit, builds end in every way, two operators are killed and cut off, the API server
refuses, Git server and bucket go away. Then the world is whole again, and every image must come
to its right state.

    make soak DURATION=30m SEED=7

Whatever goes wrong meanwhile, some things always hold; they are watched all the time: no status
lies, no two Jobs build one input, caps are kept, and never do two operators act at once.
"""

import argparse
import asyncio
import contextlib
import itertools
import logging
import os
import random
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from niximage.api.build import PinnedSource, input_hash
from niximage.api.image import FORCE_AT, REQUESTED_AT, NixImage
from niximage.bucket import open_store
from support.api import IMAGES, Api, Refused
from support.git_server import GitServer
from support.node import BUILDS, End, Nodes
from support.proxy import Fault, FaultProxy, Request

Json = dict[str, Any]
Key = tuple[str, str]

NAMESPACES: Final = ("soak-a", "soak-b", "soak-c")
NAMES: Final = tuple(f"app-{n}" for n in range(8))
CLASS: Final = "soak"
LEASE: Final = "default/soak"
BUILDS_AT_ONCE: Final = 6
BUILDS_PER_NAMESPACE: Final = 3
REST: Final = 150.0  # seconds within which all has to come to rest at the end
SPECS: Final[tuple[Json, ...]] = (
    {},
    {"suspend": True},
    {"concurrencyPolicy": "Forbid"},
    {"build": {"retry": {"limit": 1, "minBackoff": "1s"}}},
    {"build": {"className": CLASS}},
    {"output": {"tags": ["stable"]}},
    {"output": {"deletionPolicy": "Delete"}},
)
ENDS: Final = (*[End.SUCCEEDS] * 6, *End)

log = logging.getLogger("soak")


class Lie(AssertionError):  # noqa: N818 (what a status must never tell)
    """Something that never may be was so."""


# The operators ----------------------------------------------------------------------------------


@dataclass
class Life:
    """One process of an operator, and when it wrote."""

    name: str
    first: float = float("inf")
    last: float = 0.0


@dataclass
class Replica:
    """An operator behind a proxy of its own, started again whenever it ends, as kubelet would."""

    name: str
    proxy: FaultProxy
    environment: dict[str, str]
    log: Path
    process: subprocess.Popen[bytes] | None = None
    lives: list[Life] = field(default_factory=list)
    ended: Counter[int] = field(default_factory=Counter)

    async def run(self) -> None:
        """Keep it running, for ever."""
        self.proxy.listener = self._wrote
        while True:
            self.start()
            assert self.process is not None
            self.ended[await asyncio.to_thread(self.process.wait)] += 1
            await asyncio.sleep(0.5)

    def start(self) -> None:
        self.lives.append(Life(f"{self.name}-{len(self.lives)}"))
        kubeconfig = self.proxy.kubeconfig(self.log.with_name(f"{self.name}.kubeconfig"))
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "niximage", "operator"],
                stdout=output,
                stderr=output,
                env={**os.environ, **self.environment, "KUBECONFIG": str(kubeconfig)},
            )

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()

    def _wrote(self, request: Request) -> None:
        """What an operator writes, except for the Lease, only who acts may write."""
        if request.is_write and "/leases" not in request.path:
            life = self.lives[-1]
            life.first = min(life.first, request.at)
            life.last = max(life.last, request.at)


# What always holds ------------------------------------------------------------------------------


@dataclass
class Watcher:
    """Follows images and Jobs, and notes each lie."""

    api: Api
    lies: list[str] = field(default_factory=list)
    seen: Counter[str] = field(default_factory=Counter)
    _digests: dict[str, str] = field(default_factory=dict)
    _live: dict[str, tuple[str, str, str]] = field(default_factory=dict)

    async def run(self) -> None:
        """Look for ever."""
        await asyncio.gather(self._images(), self._jobs())

    async def _images(self) -> None:
        async for kind, image in self.api.watch(f"{IMAGES}/niximages"):
            if kind == "DELETED" or image["metadata"]["namespace"] not in NAMESPACES:
                continue
            key = f"{image['metadata']['namespace']}/{image['metadata']['name']}"
            for lie in self._lies_of(image):
                self.lies.append(f"{key}: {lie}: {image['status']}")

    def _lies_of(self, image: Json) -> list[str]:
        status, uid = image.get("status") or {}, image["metadata"]["uid"]
        told = {c["type"]: c["status"] for c in status.get("conditions", [])}
        for condition in status.get("conditions", []):
            self.seen[f"{condition['type']}/{condition['reason']}"] += 1
        found = []
        if {"Reconciling", "Stalled"} <= set(told):
            found.append("Reconciling and Stalled at once")
        if told and "Ready" not in told:
            found.append("no Ready")
        if told.get("Ready") == "True" and "digest" not in status:
            found.append("Ready without an image")
        if told.get("Ready") == "True" and {"Reconciling", "Stalled"} & set(told):
            found.append("Ready and something else")
        if uid in self._digests and "digest" not in status:
            found.append("the last good image is forgotten")
        if "digest" in status:
            self._digests[uid] = status["digest"]
        return found

    async def _jobs(self) -> None:
        async for kind, job in self.api.watch("/apis/batch/v1/jobs", labelSelector=BUILDS):
            metadata = job["metadata"]
            if metadata["namespace"] not in NAMESPACES:
                continue
            ended = any(
                c["type"] in {"Complete", "Failed"} and c["status"] == "True"
                for c in (job.get("status") or {}).get("conditions") or []
            )
            if kind == "DELETED" or ended or metadata.get("deletionTimestamp"):
                self._live.pop(metadata["uid"], None)
                continue
            owner = metadata["ownerReferences"][0]["uid"]
            inputs = metadata["annotations"]["niximage.dev/input-hash"]
            self._live[metadata["uid"]] = (metadata["namespace"], owner, inputs)
            self.seen["Jobs"] += kind == "ADDED"
            self._count()

    def _count(self) -> None:
        builds = Counter((owner, inputs) for _, owner, inputs in self._live.values())
        spaces = Counter(namespace for namespace, _, _ in self._live.values())
        if max(builds.values()) > 1:
            self.lies.append(f"two Jobs of one input: {self._live}")
        if max(spaces.values()) > BUILDS_PER_NAMESPACE or len(self._live) > BUILDS_AT_ONCE:
            self.lies.append(f"more builds than may run: {spaces}")


# What happens -----------------------------------------------------------------------------------


class World:
    """All that users, nodes, networks and admins do, one thing after the other."""

    def __init__(
        self, seed: int, api: Api, replicas: list[Replica], git: GitServer, bucket: Path
    ) -> None:
        self.random = random.Random(seed)
        self.api = api
        self.replicas = replicas
        self.git = git
        self.bucket = bucket
        self.done: Counter[str] = Counter()
        self.tokens = 0
        self.kind = True  # whether nodes may do their worst
        self.revision = git.commit("soak")

    # Users

    async def apply(self) -> None:
        namespace, name = self._key()
        packages = ["hello", self.random.choice(["curl", "jq"])]
        spec = {
            "packages": packages,
            "source": {"nixpkgs": {"channel": "nixos-26.05"}},
            "interval": "1m",
            "build": {"retry": {"minBackoff": "1s", "maxBackoff": "5s"}},
            **self.random.choice(SPECS),
        }
        path = f"{IMAGES}/namespaces/{namespace}/niximages"
        image = {
            "apiVersion": "niximage.dev/v1alpha1",
            "kind": "NixImage",
            "metadata": {"namespace": namespace, "name": name},
            "spec": spec,
        }
        try:
            await self.api.call("POST", path, image)
        except Refused as error:
            if error.status != 409:
                raise
            known = await self.api.call("GET", f"{path}/{name}")
            image["metadata"] = known["metadata"]
            await self.api.call("PUT", f"{path}/{name}", image)

    async def delete(self) -> None:
        namespace, name = self._key()
        await self.api.call("DELETE", f"{IMAGES}/namespaces/{namespace}/niximages/{name}")
        if self.random.random() < 0.5:
            await self.apply()

    async def request(self) -> None:
        await self._annotate(self._key(), force=self.random.random() < 0.3)

    async def _annotate(self, key: Key, *, force: bool = False) -> None:
        self.tokens += 1
        token = str(self.tokens)
        annotations = {REQUESTED_AT: token, **({FORCE_AT: token} if force else {})}
        path = f"{IMAGES}/namespaces/{key[0]}/niximages/{key[1]}"
        await self.api.call("PATCH", path, {"metadata": {"annotations": annotations}})

    async def move_source(self) -> None:
        self.revision = await asyncio.to_thread(self.git.commit, f"move {self.tokens}")

    # Nodes

    def end_of(self, _: Json) -> End:
        return self.random.choice(ENDS) if self.kind else End.SUCCEEDS

    def length(self) -> float:
        return self.random.expovariate(2.0) if self.kind else 0.0

    async def delete_job(self) -> None:
        path = f"/apis/batch/v1/namespaces/{self.random.choice(NAMESPACES)}/jobs"
        jobs = await self.api.list(path)
        if jobs:
            name = self.random.choice(jobs)["metadata"]["name"]
            options = {"propagationPolicy": "Background"}
            await self.api.call("DELETE", f"{path}/{name}", options)

    # Admins

    async def set_class(self) -> None:
        path = f"{IMAGES}/nixbuildclasses"
        spec = self.random.choice([{"maxTimeout": "10m"}, {"maxTimeout": "3h"}])
        with contextlib.suppress(Refused):
            await self.api.call("DELETE", f"{path}/{CLASS}")
        if self.random.random() < 0.8:
            await self.make_class(spec)

    async def make_class(self, spec: Json) -> None:
        body = {
            "apiVersion": "niximage.dev/v1alpha1",
            "kind": "NixBuildClass",
            "metadata": {"name": CLASS},
            "spec": spec,
        }
        await self.api.call("POST", f"{IMAGES}/nixbuildclasses", body)

    async def kill(self) -> None:
        self.random.choice(self.replicas).kill()

    # Networks

    async def refuse(self) -> None:
        method, path = self.random.choice(
            [("PATCH", "/status$"), ("POST", "/jobs$"), ("DELETE", "/jobs/"), ("GET", "/pods$")]
        )
        status = self.random.choice([409, 422, 429, 500, 0])
        headers = {"Retry-After": "1"} if status == 429 else {}
        times = self.random.randint(1, 3)
        for replica in self.replicas:
            replica.proxy.add(Fault(method, path, status, headers, lost=not status, times=times))

    async def cut(self) -> None:
        proxy = self.random.choice(self.replicas).proxy
        if self.random.random() < 0.3:
            proxy.add(Fault("GET", "", status=410, watches=True, times=2))
        await asyncio.to_thread(proxy.cut_watches)

    async def cut_off(self) -> None:
        """One replica does not reach the API server: it must stop to act in time."""
        proxy = self.random.choice(self.replicas).proxy
        await self._away(proxy.go, proxy.come_back, self.random.choice([1, 3, 9]))

    async def git_away(self) -> None:
        await self._away(self.git.stop, self.git.start, 2)

    async def bucket_away(self) -> None:
        aside = self.bucket.with_name("aside")
        await self._away(lambda: self.bucket.rename(aside), lambda: self._back(aside), 2)

    def _back(self, aside: Path) -> None:
        if self.bucket.exists():
            shutil.copytree(aside, self.bucket, dirs_exist_ok=True)
            shutil.rmtree(aside)
        else:
            aside.rename(self.bucket)

    async def spoil_record(self) -> None:
        """A record in the bucket is no record any more."""
        records = sorted(self.bucket.glob("niximage/v1/builds/*/*"))
        if records:
            spoilt = self.random.choice(records)
            spoilt.write_bytes(self.random.choice([b"", b"{", b"\xff" * 100, b'{"v":2}']))

    async def _away(
        self, go: Callable[[], object], come_back: Callable[[], object], seconds: float
    ) -> None:
        await asyncio.to_thread(go)
        try:
            await asyncio.sleep(seconds)
        finally:
            await asyncio.to_thread(come_back)

    # All of it

    async def play(self, seconds: float) -> None:
        """Do one thing after the other for so long."""
        things: list[tuple[float, Callable[[], Awaitable[None]]]] = [
            (30, self.apply),
            (6, self.delete),
            (8, self.request),
            (2, self.move_source),
            (4, self.delete_job),
            (1, self.set_class),
            (1.5, self.kill),
            (6, self.refuse),
            (3, self.cut),
            (0.5, self.cut_off),
            (0.5, self.git_away),
            (0.5, self.bucket_away),
            (1, self.spoil_record),
        ]
        weights = [weight for weight, _ in things]
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            (_, thing) = self.random.choices(things, weights)[0]
            self.done[thing.__name__] += 1
            try:
                await thing()
            except Refused as error:
                if error.status not in {404, 409}:  # it is not there, or somebody was quicker
                    raise
            await asyncio.sleep(self.random.expovariate(4.0))

    async def heal(self) -> None:
        """All is well again, and everybody asks for the latest."""
        self.kind = False
        for replica in self.replicas:
            replica.proxy.heal()
        with contextlib.suppress(Refused):
            await self.api.call("DELETE", f"{IMAGES}/nixbuildclasses/{CLASS}")
        await self.make_class({"maxTimeout": "3h"})
        for image in await self.images():
            key = (image["metadata"]["namespace"], image["metadata"]["name"])
            with contextlib.suppress(Refused):
                await self._annotate(key)

    async def ask_again(self) -> None:
        """A build that was under way when all was healed may have failed for good."""
        for image in await self.images():
            if any(c["type"] == "Stalled" for c in image["status"].get("conditions", [])):
                await self._annotate((image["metadata"]["namespace"], image["metadata"]["name"]))

    async def images(self) -> list[Json]:
        found = await self.api.list(f"{IMAGES}/niximages")
        return [i for i in found if i["metadata"]["namespace"] in NAMESPACES]

    def _key(self) -> Key:
        return self.random.choice(NAMESPACES), self.random.choice(NAMES)

    # At the end

    async def wrong(self) -> list[str]:
        """What is not as it should be at rest."""
        images = await self.images()
        jobs = await self.api.list("/apis/batch/v1/jobs", labelSelector=BUILDS)
        jobs = [job for job in jobs if job["metadata"]["namespace"] in NAMESPACES]
        owners = {image["metadata"]["uid"] for image in images}
        found = [
            f"the Job {job['metadata']['name']} has no owner"
            for job in jobs
            if job["metadata"]["ownerReferences"][0]["uid"] not in owners
        ]
        for job in jobs:
            ended = (job.get("status") or {}).get("conditions")
            if not ended:
                found.append(f"the Job {job['metadata']['name']} runs")
        for image in images:
            key = f"{image['metadata']['namespace']}/{image['metadata']['name']}"
            found += [f"{key}: {words}" for words in self._wrong_with(image)]
        return found

    def _wrong_with(self, image: Json) -> list[str]:
        status, metadata = image["status"], image["metadata"]
        told = {c["type"]: f"{c['status']}/{c['reason']}" for c in status.get("conditions", [])}
        found = []
        if metadata.get("deletionTimestamp"):
            return ["is still being deleted"]
        keeps = image["spec"]["output"].get("deletionPolicy") == "Delete"
        if bool(metadata.get("finalizers")) != keeps and not image["spec"].get("suspend"):
            found.append(f"finalizers {metadata.get('finalizers')}")
        if status["observedGeneration"] != metadata["generation"]:
            found.append("not seen")
        if {"Reconciling", "Stalled", "Outdated"} & set(told) or "currentBuild" in status:
            found.append(f"not at rest: {told} {status.get('failure')}")
        if image["spec"].get("suspend"):
            return found
        if not told.get("Ready", "").startswith("True"):
            return [*found, f"not ready: {told}"]
        source = PinnedSource(url=self.git.url, revision=self.revision)
        if status["artifact"]["inputHash"] != input_hash(NixImage.model_validate(image), source):
            found.append("another image than the one that its spec asks for")
        return found


# The whole --------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def _running(
    kubeconfig: Path, folder: Path, seed: int
) -> AsyncIterator[tuple[World, Watcher]]:
    bucket = folder / "bucket"
    bucket.mkdir()
    store = open_store(bucket.as_uri())
    git = GitServer(folder)
    environment = {
        "NIXIMAGE_BUCKET": bucket.as_uri(),
        "NIXIMAGE_REGISTRY": "127.0.0.1:5000",
        "NIXIMAGE_NIXPKGS_URL": git.url,
        "NIXIMAGE_BUILDER_IMAGE": "niximage-operator:none",
        "NIXIMAGE_RETRY_DELAY": "1",
        "NIXIMAGE_RESYNC_INTERVAL": "20",
        "NIXIMAGE_MAX_BUILDS": str(BUILDS_AT_ONCE),
        "NIXIMAGE_MAX_BUILDS_PER_NAMESPACE": str(BUILDS_PER_NAMESPACE),
        "NIXIMAGE_NAMESPACES": "",
        "NIXIMAGE_LEASE": LEASE,
    }
    with FaultProxy(kubeconfig) as one, FaultProxy(kubeconfig) as two:
        replicas = [
            Replica(name, proxy, environment, folder / f"{name}.log")
            for name, proxy in (("one", one), ("two", two))
        ]
        async with Api(kubeconfig) as api:
            world = World(seed, api, replicas, git, bucket)
            watcher = Watcher(api)
            await _clean(api)
            nodes = Nodes(api, store, world.end_of, delay=world.length)
            tasks = [
                asyncio.create_task(each)
                for each in (nodes.run(), watcher.run(), *(replica.run() for replica in replicas))
            ]
            try:
                yield world, watcher
                for task in tasks:
                    if task.done():
                        task.result()
            finally:
                for task in tasks:
                    task.cancel()
                for replica in replicas:
                    replica.kill()
                await asyncio.gather(*tasks, return_exceptions=True)
                await _clean(api)
                git.stop()
                store.close()


async def _clean(api: Api) -> None:
    """Empty namespaces to play in."""
    for name in NAMESPACES:
        metadata = {"name": name}
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}
        with contextlib.suppress(Refused):
            await api.call("POST", "/api/v1/namespaces", body)
        path = f"{IMAGES}/namespaces/{name}/niximages"
        for image in await api.list(path):
            each = f"{path}/{image['metadata']['name']}"
            await api.call("PATCH", each, {"metadata": {"finalizers": None}})
            with contextlib.suppress(Refused):
                await api.call("DELETE", each)
    with contextlib.suppress(Refused):
        await api.call("DELETE", f"{IMAGES}/nixbuildclasses/{CLASS}")


async def soak(kubeconfig: Path, folder: Path, *, seconds: float, seed: int) -> Json:
    """Let everything go wrong for a while; what was seen of it.

    Args:
        kubeconfig: of a control plane with the CRDs, where no other operator runs.
        folder: an empty one, for the bucket and the logs.
        seconds: how long.
        seed: of what happens.

    Raises:
        Lie: something was so that never may be, or did not come to rest.
    """
    async with _running(kubeconfig, folder, seed) as (world, watcher):
        await world.play(seconds)
        await world.heal()
        deadline = time.monotonic() + REST
        while wrong := await world.wrong():
            if time.monotonic() > deadline:
                raise Lie("\n".join(["it does not come to rest:", *wrong]))
            await world.ask_again()
            await asyncio.sleep(1.0)
        rested = REST - (deadline - time.monotonic())
        lives = [life for each in world.replicas for life in each.lives if life.last]
        watcher.lies += [*_overlaps(lives), *_traces(world.replicas)]
        if watcher.lies:
            raise Lie("\n".join(watcher.lies[:10]))
        return {
            "seed": seed,
            "things": dict(world.done),
            "images": len(await world.images()),
            "jobs": watcher.seen["Jobs"],
            "reasons": len(watcher.seen),
            "lives": [len(each.lives) for each in world.replicas],
            "exits": dict(sum((each.ended for each in world.replicas), Counter())),
            "rested_after": round(rested, 1),
        }


def _overlaps(lives: list[Life]) -> list[str]:
    """Who wrote while another did."""
    ordered = sorted(lives, key=lambda life: life.first)
    return [
        f"{before.name} and {after.name} acted at once: {before} {after}"
        for before, after in itertools.pairwise(ordered)
        if after.first < before.last
    ]


def _traces(replicas: list[Replica]) -> list[str]:
    """Bugs that an operator met and survived."""
    texts = ((each.name, each.log.read_text(errors="replace")) for each in replicas)
    return [
        f"{name} met a bug: {text[max(found.start() - 500, 0) : found.start() + 3000]}"
        for name, text in texts
        for found in re.finditer("Traceback", text)
    ]


def main() -> None:
    """Run it on a control plane of its own."""
    from bench.fleet import control_plane

    parser = argparse.ArgumentParser(prog="soak", description=__doc__)
    parser.add_argument("--duration", default="30m", help="90s, 30m or 2h")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    parser.add_argument("--folder", type=Path, required=True, help="an empty one, for the logs")
    given = parser.parse_args()
    seconds = float(given.duration[:-1]) * {"s": 1, "m": 60, "h": 3600}[given.duration[-1]]
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    log.info("soaking for %.0f s with the seed %d", seconds, given.seed)
    with control_plane() as kubeconfig:
        seen = asyncio.run(soak(kubeconfig, given.folder, seconds=seconds, seed=given.seed))
    log.info("all came to its right state: %s", seen)


if __name__ == "__main__":
    main()
