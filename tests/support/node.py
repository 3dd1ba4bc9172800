"""What nodes would do to the pods of build Jobs, where there is a control plane and no node.

The Job controller is real: it makes the pods, and sees how they end. Here a pod ends at once, in
one of the ways in which pods end, and where it should have published an image, it did.
"""

import asyncio
import enum
import json
from collections.abc import Callable
from typing import Any, Final

from integration.tiny import tiny_image
from niximage.api.build import BuildFailure
from niximage.bucket.records import BuildRecord, save_build
from niximage.bucket.store import ObjectStore
from niximage.errors import NixImageError, Reason, Retryable, Terminal
from support.api import Api, Refused

Json = dict[str, Any]

BUILDS: Final = "app.kubernetes.io/component=builder"
_CONTAINER: Final = {"image": "x", "imageID": "x", "ready": False, "restartCount": 0}
_HOSTILE: Final = '\x1b[2J{"v":1,"digest":"sha256:' + "f" * 5000 + "\u202e\r\n"


class End(enum.Enum):
    """How a pod ends."""

    SUCCEEDS = "it publishes, and tells"
    MUTE = "it publishes, and its message is lost"
    CUT = "it publishes, and half of its message is lost"
    LIES = "it tells of an image that is not there"
    HOSTILE = "its message is an attack"
    FAILS = "the build fails for good"
    INTERRUPTED = "something was in the way"
    OUT_OF_MEMORY = "the kernel kills it"
    EVICTED = "its node needs the room"
    GONE = "its node is gone, and it with it"


def request_of(pod: Json) -> Json:
    """What a build pod is asked for."""
    variables = pod["spec"]["containers"][0]["env"]
    value = next(e["value"] for e in variables if e["name"] == "NIXIMAGE_REQUEST")
    request: Json = json.loads(value)
    return request


def publish(store: ObjectStore, request: Json, content: bytes = b"hello\n") -> Json:
    """Do what the publish step does: an image, and the record of its inputs; its result."""
    image = tiny_image(content)
    digest = image.publish(store, request["repository"]).digest
    size = sum(d.size for d in image.blobs)
    record = BuildRecord(
        digest=digest,
        size=size,
        repository=request["repository"],
        layers=1,
        reused_layers=0,
        reused_size=0,
        revision=request["source"]["revision"],
    )
    save_build(store, request["namespace"], request["inputHash"], record)
    return result(request, digest, size)


def result(request: Json, digest: str, size: int = 1) -> Json:
    """What the publish step tells of an image."""
    return {
        "v": 1,
        "inputHash": request["inputHash"],
        "repository": request["repository"],
        "digest": digest,
        "layers": 1,
        "size": size,
        "reusedLayers": 0,
        "reusedSize": 0,
    }


class Nodes:
    """All nodes of a cluster, each build pod ended as `choose` says."""

    def __init__(
        self,
        api: Api,
        store: ObjectStore,
        choose: Callable[[Json], End],
        *,
        delay: Callable[[], float] = lambda: 0.0,
    ) -> None:
        """Nothing runs.

        Args:
            api: the API server.
            store: the bucket.
            choose: how a pod is to end.
            delay: how many seconds it runs before.
        """
        self._api = api
        self._store = store
        self._choose = choose
        self._delay = delay
        self._playing: dict[str, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Play every build pod there is or will be, for ever."""
        while True:
            try:
                async for kind, pod in self._api.watch("/api/v1/pods", labelSelector=BUILDS):
                    phase = (pod.get("status") or {}).get("phase")
                    uid = pod["metadata"]["uid"]
                    if kind in {"ADDED", "MODIFIED"} and phase == "Pending":
                        if uid not in self._playing:
                            self._playing[uid] = asyncio.create_task(self._play(pod))
                    elif kind == "DELETED":
                        self._playing.pop(uid, None)
            except OSError:
                await asyncio.sleep(0.2)  # the API server is away

    async def _play(self, pod: Json) -> None:
        await asyncio.sleep(self._delay())
        try:
            await self.end(pod, self._choose(pod))
        except Refused as error:
            if error.status not in {404, 409}:  # deleted meanwhile
                raise

    async def end(self, pod: Json, how: End) -> None:
        """Have a pod end."""
        path = f"/api/v1/namespaces/{pod['metadata']['namespace']}/pods/{pod['metadata']['name']}"
        if how is End.GONE:
            await self._api.call("DELETE", path, {"gracePeriodSeconds": 0})
            return
        status = await asyncio.to_thread(self._status, request_of(pod), how)
        await self._api.call("PATCH", f"{path}/status", {"status": status})

    def _status(self, request: Json, how: End) -> Json:
        if how in {End.SUCCEEDS, End.MUTE, End.CUT}:
            try:
                message = json.dumps(publish(self._store, request))
            except NixImageError as error:
                return _failed(75, error)
            kept = {End.SUCCEEDS: None, End.MUTE: 0, End.CUT: 90}[how]
            return _ended(0, message[:kept])
        return _OTHERWISE[how](request)


def _failed(code: int, error: NixImageError) -> Json:
    return _ended(code, BuildFailure.from_error(error).to_message().decode())


def _ended(code: int, message: str, *, reason: str = "Completed") -> Json:
    terminated = {"exitCode": code, "message": message, "reason": reason}
    step = {"name": "publish", "state": {"terminated": terminated}, **_CONTAINER}
    return {"phase": "Failed" if code else "Succeeded", "containerStatuses": [step]}


_OTHERWISE: Final[dict[End, Callable[[Json], Json]]] = {
    End.LIES: lambda request: _ended(0, json.dumps(result(request, f"sha256:{'e' * 64}"))),
    End.HOSTILE: lambda _: _ended(0, _HOSTILE[:4096]),
    End.FAILS: lambda _: _failed(65, Terminal(Reason.BUILD_FAILED, "hello does not compile")),
    End.INTERRUPTED: lambda _: _failed(
        75, Retryable(Reason.SUBSTITUTER_UNAVAILABLE, "the cache is away")
    ),
    End.OUT_OF_MEMORY: lambda _: _ended(137, "", reason="OOMKilled"),
    # No DisruptionTarget: the Job would make the pod anew by itself.
    End.EVICTED: lambda _: {"phase": "Failed", "reason": "Evicted", "message": "low on memory"},
}
