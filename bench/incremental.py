"""One package of an image changes: what is read and uploaded again, against what changed.

The packages are folders of real files in the place of store paths; planner, keys, packer and
a file:// bucket are the program's own. As in Nix, whatever refers to a changed path, over any
number of steps, changes too.
"""

import base64
import hashlib
import os
import random
import shutil
import statistics
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from bench.trees import Tree
from niximage.bucket.store import ObjectStore, open_store
from niximage.builder.layers import WantedLayer, bring_layers, root_layer, store_layers
from niximage.builder.progress import silent
from niximage.image.closure import STORE, Closure, PathInfo
from niximage.image.entries import FileEntry, walk
from niximage.image.pack import Packer
from niximage.image.root import Root

REFERENCES: Final = 3  # the most that a package has
OVERHEAD: Final = 64 << 10  # bytes that an update may upload beside 1.1 times what changed
FACTOR: Final = 1.1


@dataclass(frozen=True)
class Image:
    """A closure whose store paths lie in a folder.

    Attributes:
        closure: what Nix would tell of it.
        homes: for each store path, the folder in its place.
    """

    closure: Closure
    homes: Mapping[str, str]

    def layers(self) -> list[WantedLayer]:
        """The layers."""
        return [*store_layers(self.closure), root_layer(Root((), ""))]

    def entries(self, infos: Iterable[PathInfo]) -> Iterator[FileEntry]:
        """The files of the folders: see `niximage.image.contents.StoreContents`."""
        for info in infos:
            yield from walk(self.homes[info.path])

    def stop(self) -> None:
        """A folder makes nobody wait."""


def measure(made: Sequence[Tree], scratch: Path, *, changes: int) -> dict[str, Any]:
    """Bring an image into a bucket, then again with one package changed, several times.

    Args:
        made: the packages.
        scratch: an empty folder on the packages' file system.
        changes: how many packages to change, one after the other.
    """
    chance = random.Random(7)
    references = [
        sorted(chance.sample(range(i), k=min(i, chance.randint(0, REFERENCES))))
        for i in range(len(made))
    ]
    made = [_in_store(tree, scratch, "first") for tree in made]
    bucket = open_store((scratch / "bucket").as_uri())
    try:
        started = time.monotonic()
        _bring(_image(made, references), bucket, scratch)
        cold = time.monotonic() - started
        # From a package that many refer to, to one that nobody does.
        indices = [(i + 1) * len(made) // changes - 1 for i in range(changes)]
        found = [_change(made, references, index, bucket, scratch) for index in indices]
    finally:
        bucket.close()
    ratios = [each["uploaded"] / each["changed_compressed"] for each in found]
    return {
        "paths": len(made),
        "bytes": sum(tree.size for tree in made),
        "cold_seconds": round(cold, 2),
        "changes": found,
        "median_ratio": round(statistics.median(ratios), 3),
        "worst_ratio": round(max(ratios), 3),
        "worst_excess": max(
            round(each["uploaded"] - FACTOR * each["changed_compressed"]) for each in found
        ),
    }


def _change(
    made: Sequence[Tree],
    references: Sequence[Sequence[int]],
    index: int,
    bucket: ObjectStore,
    scratch: Path,
) -> dict[str, Any]:
    """Change one package, and with it all that refer to it."""
    changed = {index}
    for i, below in enumerate(references):
        if not changed.isdisjoint(below):
            changed.add(i)
    new = {i: _in_store(made[i], scratch, f"change{index}") for i in changed}
    image = _image([new.get(i, tree) for i, tree in enumerate(made)], references)
    stored, read, started = _stored(scratch), _read(), time.monotonic()
    _bring(image, bucket, scratch)
    seconds, read, stored = time.monotonic() - started, _read() - read, _stored(scratch) - stored
    with Packer() as packer:
        alone = [packer.pack(walk(str(tree.path)), scratch) for tree in new.values()]
    for layer in alone:
        layer.path.unlink()
    return {
        "changed_paths": len(changed),
        "changed_bytes": sum(made[i].size for i in changed),
        "changed_compressed": sum(layer.descriptor.size for layer in alone),
        "uploaded": stored,
        "read": read,
        "seconds": round(seconds, 2),
    }


def _in_store(tree: Tree, scratch: Path, version: str) -> Tree:
    """A package's files once more, in a folder that is named as its store path.

    The folders' order is that of the store paths, as a layer wants it.
    """
    name = tree.path.name.rpartition("-")[2]
    home = scratch / "store" / f"{_hash(f'{name} {version}')}-{name}"
    shutil.copytree(tree.path, home, copy_function=os.link)
    return replace(tree, path=home)


def _image(made: Sequence[Tree], references: Sequence[Sequence[int]]) -> Image:
    """The image of packages that lie in folders with the names of store paths."""
    paths = [f"{STORE}{tree.path.name}" for tree in made]
    infos = [
        PathInfo(
            path,
            f"sha256-{base64.b64encode(hashlib.sha256(path.encode()).digest()).decode()}",
            tree.size,
            tuple(paths[i] for i in below),
        )
        for path, tree, below in zip(paths, made, references, strict=True)
    ]
    return Image(
        Closure.of(infos), {path: str(tree.path) for path, tree in zip(paths, made, strict=True)}
    )


def _hash(text: str) -> str:
    """Something like a store path's hash: Nix writes no e in them."""
    return hashlib.sha256(text.encode()).hexdigest()[:32].replace("e", "z")


def _bring(image: Image, bucket: ObjectStore, scratch: Path) -> None:
    spool = scratch / "spool"
    spool.mkdir(exist_ok=True)
    bring_layers(
        image.layers(),
        contents=image,
        bucket=bucket,
        namespace="bench",
        scratch=spool,
        say=silent,
    )


def _stored(scratch: Path) -> int:
    """Bytes in the bucket, records and all."""
    return sum(path.stat().st_size for path in (scratch / "bucket").rglob("*") if path.is_file())


def _read() -> int:
    """Bytes that this process ever read, from whatever file, spool files included."""
    return int(Path("/proc/self/io").read_text().split()[1])
