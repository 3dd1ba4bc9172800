"""The table of the operating guide, made from what the benchmarks measured last. Pure."""

from typing import Any


def measured_table(results: dict[str, Any]) -> str:
    """The rows that an operator sizes by.

    Args:
        results: `bench/results.json`.
    """
    packing, gc = results["packing"], results["gc"]
    trees, peak = packing["throughput"], packing["memory"]["peak"]
    straight = {name: each["straight"] for name, each in results["substitution"]["caches"].items()}
    gateway = results["gateway"]["gateway"]
    objects = max(gc, key=int)
    (paths, planned), *_ = results["planner"]["seconds"].items()
    fetched = results["substitution"]["bytes"]
    updates = [change["seconds"] for change in packing["incremental"][0]["changes"]]
    collection = gc[objects]["collection"]
    asked = collection["requests"]
    rows = [
        *((f"packing and compressing {name}, zstd", _rate(tree)) for name, tree in trees.items()),
        *(
            (
                f"memory of packing {_gigabytes(packing['memory']['bytes'])}, {n} threads",
                _mib(bytes_),
            )
            for n, bytes_ in sorted(peak.items(), key=lambda each: int(each[0]))
        ),
        *(
            (
                f"an image of {_megabytes(fetched)} from a binary cache with {name}",
                f"{each['wall']:.1f} s, {_megabytes(each['written'])} written",
            )
            for name, each in straight.items()
        ),
        (
            f"an update within {_megabytes(packing['incremental'][0]['bytes'])}",
            f"{min(updates):.2f} to {max(updates):.2f} s",
        ),
        ("manifests that one gateway serves", f"{gateway['manifests']:,.0f} a second"),
        ("blobs that one gateway serves from a folder", f"{gateway['blobs']:,.0f} MiB a second"),
        (
            f"{gateway['pulls']:,} pulls at once: the gateway's memory",
            f"{gateway['peak_mib']:.0f} MiB",
        ),
        (
            f"garbage collection over {int(objects):,} objects",
            f"{collection['seconds']:.0f} s, {asked['list']} lists, {asked['read']:,} reads",
        ),
        (f"planning the layers of {int(paths):,} store paths", f"{planned:.1f} s"),
    ]
    lines = [f"| {what} | {figure} |" for what, figure in rows]
    return "\n".join(["| what | figure |", "|---|---|", *lines])


def _rate(tree: dict[str, Any]) -> str:
    return f"{tree['bytes'] / 1e6 / tree['programs']['niximage']['wall']:.0f} MB/s"


def _megabytes(count: float) -> str:
    return f"{count / 1e6:.0f} MB"


def _gigabytes(count: float) -> str:
    return f"{count / 1e9:.1f} GB"


def _mib(count: float) -> str:
    return f"{count / (1 << 20):.0f} MiB"
