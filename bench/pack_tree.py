"""`python -m bench.pack_tree TREE FOLDER [THREADS]`: pack a tree, say what came of it.

A program of its own, so that Python's start counts in its time, and nothing else does in its
memory.
"""

import json
import sys
from pathlib import Path

from niximage.image.entries import walk
from niximage.image.pack import PackedLayer, pack


def main() -> None:
    """Pack a tree."""
    tree, folder = sys.argv[1:3]
    threads = int(sys.argv[3]) if sys.argv[3:] else None
    report(pack(walk(tree), Path(folder), threads=threads))


def report(layer: PackedLayer) -> None:
    """Remove the blob, print digests, sizes and the most memory that was resident."""
    layer.path.unlink()
    print(
        json.dumps(
            {
                "diff_id": layer.diff_id,
                "digest": layer.descriptor.digest,
                "tar_size": layer.tar_size,
                "size": layer.descriptor.size,
                "peak": peak(),
            }
        )
    )


def peak() -> int:
    """The most bytes of memory that this process had.

    getrusage would count the parent's, too, from before this program was started.
    """
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) << 10
    raise SystemExit("this kernel does not tell a process's peak memory")


if __name__ == "__main__":
    main()
