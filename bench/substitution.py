"""From a binary cache to layers: straight, and by way of a store, which is what others do.

The same packages lie in a cache of real Nix's making. One program packs their NARs; the other is
`nix copy` into an empty store, and then the same packer over that store. Both read the cache
from a folder, so that no server's time is counted, verify what they read, and write the same
layers.
"""

import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bench.trees import LARGE, SMALL, Tree, copy_tree, packages
from niximage.bucket.store import open_store
from niximage.builder.layers import bring_layers, store_layers
from niximage.builder.progress import silent
from niximage.image.closure import STORE, Closure, PathInfo
from niximage.image.contents import StoreContents
from niximage.image.entries import FileEntry, walk
from niximage.nix.nar_contents import NarContents
from niximage.nix.signature import TrustedKeys
from niximage.nix.substituters import Substituters

MB: Final = 1_000_000
LIMITS: Final = {"small": (SMALL, 160 * MB), "large": (LARGE, 400 * MB)}
QUICK_SHARE: Final = 20  # a quick run has a twentieth of the bytes
COMPRESSIONS: Final = ("zstd", "xz")
PATHS: Final = 26
ROUNDS: Final = 3
LIMIT: Final = 600  # seconds that one program may take


@dataclass(frozen=True)
class Cost:
    """What a way from cache to layers takes.

    Attributes:
        wall: seconds.
        cpu: seconds of all its processes and threads.
        written: bytes that all its processes write to files, also to those that they remove.
        memory: the most bytes of memory of this project's process.
    """

    wall: float
    cpu: float
    written: int
    memory: int


def run(*, quick: bool) -> dict[str, Any]:
    """Measure; some five minutes, or a run that only shows that it works."""
    share = QUICK_SHARE if quick else 1
    with tempfile.TemporaryDirectory(prefix="niximage-bench-") as name:
        folder = Path(name)
        made: list[Tree] = []
        for kind, (sizes, limit) in LIMITS.items():
            tree = copy_tree(folder / kind, sizes, limit // share)
            made += packages(tree, folder / f"{kind}-packages", PATHS // 2)
        paths = [_nix("nix-store", "--add", str(tree.path)) for tree in made if tree.files]
        try:
            return {
                "processors": len(os.sched_getaffinity(0)),
                "paths": len(paths),
                "files": sum(tree.files for tree in made),
                "bytes": sum(tree.size for tree in made),
                "caches": {
                    compression: _compare(paths, folder, compression, 1 if quick else ROUNDS)
                    for compression in COMPRESSIONS
                },
            }
        finally:
            _nix("nix-store", "--delete", *paths)


def table(results: Mapping[str, Any]) -> str:
    """The results for people."""
    told = f"{results['paths']} store paths, {results['files']} files"
    lines = [
        f"{told}, {results['bytes'] / MB:.0f} MB, {results['processors']} processors, medians:",
        "",
        "| cache | way | wall s | CPU s | written MB | memory MB | wall | written |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for compression, found in results["caches"].items():
        for way in ("straight", "by a store"):
            each = found[way]
            ratios = (
                f"{found['wall_ratio']:.2f} | {found['written_ratio']:.2f}"
                if way == "straight"
                else "1 | 1"
            )
            lines.append(
                f"| {compression} | {way} | {each['wall']:.2f} | {each['cpu']:.2f} "
                f"| {each['written'] / MB:.0f} | {each['memory'] / MB:.0f} | {ratios} |"
            )
    return "\n".join(lines)


def _compare(paths: Sequence[str], folder: Path, compression: str, rounds: int) -> dict[str, Any]:
    cache = folder / f"cache-{compression}"
    # Without a level, xz takes minutes on two processors.
    settings = f"compression={compression}&compression-level=3&parallel-compression=true"
    url = f"file://{cache}?{settings}"
    _nix("nix", "copy", "--to", url, *paths)
    found: dict[str, list[Cost]] = {"straight": [], "by a store": []}
    for _ in range(rounds):
        for way, costs in found.items():
            work = folder / "work"
            work.mkdir()
            costs.append(_cost(way, cache, work, paths))
            shutil.rmtree(work)
    medians = {
        way: {
            name: statistics.median(getattr(cost, name) for cost in costs)
            for name in ("wall", "cpu", "written", "memory")
        }
        for way, costs in found.items()
    }
    ours, theirs = medians["straight"], medians["by a store"]
    return {
        **medians,
        "wall_ratio": round(ours["wall"] / theirs["wall"], 3),
        "written_ratio": round(ours["written"] / theirs["written"], 3),
    }


def _cost(way: str, cache: Path, work: Path, paths: Sequence[str]) -> Cost:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.monotonic()
    store = work / "store"
    if way == "by a store":
        _nix("nix", "copy", "--from", cache.as_uri(), "--to", str(store), *paths)
    request = {
        "cache": cache.as_uri(),
        "work": str(work),
        "paths": list(paths),
        "store": str(store) if way == "by a store" else "",
    }
    told = subprocess.run(
        [sys.executable, "-m", "bench.substitution"],
        input=json.dumps(request),
        check=True,
        capture_output=True,
        text=True,
        timeout=LIMIT,
    ).stdout
    wall = time.monotonic() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    written = (after.ru_oublock - before.ru_oublock) * 512  # the kernel's unit, whatever the disk's
    return Cost(wall, cpu, written, int(told))


@dataclass(frozen=True)
class _Unpacked:
    """The files of store paths in a store at another place."""

    root: str

    def entries(self, infos: Iterable[PathInfo]) -> Iterator[FileEntry]:
        for info in infos:
            yield from walk(self.root + info.path)

    def stop(self) -> None:
        """A folder makes nobody wait."""


def _pack(request: Mapping[str, Any]) -> None:
    """Bring the layers of store paths into a new bucket: what both ways do in the end."""
    work = Path(request["work"])
    for name in ("bucket", "scratch"):
        (work / name).mkdir()
    bucket = open_store((work / "bucket").as_uri())
    with Substituters([request["cache"]], TrustedKeys.parse([])) as caches:
        walked = caches.walk(request["paths"])
        closure = Closure.of(walked.infos())
        assert len(closure) == len(request["paths"]), walked.refused
        contents: StoreContents = NarContents(caches, walked.substitutes, _ignore)
        if request["store"]:
            contents = _Unpacked(request["store"])
        bring_layers(
            store_layers(closure, verified=frozenset(walked.substitutes)),
            contents=contents,
            bucket=bucket,
            namespace="bench",
            scratch=work / "scratch",
            say=silent,
        )
    bucket.close()


def _ignore(count: int) -> None:
    """Nobody is told how much was fetched."""


def _nix(*command: str) -> str:
    environment = {
        **os.environ,
        "NIX_CONFIG": "experimental-features = nix-command\nbuild-users-group =",
    }
    finished = subprocess.run(
        command, check=True, capture_output=True, text=True, timeout=LIMIT, env=environment
    )
    found = finished.stdout.strip()
    assert not found or found.startswith(STORE) or command[1] == "--delete", found
    return found


if __name__ == "__main__":
    _pack(json.load(sys.stdin))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10)
