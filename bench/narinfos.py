"""Planning alone: the closure of a thousand store paths from signed narinfos, at several distances.

The cache is served by another process on loopback, which waits before each answer as long as a
network would take.
"""

import asyncio
import base64
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
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bench.packing import measured
from niximage.image.closure import Closure, PathInfo
from niximage.nix.hashes import nix32
from niximage.nix.signature import TrustedKeys, fingerprint
from niximage.nix.substituters import Substituters

PATHS: Final = 1000
DELAYS: Final = (0, 20, 80)  # milliseconds
ROUNDS: Final = 3
KEY: Final = "bench-1"


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
    key = Ed25519PrivateKey.generate()
    paths = [f"/nix/store/{_digits(i)}-package-{i}" for i in range(PATHS)]
    (folder / "nix-cache-info").write_text("StoreDir: /nix/store\n")
    for i, path in enumerate(paths):
        # A tree of dependencies, and some that many share.
        below = {2 * i + 1, 2 * i + 2, PATHS - 1 - i % 50}
        references = tuple(sorted(paths[j] for j in below if i < j < PATHS))
        digest = base64.b64encode(hashlib.sha256(path.encode()).digest()).decode()
        info = PathInfo(path, f"sha256-{digest}", 1000 + i, references)
        nar_hash = nix32(info.nar_hash)
        signature = base64.b64encode(key.sign(fingerprint(info))).decode()
        fields = {
            "StorePath": path,
            "URL": f"nar/{nar_hash.removeprefix('sha256:')}.nar.zst",
            "Compression": "zstd",
            "FileHash": nar_hash,
            "FileSize": "500",
            "NarHash": nar_hash,
            "NarSize": str(info.nar_size),
            "References": " ".join(Path(reference).name for reference in references),
            "Sig": f"{KEY}:{signature}",
        }
        text = "".join(f"{name}: {value}\n" for name, value in fields.items())
        (folder / f"{_digits(i)}.narinfo").write_text(text)
    return paths[0], f"{KEY}:{base64.b64encode(key.public_key().public_bytes_raw()).decode()}"


def _digits(number: int) -> str:
    """Something like a store path's hash: Nix writes no e in them."""
    return hashlib.sha256(str(number).encode()).hexdigest()[:32].replace("e", "z")


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
