"""What goes wrong in the soak, and what is to have come of it."""

import asyncio
import contextlib
import random
import shutil
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

from integration.controller.soak.operators import Replica
from niximage.api.build import PinnedSource, input_hash
from niximage.api.image import FORCE_AT, REQUESTED_AT, NixImage
from support.api import IMAGES, Api, Refused
from support.git_server import GitServer
from support.node import BUILDS, End
from support.proxy import Fault

Json = dict[str, Any]
Key = tuple[str, str]

NAMESPACES: Final = ("soak-a", "soak-b", "soak-c")
NAMES: Final = tuple(f"app-{n}" for n in range(8))
CLASS: Final = "soak"
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
