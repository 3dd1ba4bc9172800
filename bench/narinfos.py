"""Planning alone: the closure of a thousand store paths from signed narinfos, at several distances.

The cache is served by another process on loopback, which waits before each answer as long as a
network would take.
"""

import asyncio
import hashlib
import json
import multiprocessing
import statistics
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

from aiohttp import web

from bench.made_cache import MadeCache, sri, store_path
from bench.packing import measured
from niximage.image.closure import Closure, PathInfo
from niximage.nix.hashes import nix32
from niximage.nix.signature import TrustedKeys
from niximage.nix.substituters import Substituters

PATHS: Final = 1000
DELAYS: Final = (0, 20, 80)  # milliseconds
ROUNDS: Final = 3


def run(*, quick: bool) -> dict[str, Any]:
    """Measure; half a minute."""
    with tempfile.TemporaryDirectory(prefix="niximage-bench-") as name:
        folder = Path(name)
        root, key = _make(folder)
        found: dict[str, Any] = {}
        for delay in DELAYS[:1] if quick else DELAYS:
            with _served(folder, delay / 1000) as url:
                request = json.dumps({"url": url, "root": root, "key": key})
                command = [sys.executable, "-m", "bench.narinfos", request]
                scratch = folder / "scratch"
                rounds = range(1 if quick else ROUNDS)
                runs = [measured(command, scratch, {})[0] for _ in rounds]
                start = [measured([*command, "idle"], scratch, {})[0] for _ in rounds]
            found[str(delay)] = {
                name: round(
                    statistics.median(getattr(each, name) for each in runs)
                    - statistics.median(getattr(each, name) for each in start),
                    3,
                )
                for name in ("wall", "cpu")
            }
        return {"paths": PATHS, "delays": found}


def table(results: Mapping[str, Any]) -> str:
    """The results for people."""
    return "\n".join(
        [
            f"{results['paths']} signed narinfos over HTTP, without the start of Python, medians:",
            "",
            "| answers after ms | wall s | CPU s |",
            "|---|---|---|",
            *(
                f"| {delay} | {each['wall']:.2f} | {each['cpu']:.2f} |"
                for delay, each in results["delays"].items()
            ),
        ]
    )


def _make(folder: Path) -> tuple[str, str]:
    """A cache without NARs; returns the path that leads to all others, and the public key."""
    cache = MadeCache.make(folder)
    paths = [store_path(f"package-{i}") for i in range(PATHS)]
    for i, path in enumerate(paths):
        # A tree of dependencies, and some that many share.
        below = {2 * i + 1, 2 * i + 2, PATHS - 1 - i % 50}
        references = tuple(sorted(paths[j] for j in below if i < j < PATHS))
        nar_hash = sri(hashlib.sha256(path.encode()).digest())
        info = PathInfo(path, nar_hash, 1000 + i, references)
        url = f"nar/{nix32(nar_hash).removeprefix('sha256:')}.nar.zst"
        cache.add(info, url=url, compression="zstd", file_hash=nar_hash, size=500)
    return paths[0], cache.public_key


@contextmanager
def _served(folder: Path, delay: float) -> Iterator[str]:
    here, there = multiprocessing.Pipe()
    process = multiprocessing.Process(target=_serve, args=(folder, delay, there), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{here.recv()}"
    finally:
        process.terminate()
        process.join()


def _serve(folder: Path, delay: float, started: Connection) -> None:
    files = {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}

    async def answer(request: web.Request) -> web.Response:
        await asyncio.sleep(delay)
        return web.Response(body=files[request.match_info["name"]])

    async def main() -> None:
        app = web.Application()
        app.router.add_get("/{name}", answer)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        started.send(runner.addresses[0][1])
        await asyncio.Event().wait()

    asyncio.run(main())


def _plan(request: Mapping[str, str]) -> None:
    with Substituters([request["url"]], TrustedKeys.parse([request["key"]])) as caches:
        assert len(Closure.of(caches.walk([request["root"]]).infos())) == PATHS


if __name__ == "__main__" and len(sys.argv) == 2:  # noqa: PLR2004 (else only the imports count)
    _plan(json.loads(sys.argv[1]))
