"""The gateway against nginx and CNCF Distribution 3: small manifests and large blobs.

All three serve one folder on loopback, one after the other and then again, to `wrk`. The best of
the rounds counts, for what disturbs a run only ever makes it slower. nginx runs a worker per
processor, the gateway is one process; both write an access log, as they come.
"""

import asyncio
import hashlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp

from niximage.bucket import keys
from niximage.bucket.file import FileStore
from niximage.bucket.publish import publish_manifest, put_blob
from niximage.image.descriptor import CONFIG, LAYER_ZSTD, MANIFEST, Descriptor

PROJECT: Final = Path(__file__).parents[1]
REPOSITORY: Final = "bench/image"
LAYERS: Final = 20
LARGE: Final = 256 << 20  # bytes of the one large layer
PULLS: Final = 1000

Json = dict[str, Any]


@dataclass(frozen=True)
class Image:
    """What is pulled."""

    manifest: bytes
    large: Descriptor

    @property
    def digest(self) -> str:
        """What the image is pulled by."""
        return Descriptor.of(MANIFEST, self.manifest).digest


def publish(store: FileStore, size: int) -> Image:
    """An image with one large layer and many small ones."""
    config = b'{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}'
    described = Descriptor.of(CONFIG, config)
    put_blob(store, described, config)
    layers = []
    for number in range(LAYERS):
        seed = hashlib.sha256(str(number).encode()).digest()
        content = (seed * (1 << 15))[:8192] if number else os.urandom(1 << 20) * (size >> 20)
        layers.append(Descriptor.of(LAYER_ZSTD, content))
        put_blob(store, layers[-1], content)
    document = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": described.to_json(),
        "layers": [layer.to_json() for layer in layers],
    }
    manifest = json.dumps(document).encode()
    publish_manifest(store, REPOSITORY, manifest, tags=("latest",))
    return Image(manifest, layers[0])


@dataclass(frozen=True)
class Server:
    """A server, and where it has the manifest and the large blob."""

    name: str
    url: str
    manifest: str
    blob: str
    pid: int


def free_port() -> int:
    """A port of loopback that nothing listens on now."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@contextmanager
def program(command: list[str], url: str, log: Path, **environment: str) -> Iterator[int]:
    """A server as a process, once it answers."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=output, env={**os.environ, **environment}
        )
    try:
        deadline = time.monotonic() + 20
        while True:
            try:
                with urllib.request.urlopen(url, timeout=2):  # noqa: S310 (loopback)
                    break
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"{command[0]}: {log.read_text()[-2000:]}") from None
                time.sleep(0.05)
        yield process.pid
    finally:
        process.terminate()
        process.wait(30)


@contextmanager
def nginx(bucket: Path, image: Image, folder: Path) -> Iterator[Server]:
    """Debian's nginx with its own defaults, over the same files."""
    port = free_port()
    temporary = "".join(
        f"{kind}_temp_path {folder}/{kind};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    config = folder / "nginx.conf"
    config.write_text(
        f"user root; worker_processes auto; worker_rlimit_nofile 16384; pid {folder}/nginx.pid;"
        f"daemon off; error_log stderr; events {{ worker_connections 8192; }}"
        f"http {{ access_log {folder}/access.log; sendfile on; tcp_nopush on; {temporary}"
        f"server {{ listen 127.0.0.1:{port}; root {bucket}; }} }}"
    )
    url = f"http://127.0.0.1:{port}"
    manifest, blob = (f"/{keys.blob(digest)}" for digest in (image.digest, image.large.digest))
    with program(["nginx", "-c", str(config)], url + manifest, folder / "nginx.log") as pid:
        yield Server("nginx", url, manifest, blob, pid)


@contextmanager
def distribution(bucket: Path, image: Image, folder: Path) -> Iterator[Server]:
    """CNCF Distribution 3 with its descriptors cached in memory."""
    tools = subprocess.run(
        [sys.executable, "cluster", "tools", "distribution"],
        cwd=PROJECT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()[-1]
    port = free_port()
    config = folder / "distribution.yml"
    config.write_text(
        json.dumps(
            {
                "version": 0.1,
                "log": {"level": "error"},
                "storage": {
                    "filesystem": {"rootdirectory": str(bucket)},
                    "cache": {"blobdescriptor": "inmemory"},
                    "maintenance": {
                        "uploadpurging": {"enabled": False},
                        "readonly": {"enabled": True},
                    },
                },
                "http": {"addr": f"127.0.0.1:{port}"},
            }
        )
    )
    url = f"http://127.0.0.1:{port}"
    log = folder / "distribution.log"
    with program([f"{tools}/distribution", "serve", str(config)], f"{url}/v2/", log) as pid:
        yield registry("distribution", url, image, pid)


@contextmanager
def gateway(bucket: Path, image: Image, folder: Path) -> Iterator[Server]:
    """Ours, as a node runs it."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "niximage", "serve"]
    settings = {"NIXIMAGE_BUCKET": bucket.as_uri(), "NIXIMAGE_PORT": str(port)}
    with program(command, f"{url}/healthz", folder / "gateway.log", **settings) as pid:
        yield registry("gateway", url, image, pid)


def registry(name: str, url: str, image: Image, pid: int) -> Server:
    """A server of the registry's protocol."""
    base = f"/v2/{REPOSITORY}"
    manifest, blob = f"{base}/manifests/{image.digest}", f"{base}/blobs/{image.large.digest}"
    return Server(name, url, manifest, blob, pid)


def wrk(url: str, *, connections: int, seconds: int) -> tuple[float, float]:
    """Answers per second, and bytes per second; an answer that fails stops the benchmark."""
    # As many threads as processors: one alone copies less than any of the servers gives it.
    threads = min(connections, os.cpu_count() or 1)
    command = [
        "wrk",
        f"-t{threads}",
        f"-c{connections}",
        f"-d{seconds}s",
        "-H",
        f"Accept: {MANIFEST}",
        url,
    ]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    if "Non-2xx" in text or ("Socket errors" in text and not _only_timeouts(text)):
        raise RuntimeError(text)
    rate = re.search(r"Requests/sec:\s+([0-9.]+)", text)
    moved = re.search(r"Transfer/sec:\s+([0-9.]+)([KMG]?)B", text)
    if rate is None or moved is None:
        raise RuntimeError(text)
    unit = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}[moved[2]]
    return float(rate[1]), float(moved[1]) * unit


def _only_timeouts(text: str) -> bool:
    """Whether clients only waited long: on a busy machine that is no failure of a server."""
    return re.search(r"connect 0, read 0, write 0, timeout", text) is not None


async def pulls(server: Server, image: Image, count: int) -> Json:
    """So many nodes that pull the whole image but its large layer, at once, on loopback."""
    small = [each["digest"] for each in json.loads(image.manifest)["layers"][1:]]
    base = server.manifest.rpartition("/manifests/")[0]
    paths = [server.manifest, *(f"{base}/blobs/{digest}" for digest in small)]
    connector = aiohttp.TCPConnector(limit=0)
    failed = 0

    async def pull(http: aiohttp.ClientSession) -> None:
        nonlocal failed
        for path in paths:
            try:
                async with http.get(path) as answer:
                    await answer.read()
                    failed += answer.status != 200  # noqa: PLR2004 (HTTP's own number)
            except (aiohttp.ClientError, TimeoutError):
                failed += 1

    timeout = aiohttp.ClientTimeout(total=300)
    async with aiohttp.ClientSession(server.url, connector=connector, timeout=timeout) as http:
        began = time.monotonic()
        await asyncio.gather(*(pull(http) for _ in range(count)))
        seconds = time.monotonic() - began
    return {"pulls": count, "seconds": seconds, "failed": failed, "peak_mib": peak(server.pid)}


def cpu(pid: int) -> float:
    """Seconds of CPU that a process and its children have used."""
    ticks = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # ended since we looked
        if int(stat.parent.name) == pid or int(fields[1]) == pid:
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def peak(pid: int) -> float:
    """The most memory that a process has had, in MiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(found[1]) / 1024 if found else 0.0


def measure(server: Server, seconds: int) -> Json:
    """One round: what a server gives away, and what CPU that takes."""
    began = cpu(server.pid)
    rate, _ = wrk(server.url + server.manifest, connections=32, seconds=seconds)
    between = cpu(server.pid)
    _, moved = wrk(server.url + server.blob, connections=4, seconds=seconds)
    mib = moved / (1 << 20)
    return {
        "manifests": rate,
        "blobs": mib,
        "manifest_cpu": (between - began) / (rate * seconds),
        "blob_cpu": (cpu(server.pid) - between) / (mib * seconds),
    }


def _keep(best: Json, found: Json) -> None:
    """The best of each figure: CPU is better the less of it."""
    for name, value in found.items():
        better = min if name.endswith("_cpu") else max
        best[name] = better(best.get(name, value), value)


def run(*, quick: bool) -> Json:
    """Measure all three, some rounds each."""
    subprocess.run([PROJECT / ".ci/packages", "nginx-light", "wrk"], check=True)
    rounds, seconds = (1, 1) if quick else (8, 2)
    results: dict[str, Json] = {}
    with tempfile.TemporaryDirectory(prefix="niximage-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        bucket = folder / "bucket"
        image = publish(FileStore(bucket), (16 << 20) if quick else LARGE)
        for _ in range(rounds):
            for start in (nginx, gateway, distribution):
                with start(bucket, image, folder) as server:
                    _keep(results.setdefault(server.name, {}), measure(server, seconds))
        with gateway(bucket, image, folder) as server:
            results["gateway"] |= asyncio.run(pulls(server, image, 50 if quick else PULLS))
        shutil.rmtree(bucket)
    return dict(results)


def table(results: Json) -> str:
    """The figures, and what they are of nginx's and of Distribution's."""
    ours = results["gateway"]
    lines = [
        "| server | manifests/s | ours / it | CPU each | blobs MiB/s | ours / it | CPU a GiB |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name, of in results.items():
        cells = [
            name,
            f"{of['manifests']:.0f}",
            f"{ours['manifests'] / of['manifests']:.2f}",
            f"{of['manifest_cpu'] * 1e6:.0f} µs",
            f"{of['blobs']:.0f}",
            f"{ours['blobs'] / of['blobs']:.2f}",
            f"{of['blob_cpu'] * 1024:.2f} s",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    at_once = (
        f"{ours['pulls']} pulls at once: {ours['failed']} failed, {ours['seconds']:.1f} s; "
        f"at most {ours['peak_mib']:.0f} MiB of memory."
    )
    return "\n".join([*lines, "", at_once])
