"""Packing against tar, zstd and gzip; small updates of large images; the memory of a 2 GB layer.

Everybody reads the same files from a warm page cache, writes the same kind of file and
computes both digests that an image needs: of the tar, and of what it is compressed to.
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bench.incremental import measure
from bench.trees import LARGE, SMALL, Tree, copy_tree, linked_tree, packages

MB: Final = 1_000_000
LIMITS: Final = {"small files": (SMALL, 400 * MB), "large files": (LARGE, 800 * MB)}
QUICK_SHARE: Final = 20  # a quick run has a twentieth of the bytes
ROUNDS: Final = 5
LAYER: Final = 2_000 * MB  # whose memory is measured
PATHS: Final = (50, 400)  # fewer than there are layers, and many more
CHANGES: Final = 8
THREADS: Final = 16  # the most a layer is packed with, whatever the machine
LIMIT: Final = 600  # seconds that one run may take

OURS: Final = "niximage"

# Both sums through pipes that are waited for: a shell's >(…) runs on, unseen and uncounted.
PIPELINE: Final = """
set -e -o pipefail
mkfifo "$2/plain" "$2/packed"
$SUM < "$2/plain" > "$2/plain.sum" &
$SUM < "$2/packed" > "$2/packed.sum" &
tar --sort=name --format=ustar --owner=0 --group=0 --numeric-owner --mtime=@1 -C "$1" -cf - . \
    | tee "$2/plain" | $COMPRESS | tee "$2/packed" > "$2/blob"
wait
"""


@dataclass(frozen=True)
class Alternative:
    """A pipeline of other programs.

    Attributes:
        compress: the command that compresses.
        sum: the command that makes a digest.
        rounds: how many runs.
    """

    compress: str
    sum: str = "sha256sum"
    rounds: int = ROUNDS


ZSTD: Final = "tar to zstd -3 -T0"
GZIP: Final = "tar to gzip -6"
ALTERNATIVES: Final = {
    ZSTD: Alternative("zstd -q -3 -T0"),
    "the same with openssl's sums": Alternative("zstd -q -3 -T0", sum="openssl dgst -sha256"),
    GZIP: Alternative("gzip -6", rounds=3),
}


@dataclass(frozen=True)
class Run:
    """One run of a program and all that it started.

    Attributes:
        wall: seconds.
        cpu: seconds of all its processes and threads.
    """

    wall: float
    cpu: float


def run(*, quick: bool) -> dict[str, Any]:
    """Measure; some five minutes, or half of one that only shows that it works."""
    share = QUICK_SHARE if quick else 1
    with tempfile.TemporaryDirectory(prefix="niximage-bench-") as name:
        folder = Path(name)
        trees = {
            title: copy_tree(folder / title.replace(" ", "-"), sizes, limit // share)
            for title, (sizes, limit) in LIMITS.items()
        }
        return {
            "processors": len(os.sched_getaffinity(0)),
            "throughput": {
                title: _throughput(tree, folder, rounds=1 if quick else ROUNDS)
                for title, tree in trees.items()
            },
            "incremental": [
                _incremental(trees, folder / f"incremental{count}", count) for count in PATHS
            ],
            "memory": _memory(
                linked_tree(folder / "layer", list(trees.values()), LAYER // share), folder
            ),
        }


def table(results: Mapping[str, Any]) -> str:
    """The results for people."""
    lines = [
        f"Packing with {results['processors']} processors, medians:",
        "",
        "| tree | program | wall s | CPU s | MB/s | blob MB | ours / this | in CPU |",
        "|---|---|--:|--:|--:|--:|--:|--:|",
    ]
    for title, found in results["throughput"].items():
        tree = f"{title}: {found['files']}, {found['bytes'] / MB:.0f} MB"
        lines += [
            f"| {tree} | {program} | {each['wall']:.2f} | {each['cpu']:.2f} "
            f"| {found['bytes'] / MB / each['wall']:.0f} | {each['size'] / MB:.0f} "
            f"| {each['ours_over_this']:.2f} | {each['ours_over_this_cpu']:.2f} |"
            for program, each in found["programs"].items()
        ]
    lines += [
        "",
        "One package of an image changes, and all that refer to it:",
        "",
        "| image | changed | MB | compressed MB | uploaded MB | ratio | read MB | s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for image in results["incremental"]:
        title = f"{image['paths']} paths, {image['bytes'] / MB:.0f} MB: {image['cold_seconds']} s"
        lines += [
            f"| {title} | {each['changed_paths']} | {each['changed_bytes'] / MB:.2f} "
            f"| {each['changed_compressed'] / MB:.2f} | {each['uploaded'] / MB:.2f} "
            f"| {each['uploaded'] / each['changed_compressed']:.2f} | {each['read'] / MB:.2f} "
            f"| {each['seconds']:.2f} |"
            for each in image["changes"]
        ]
    memory = results["memory"]
    lines += ["", f"The most memory while packing a layer of {memory['bytes'] / MB:.0f} MB:"]
    lines += [
        f"{peak / (1 << 20):.0f} MiB with {threads} threads"
        for threads, peak in memory["peak"].items()
    ]
    return "\n".join(lines)


def _throughput(tree: Tree, folder: Path, *, rounds: int) -> dict[str, Any]:
    """Ours and the alternatives in turn, so that a machine's moods meet all alike."""
    scratch = folder / "scratch"
    programs: dict[str, tuple[int, Callable[[], tuple[Run, int]]]] = {
        OURS: (rounds, lambda: _pack(tree, scratch))
    }
    for title, alternative in ALTERNATIVES.items():
        if shutil.which(alternative.sum.split()[0]):
            programs[title] = (
                min(rounds, alternative.rounds),
                lambda each=alternative: _pipeline(each, tree, scratch),  # type: ignore[misc]
            )
    _pack(tree, scratch)  # fills the page cache
    runs: dict[str, list[Run]] = {title: [] for title in programs}
    sizes: dict[str, int] = {}
    for number in range(rounds):
        for title, (most, start) in programs.items():
            if number < most:
                one, sizes[title] = start()
                runs[title].append(one)
    walls = {title: statistics.median(one.wall for one in all_) for title, all_ in runs.items()}
    cpus = {title: statistics.median(one.cpu for one in all_) for title, all_ in runs.items()}
    return {
        "files": tree.files,
        "bytes": tree.size,
        "programs": {
            title: {
                "wall": round(walls[title], 3),
                "cpu": round(cpus[title], 3),
                "walls": [round(one.wall, 3) for one in runs[title]],
                "size": sizes[title],
                "ours_over_this": round(walls[OURS] / walls[title], 3),
                "ours_over_this_cpu": round(cpus[OURS] / cpus[title], 3),
            }
            for title in programs
        },
    }


def _pack(tree: Tree, scratch: Path) -> tuple[Run, int]:
    one, output = measured(
        [sys.executable, "-m", "bench.pack_tree", str(tree.path), str(scratch)], scratch, {}
    )
    return one, int(json.loads(output)["size"])


def _pipeline(alternative: Alternative, tree: Tree, scratch: Path) -> tuple[Run, int]:
    one, output = measured(
        ["bash", "-c", PIPELINE + 'stat -c %s "$2/blob"', "bash", str(tree.path), str(scratch)],
        scratch,
        {"COMPRESS": alternative.compress, "SUM": alternative.sum},
    )
    return one, int(output)


def measured(command: list[str], scratch: Path, environment: Mapping[str, str]) -> tuple[Run, str]:
    """Run a program in an empty scratch folder."""
    scratch.mkdir()
    os.sync()  # nobody pays for what the one before wrote
    try:
        before, started = os.times(), time.monotonic()
        output = subprocess.run(
            command,
            check=True,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "LC_ALL": "C.UTF-8", **environment},
            timeout=LIMIT,
        ).stdout
        wall, after = time.monotonic() - started, os.times()
    finally:
        shutil.rmtree(scratch)
    cpu = after.children_user + after.children_system
    return Run(wall, cpu - before.children_user - before.children_system), output


def _incremental(trees: Mapping[str, Tree], scratch: Path, count: int) -> dict[str, Any]:
    made = packages(trees["small files"], scratch / "packages", count)
    return measure(made, scratch, changes=CHANGES)


def _memory(tree: Tree, folder: Path) -> dict[str, Any]:
    """The peak with as many threads as processors, and with as many as there can be."""
    scratch = folder / "scratch"
    peaks = {}
    for threads in sorted({len(os.sched_getaffinity(0)), THREADS}):
        command = [sys.executable, "-m", "bench.pack_tree", str(tree.path), str(scratch)]
        _, output = measured([*command, str(threads)], scratch, {})
        peaks[str(threads)] = json.loads(output)["peak"]
    return {"files": tree.files, "bytes": tree.size, "peak": peaks}
