"""The memory of the step `publish`, as a build Job runs it, when the files are huge.

Three store paths of a file of 1 GiB each lie in a binary cache; of their NARs publish makes
layers in a bucket. What the files hold is a third zeros, a third text and a third noise.
"""

import base64
import hashlib
import json
import os
import random
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import zstandard

from bench.made_cache import MadeCache, sri, store_path
from bench.pack_tree import peak
from bench.packing import measured
from niximage.api.build import BuildOutputs, BuildRequest, BuiltPackage, PinnedSource
from niximage.api.platforms import DEFAULT_PLATFORM
from niximage.api.spec import Config
from niximage.builder.steps import publish_step
from niximage.image.closure import PathInfo

PATHS: Final = 3
PIECE: Final = 1 << 20
PIECES: Final = 1024  # of a file: 1 GiB
QUICK_PIECES: Final = 16


def run(*, quick: bool) -> dict[str, Any]:
    """Measure; a minute, or seconds that only show that it works."""
    pieces = QUICK_PIECES if quick else PIECES
    with tempfile.TemporaryDirectory(prefix="niximage-bench-") as name:
        folder = Path(name)
        cache = MadeCache.make(folder / "cache")
        (cache.folder / "nar").mkdir()
        infos = [_add(cache, f"package-{letter}", pieces) for letter in "abc"[:PATHS]]
        scratch = folder / "scratch"
        settings = {"cache": cache.folder.as_uri(), "key": cache.public_key, "work": str(scratch)}
        request = json.dumps({**settings, "paths": [info.path for info in infos]})
        one, output = measured([sys.executable, "-m", "bench.publish", request], scratch, {})
        return {
            "paths": PATHS,
            "bytes": sum(info.nar_size for info in infos),
            "file": pieces * PIECE,
            "processors": len(os.sched_getaffinity(0)),
            "wall": round(one.wall, 3),
            "cpu": round(one.cpu, 3),
            "peak": int(output.splitlines()[-1]),
        }


def table(results: Mapping[str, Any]) -> str:
    """The results for people."""
    title = (
        f"The step `publish` over {results['paths']} store paths of one file of "
        f"{results['file'] / 1e6:.0f} MB each, from a zstd cache, "
        f"{results['processors']} processors:"
    )
    row = [
        f"{results['bytes'] / 1e6:.0f}",
        f"{results['wall']:.1f}",
        f"{results['cpu']:.1f}",
        f"{results['peak'] / (1 << 20):.0f}",
    ]
    head = "| MB | wall s | CPU s | most memory MiB |"
    return "\n".join([title, "", head, "|---|---|---|---|", f"| {' | '.join(row)} |"])


def _add(cache: MadeCache, name: str, pieces: int) -> PathInfo:
    """A store path of one huge file, which never lies anywhere but in its compressed NAR."""
    path, url = store_path(name), f"nar/{name}.nar.zst"
    nar_hash, nar_size = hashlib.sha256(), 0
    file = cache.folder / url
    with file.open("wb") as out, zstandard.ZstdCompressor(threads=-1).stream_writer(out) as packed:
        for piece in _nar(name, pieces):
            nar_hash.update(piece)
            nar_size += len(piece)
            packed.write(piece)
    with file.open("rb") as made:
        file_hash = hashlib.file_digest(made, "sha256").digest()
    info = PathInfo(path, sri(nar_hash.digest()), nar_size, ())
    size = file.stat().st_size
    cache.add(info, url=url, compression="zstd", file_hash=sri(file_hash), size=size)
    return info


def _nar(name: str, pieces: int) -> Iterator[bytes]:
    """The NAR of a folder with one file of this name and so many pieces."""
    yield _texts(b"nix-archive-1", b"(", b"type", b"directory", b"entry", b"(", b"name")
    yield _texts(name.encode(), b"node", b"(", b"type", b"regular", b"contents")
    yield (pieces * PIECE).to_bytes(8, "little")
    rest = random.Random(name)
    third = PIECE // 3
    for _ in range(pieces):
        noise = rest.randbytes(third)
        yield (noise + base64.b64encode(rest.randbytes(third))[:third]).ljust(PIECE, b"\0")
    yield _texts(b")", b")", b")")


def _texts(*strings: bytes) -> bytes:
    return b"".join(
        len(each).to_bytes(8, "little") + each + bytes(-len(each) % 8) for each in strings
    )


def _publish(request: Mapping[str, Any]) -> None:
    """The step, told what to do as its container is."""
    work = Path(request["work"])
    (work / "bucket").mkdir()
    names = [path.rpartition("-")[2] for path in request["paths"]]
    packages = [
        BuiltPackage(attribute=name, outputs={"out": path})
        for name, path in zip(names, request["paths"], strict=True)
    ]
    outputs = BuildOutputs(packages={DEFAULT_PLATFORM: packages})
    (work / "outputs.json").write_text(outputs.model_dump_json(by_alias=True))
    wanted = BuildRequest(
        namespace="bench",
        repository="bench/image",
        input_hash="0" * 64,
        packages=names,
        source=PinnedSource(url="https://localhost/source", revision="0" * 40),
        config=Config(),
    )
    code = publish_step(
        {
            "NIXIMAGE_REQUEST": wanted.to_variable(),
            "NIXIMAGE_BUCKET": (work / "bucket").as_uri(),
            "NIXIMAGE_SUBSTITUTERS": request["cache"],
            "NIXIMAGE_TRUSTED_PUBLIC_KEYS": request["key"],
            "NIXIMAGE_WORK": str(work),
            "NIXIMAGE_TERMINATION_LOG": str(work / "termination-log"),
        }
    )
    assert code == 0, (work / "termination-log").read_text()
    print(peak())


if __name__ == "__main__":
    _publish(json.loads(sys.argv[1]))
