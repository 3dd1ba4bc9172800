"""What always holds, whatever goes wrong: watched all the time."""

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

from integration.controller.soak.world import NAMESPACES
from support.api import IMAGES, Api
from support.node import BUILDS

Json = dict[str, Any]

BUILDS_AT_ONCE: Final = 6
BUILDS_PER_NAMESPACE: Final = 3


class Lie(AssertionError):  # noqa: N818 (what a status must never tell)
    """Something that never may be was so."""


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
