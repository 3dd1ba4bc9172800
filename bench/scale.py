"""The operator over thousands of NixImages on a real API server, and a kopf tutorial beside it.

There is no node: what pods would have published is in the bucket before, or the benchmark plays
the pods. Everything else is real: API server, Job controller, Git server, bucket, processes.
"""

import asyncio
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from bench.fleet import Fleet, Program, control_plane, keys_of, operator
from niximage.api.build import PinnedSource, input_hash
from niximage.api.image import NixImage
from niximage.bucket import open_store

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from support.api import Api
from support.git_server import GitServer
from support.node import BUILDS, End, Nodes, publish

SIZES: Final = (1_000, 10_000)
QUICK_SIZES: Final = (40, 80)
MOVING: Final = 1_000
QUICK_MOVING: Final = 60
COLUMNS: Final = (
    "| | images | first decision, median / last | all ready | CPU | writes per image |"
    " restart: first decisions | idle | CPU | writes | RSS (peak) |"
)
IDLE_SECONDS: Final = 70.0  # an interval of the images, and some

Json = dict[str, Any]
Key = tuple[str, str]


def run(*, quick: bool) -> dict[str, Any]:
    """Measure."""
    sizes = QUICK_SIZES if quick else SIZES
    found: dict[str, Any] = {"fleets": {}}
    for size in sizes:
        idle = (5 if quick else IDLE_SECONDS) if size == sizes[0] else 0
        found["fleets"][str(size)] = _alone(_fleet, size, idle)
    found["tutorial"] = _alone(_tutorial, sizes[0])
    found["moving"] = _alone(_moving, QUICK_MOVING if quick else MOVING)
    return found


def table(results: dict[str, Any]) -> str:
    """The figures as tables."""
    lines = [
        COLUMNS,
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    rows = [("operator", size, each) for size, each in results["fleets"].items()]
    if tutorial := results.get("tutorial"):
        rows.append(("kopf tutorial", tutorial["images"], tutorial))
    for name, size, each in rows:
        apply, restart = each["apply"], each["restart"]
        lines.append(
            f"| {name} | {int(size):,} | {apply['first_median']:.2f} / {apply['first_last']:.1f} s "
            f"| {apply['ready']:.1f} s | {apply['cpu']:.1f} s | {apply['writes_per_image']:.2f} "
            f"| {restart['decided']:.1f} s | {restart['idle']:.1f} s | {restart['cpu']:.1f} s "
            f"| {restart['writes']} | {restart['rss']:.0f} ({restart['peak']:.0f}) MiB |"
        )
    lines += ["", _idle_words(results), "", _moving_words(results)]
    return "\n".join(lines).rstrip()


def _idle_words(results: dict[str, Any]) -> str:
    idle = next((each["idle"] for each in results["fleets"].values() if "idle" in each), None)
    if idle is None:
        return ""
    return (
        f"Idle for {idle['seconds']:.0f} s: {idle['writes']} writes, {idle['resolves']} questions "
        f"to the Git server about {idle['refs']} ref, {idle['cpu_percent']:.1f} % of a processor, "
        f"{idle['rss']:.0f} MiB."
    )


def _moving_words(results: dict[str, Any]) -> str:
    moving = results.get("moving")
    if moving is None:
        return ""
    return (
        f"A channel moves under {moving['images']:,} images of {moving['namespaces']} namespaces: "
        f"all at the new revision after {moving['seconds']:.0f} s with {moving['jobs']:,} Jobs, at "
        f"most {moving['most_at_once']} at once and {moving['most_in_namespace']} in a namespace "
        f"(caps: 20 and 5); when half were done, each namespace had {moving['least_share']:.0%} "
        f"to {moving['most_share']:.0%} of its own done; {moving['cpu']:.0f} s of CPU."
    )


def _alone(measure: Callable[..., Any], size: int, *more: float) -> Any:
    """Measure on a control plane of its own."""
    with control_plane() as kubeconfig, tempfile.TemporaryDirectory() as folder:
        bucket = Path(folder) / "bucket"
        bucket.mkdir()
        git = GitServer(Path(folder))
        try:
            found = asyncio.run(measure(kubeconfig, bucket, git, size, *more))
        finally:
            git.stop()
    print(f"{measure.__name__.strip('_')} of {size}: {found}", file=sys.stderr)  # it takes long
    return found


def _spec(*packages: str) -> Json:
    return {
        "packages": list(packages),
        "source": {"nixpkgs": {"channel": "nixos-26.05"}},
        "interval": "1m",
    }


def _same(_: Key) -> Json:
    return _spec("hello", "curl", "cacert")


def _own(key: Key) -> Json:
    return _spec("hello", f"package-{key[1]}")


def _build(bucket: Path, git: GitServer, keys: list[Key], spec_of: Callable[[Key], Json]) -> None:
    """Have the bucket hold what each image asks for, as if it had been built before."""
    store = open_store(bucket.as_uri())
    revision = git.commit("the first")
    source = PinnedSource(url=git.url, ref="refs/heads/nixos-26.05", revision=revision)
    done: set[tuple[str, str]] = set()
    for key in keys:
        namespace, name = key
        metadata = {"namespace": namespace, "name": name, "uid": "u", "generation": 1}
        image = NixImage.model_validate({"metadata": metadata, "spec": spec_of(key)})
        inputs = input_hash(image, source)
        if (namespace, inputs) in done:
            continue
        done.add((namespace, inputs))
        request = {
            "namespace": namespace,
            "inputHash": inputs,
            "repository": image.repository,
            "source": {"revision": revision},
        }
        publish(store, request)
    store.close()


async def _fleet(kubeconfig: Path, bucket: Path, git: GitServer, size: int, idle: float) -> Json:
    keys = keys_of(size)
    _build(bucket, git, keys, _same)
    program = operator(kubeconfig, bucket, git, bucket.parent / "log")
    async with Api(kubeconfig) as api:
        fleet = Fleet(api, keys)
        found: Json = {}
        program.start()
        try:
            found["apply"] = await _apply(api, program, fleet, _same)
        finally:
            program.stop()
        program.start()
        try:
            found["restart"] = await _restart(api, program, size)
            if idle:
                found["idle"] = await _idle(api, program, git, idle)
        finally:
            program.stop()
    return found


async def _apply(
    api: Api,
    program: Program,
    fleet: Fleet,
    spec_of: Callable[[Key], Json],
    *,
    figures: bool = True,
) -> Json:
    if figures:
        await program.until_figure("niximage_last_list_timestamp_seconds", 1)
    await program.until_idle()
    cpu, before = program.cpu, _of_operator(await api.writes())
    began = time.monotonic()
    async with fleet.watched():
        await fleet.create(spec_of)
        await fleet.until("all are ready", lambda: len(fleet.ready) == len(fleet.keys))
    ready = max(fleet.ready.values()) - began
    first = [fleet.answered[key] - fleet.created[key] for key in fleet.keys]
    writes = _of_operator(await api.writes()) - before
    return {
        "first_median": round(statistics.median(first), 3),
        "first_last": round(max(first), 3),
        "created": round(max(fleet.created.values()) - began, 2),
        "ready": round(ready, 2),
        "cpu": round(program.cpu - cpu, 2),
        "writes_per_image": round(writes.total() / len(fleet.keys), 3),
        "rss": round(program.memory(), 1),
    }


async def _restart(api: Api, program: Program, size: int, *, figures: bool = True) -> Json:
    before = _of_operator(await api.writes())
    decided = program.started
    if figures:
        await program.until_figure("niximage_reconcile_duration_seconds_count", size)
        decided = time.monotonic()
    idle = await program.until_idle()
    writes = _of_operator(await api.writes()) - before
    return {
        "decided": round((decided if figures else idle) - program.started, 2),
        "idle": round(idle - program.started, 2),
        "cpu": round(program.cpu, 2),
        "writes": writes.total(),
        "rss": round(program.memory(), 1),
        "peak": round(program.memory("VmHWM"), 1),
    }


async def _idle(api: Api, program: Program, git: GitServer, seconds: float) -> Json:
    before, cpu = _of_operator(await api.writes()), program.cpu
    git.asked.clear()
    await asyncio.sleep(seconds)
    return {
        "seconds": seconds,
        "writes": (_of_operator(await api.writes()) - before).total(),
        "resolves": sum("info/refs" in path for path in git.asked),
        "refs": 1,
        "cpu_percent": round(100 * (program.cpu - cpu) / seconds, 2),
        "rss": round(program.memory(), 1),
    }


async def _moving(kubeconfig: Path, bucket: Path, git: GitServer, size: int) -> Json:
    keys = keys_of(size)
    _build(bucket, git, keys, _own)
    program = operator(kubeconfig, bucket, git, bucket.parent / "log")
    store = open_store(bucket.as_uri())
    program.start()
    try:
        async with Api(kubeconfig) as api:
            fleet = Fleet(api, keys)
            jobs = Jobs()
            await _apply(api, program, fleet, _own)
            nodes = Nodes(api, store, lambda _: End.SUCCEEDS)
            tasks = [asyncio.create_task(nodes.run()), asyncio.create_task(jobs.watch(api))]
            cpu, began = program.cpu, time.monotonic()
            revision = git.commit("the second")

            def moved() -> list[Key]:
                return [key for key, told in fleet.revision.items() if told == revision]

            async with fleet.watched():
                await fleet.until("half have moved", lambda: len(moved()) >= size / 2)
                half = Counter(namespace for namespace, _ in moved())
                await fleet.until("all have moved", lambda: len(moved()) == size)
            seconds = time.monotonic() - began
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            of = Counter(namespace for namespace, _ in keys)
            return {
                "images": size,
                "namespaces": len(of),
                "seconds": round(seconds, 1),
                "cpu": round(program.cpu - cpu, 1),
                "rss": round(program.memory(), 1),
                "jobs": len(jobs.seen),
                "most_at_once": jobs.most,
                "most_in_namespace": jobs.most_in_namespace,
                "least_share": round(min(half[name] / of[name] for name in of), 3),
                "most_share": round(max(half[name] / of[name] for name in of), 3),
            }
    finally:
        program.stop()
        store.close()


class Jobs:
    """How many build Jobs run at once."""

    def __init__(self) -> None:
        self.seen: set[str] = set()
        self._live: dict[str, str] = {}
        self.most = 0
        self.most_in_namespace = 0

    async def watch(self, api: Api) -> None:
        """Count for ever."""
        async for kind, job in api.watch("/apis/batch/v1/jobs", labelSelector=BUILDS):
            metadata = job["metadata"]
            ended = any(
                c["type"] in {"Complete", "Failed"} and c["status"] == "True"
                for c in (job.get("status") or {}).get("conditions") or []
            )
            self.seen.add(metadata["uid"])
            if kind == "DELETED" or ended:
                self._live.pop(metadata["uid"], None)
            else:
                self._live[metadata["uid"]] = metadata["namespace"]
            spaces = Counter(self._live.values())
            self.most = max(self.most, len(self._live))
            self.most_in_namespace = max([self.most_in_namespace, *spaces.values()])


async def _tutorial(kubeconfig: Path, bucket: Path, git: GitServer, size: int) -> Json:
    keys = keys_of(size)
    _build(bucket, git, keys, _same)
    kopf = Path(sys.executable).with_name("kopf")
    program = Program(
        [
            str(kopf),
            "run",
            "-A",
            "--standalone",
            "-q",
            str(Path(__file__).with_name("tutorial.py")),
        ],
        {"KUBECONFIG": str(kubeconfig), "BUCKET": bucket.as_uri(), "NIXPKGS_URL": git.url},
        bucket.parent / "log",
    )
    async with Api(kubeconfig) as api:
        fleet = Fleet(api, keys)
        found: Json = {"images": size}
        program.start()
        try:
            found["apply"] = await _apply(api, program, fleet, _same, figures=False)
        finally:
            program.stop()
        program.start()
        try:
            found["restart"] = await _restart(api, program, size, figures=False)
        finally:
            program.stop()
    return found


def _of_operator(writes: Counter[str]) -> Counter[str]:
    """What an operator writes; the rest is the benchmark's, or of Kubernetes' own controllers."""
    ours = {"POST jobs", "DELETE jobs", "POST events", "POST configmaps", "PATCH configmaps"}
    return Counter(
        {
            name: count
            for name, count in writes.items()
            if name in ours or (name != "POST niximages" and "niximages" in name)
        }
    )
