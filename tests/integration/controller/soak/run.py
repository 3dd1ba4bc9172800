"""Let everything go wrong for a while, then see that all comes to its right state."""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

from integration.controller.soak.operators import Replica, overlaps, traces
from integration.controller.soak.watcher import BUILDS_AT_ONCE, BUILDS_PER_NAMESPACE, Lie, Watcher
from integration.controller.soak.world import CLASS, NAMESPACES, World
from niximage.bucket import open_store
from support.api import IMAGES, Api, Refused
from support.git_server import GitServer
from support.node import Nodes
from support.proxy import FaultProxy

Json = dict[str, Any]

LEASE: Final = "default/soak"
REST: Final = 150.0  # seconds within which all has to come to rest at the end


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
        watcher.lies += [*overlaps(lives), *traces(world.replicas)]
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
