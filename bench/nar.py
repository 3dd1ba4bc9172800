"""A layer straight from a binary cache's file, against unpacking it and packing the folder.

Both read the same file from a warm page cache and write the same kind of blob; ours verifies
both hashes on the way, the other neither. Only reading, unpacking and packing are measured:
what a network adds is the same for both.
"""

import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from bench.packing import MB, Run, measured
from bench.trees import LARGE, SMALL, copy_tree

LIMITS: Final = {"small files": (SMALL, 200 * MB), "large files": (LARGE, 300 * MB)}
QUICK_SHARE: Final = 10  # a quick run has a tenth of the bytes
ROUNDS: Final = 3
COMPRESSORS: Final = {"zstd": ["zstd", "-q", "-3"], "xz": ["xz", "-3", "-T0"]}
PATH: Final = "/nix/store/" + 32 * "0" + "-tree"

CONVENTIONAL: Final = """
set -e -o pipefail
$DECOMPRESS < "$1" | nix-store --restore "$2/tree"
mkdir "$2/spool"
"$3" -m bench.pack_tree "$2/tree" "$2/spool"
chmod -R u+w "$2/tree"
"""


def run(*, quick: bool) -> dict[str, Any]:
    """Measure; some six minutes, or half a minute that only shows that it works."""
    share = QUICK_SHARE if quick else 1
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="niximage-bench-") as name:
        folder = Path(name)
        for title, (sizes, limit) in LIMITS.items():
            tree = copy_tree(folder / title.replace(" ", "-"), sizes, limit // share)
            nar = folder / "nar"
            with nar.open("wb") as out:
                subprocess.run(["nix-store", "--dump", tree.path], stdout=out, check=True)
            for compression, compress in COMPRESSORS.items():
                found[f"{title}, {compression}"] = {
                    "files": tree.files,
                    **_measure(folder, nar, compression, compress, rounds=1 if quick else ROUNDS),
                }
    return {"processors": len(os.sched_getaffinity(0)), "files": found}


def table(results: Mapping[str, Any]) -> str:
    """The results for people."""
    lines = [
        f"A layer from a binary cache's file with {results['processors']} processors, medians:",
        "",
        "| NAR | MB | file MB | ours s | MB/s | CPU s | MiB | unpack, pack s | CPU s | ratio |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for title, each in results["files"].items():
        ours, other = each["ours"], each["conventional"]
        lines.append(
            f"| {title}: {each['files']} | {each['bytes'] / MB:.0f} | {each['packed'] / MB:.0f} "
            f"| {ours['wall']:.2f} | {each['bytes'] / MB / ours['wall']:.0f} | {ours['cpu']:.2f} "
            f"| {each['peak'] / (1 << 20):.0f} | {other['wall']:.2f} | {other['cpu']:.2f} "
            f"| {ours['wall'] / other['wall']:.2f} |"
        )
    return "\n".join(lines)


def _measure(
    folder: Path, nar: Path, compression: str, compress: list[str], *, rounds: int
) -> dict[str, Any]:
    packed, told, scratch = folder / "packed", folder / "narinfo", folder / "scratch"
    with nar.open("rb") as source, packed.open("wb") as out:
        subprocess.run([*compress, "-c"], stdin=source, stdout=out, check=True)
    told.write_text(_narinfo(nar, packed, compression))
    ours: list[Run] = []
    conventional: list[Run] = []
    peak = 0
    for _ in range(rounds):
        one, output = measured(
            [sys.executable, "-m", "bench.pack_nar", str(packed), str(told), str(scratch)],
            scratch,
            {},
        )
        ours.append(one)
        made = json.loads(output)
        peak = max(peak, made["peak"])
        one, output = measured(
            ["bash", "-c", CONVENTIONAL, "bash", str(packed), str(scratch), sys.executable],
            scratch,
            {"DECOMPRESS": f"{compress[0]} -dc"},
        )
        conventional.append(one)
        if abs(json.loads(output)["size"] - made["size"]) > made["size"] // 100:
            raise SystemExit("the two made different layers")
    return {
        "bytes": nar.stat().st_size,
        "packed": packed.stat().st_size,
        "peak": peak,
        "ours": _medians(ours),
        "conventional": _medians(conventional),
    }


def _medians(runs: list[Run]) -> dict[str, Any]:
    return {
        "wall": round(statistics.median(each.wall for each in runs), 3),
        "cpu": round(statistics.median(each.cpu for each in runs), 3),
        "walls": [round(each.wall, 3) for each in runs],
    }


def _narinfo(nar: Path, packed: Path, compression: str) -> str:
    lines = {"StorePath": PATH, "URL": "nar/file", "Compression": compression}
    for name, path in {"File": packed, "Nar": nar}.items():
        with path.open("rb") as file:
            lines[f"{name}Hash"] = "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
        lines[f"{name}Size"] = str(path.stat().st_size)
    return "".join(f"{name}: {value}\n" for name, value in lines.items())
