"""A control plane, an operator as a process, and a fleet of NixImages: what `scale` measures on."""

import asyncio
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Final

import aiohttp

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from support.api import IMAGES, Api, Refused
from support.git_server import GitServer

Json = dict[str, Any]

PROJECT: Final = Path(__file__).parents[1]
CREATORS: Final = 16  # creates in flight
TICKS: Final = os.sysconf("SC_CLK_TCK")
PORT: Final = 18_080  # of the operator's figures


@contextlib.contextmanager
def control_plane() -> Iterator[Path]:
    """A new etcd, API server and controller manager with the CRDs; gives the kubeconfig."""
    folder = Path(tempfile.mkdtemp(prefix="niximage-bench-"))
    state = ["--state", str(folder / "state")]
    try:
        _run("python3", "cluster", "up", "--mode", "control-plane", *state)
        kubeconfig = folder / "state" / "kubeconfig"
        kubectl = Path(_run("python3", "cluster", "tools", "kubectl").strip()) / "kubectl"
        admin = (str(kubectl), "--kubeconfig", str(kubeconfig))
        _run(*admin, "apply", "-k", "crds")
        _run(*admin, "wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
        yield kubeconfig
    finally:
        _run("python3", "cluster", "down", *state)
        shutil.rmtree(folder, ignore_errors=True)


def _run(*command: str) -> str:
    done = subprocess.run(
        command, cwd=PROJECT, capture_output=True, text=True, timeout=280, check=True
    )
    return done.stdout


class Program:
    """A process whose time and memory are measured."""

    def __init__(self, command: list[str], environment: dict[str, str], log: Path) -> None:
        self._command = command
        self._environment = {**os.environ, **environment}
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        self.started = 0.0

    def start(self) -> None:
        """Start it; it may take a while until it works."""
        self.started = time.monotonic()
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(
                self._command, stdout=output, stderr=output, env=self._environment
            )

    def stop(self) -> None:
        """End it, and wait for that."""
        assert self._process is not None
        self._process.terminate()
        try:
            self._process.wait(40)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10)

    @property
    def cpu(self) -> float:
        """Seconds of CPU so far."""
        assert self._process is not None
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def memory(self, kind: str = "VmRSS") -> float:
        """MiB that it holds, or held at most (`VmHWM`)."""
        assert self._process is not None
        for line in Path(f"/proc/{self._process.pid}/status").read_text().splitlines():
            if line.startswith(f"{kind}:"):
                return int(line.split()[1]) / 1024
        raise RuntimeError(f"{self._command[0]} has ended: {self._log.read_text()[-2000:]}")

    async def until_idle(self, patience: float = 400) -> float:
        """Wait until it does next to nothing; seconds of `time.monotonic` when that began."""
        deadline = time.monotonic() + patience
        began, before = time.monotonic(), self.cpu
        quiet = 0
        while quiet < 6:  # noqa: PLR2004 (three seconds of looks)
            if time.monotonic() > deadline:
                raise RuntimeError("it never comes to rest")
            await asyncio.sleep(0.5)
            used, before = self.cpu - before, self.cpu
            quiet = quiet + 1 if used < 0.05 else 0  # noqa: PLR2004 (a tenth of a processor)
            if quiet == 0:
                began = time.monotonic()
        return began

    async def until_figure(self, name: str, least: float, patience: float = 400) -> None:
        """Wait until one of the operator's own figures is as large as this."""
        deadline = time.monotonic() + patience
        while await _figure(name) < least:
            if time.monotonic() > deadline:
                raise RuntimeError(f"{name} does not come to {least:.0f}")
            await asyncio.sleep(0.5)


def operator(kubeconfig: Path, bucket: Path, git: GitServer, log: Path) -> Program:
    """The operator, as a chart would start it."""
    return Program(
        [sys.executable, "-m", "niximage", "operator"],
        {
            "KUBECONFIG": str(kubeconfig),
            "NIXIMAGE_BUCKET": bucket.as_uri(),
            "NIXIMAGE_REGISTRY": "127.0.0.1:5000",
            "NIXIMAGE_NIXPKGS_URL": git.url,
            "NIXIMAGE_BUILDER_IMAGE": "niximage-operator:none",
            "NIXIMAGE_LISTEN": f"127.0.0.1:{PORT}",
        },
        log,
    )


async def _figure(name: str) -> float:
    """The sum of all series of one of the operator's own figures; 0 while it does not answer."""
    try:
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.1:{PORT}/metrics") as answer,
        ):
            text = await answer.text()
    except aiohttp.ClientError:
        return 0.0
    lines = (line for line in text.splitlines() if line.startswith((f"{name} ", f"{name}{{")))
    return sum(float(line.rpartition(" ")[2]) for line in lines)


class Fleet:
    """NixImages of many namespaces, and when what was said of each."""

    def __init__(self, api: Api, keys: list[tuple[str, str]]) -> None:
        self._api = api
        self.keys = keys
        self.created: dict[tuple[str, str], float] = {}
        self.answered: dict[tuple[str, str], float] = {}
        self.ready: dict[tuple[str, str], float] = {}
        self.revision: dict[tuple[str, str], str] = {}

    @contextlib.asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Note what is said while the body runs."""
        task = asyncio.create_task(self._watch())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _watch(self) -> None:
        while True:  # an API server ends watches when it likes, above all of new kinds
            async for _, image in self._api.watch(f"{IMAGES}/niximages"):
                self._note(image)

    def _note(self, image: Json) -> None:
        metadata, status = image["metadata"], image.get("status") or {}
        key = (metadata["namespace"], metadata["name"])
        told = {c["type"]: c["status"] for c in status.get("conditions", [])}
        now = time.monotonic()
        if told:
            self.answered.setdefault(key, now)
        if told.get("Ready") == "True":
            self.ready.setdefault(key, now)
            self.revision[key] = (status.get("artifact") or {}).get("revision", "")

    async def create(self, spec_of: Any) -> None:
        """Apply all of them, some at once."""
        for namespace in sorted({namespace for namespace, _ in self.keys}):
            metadata = {"name": namespace}
            body = {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}
            with contextlib.suppress(Refused):
                await self._api.call("POST", "/api/v1/namespaces", body)
        left = iter(self.keys)

        async def some() -> None:
            for key in left:
                namespace, name = key
                image = {
                    "apiVersion": "niximage.dev/v1alpha1",
                    "kind": "NixImage",
                    "metadata": {"namespace": namespace, "name": name},
                    "spec": spec_of(key),
                }
                path = f"{IMAGES}/namespaces/{namespace}/niximages"
                await self._api.call("POST", path, image)
                self.created[key] = time.monotonic()

        await asyncio.gather(*(some() for _ in range(CREATORS)))

    async def until(self, what: str, done: Any, patience: float = 900) -> None:
        """Wait until something is so."""
        deadline = time.monotonic() + patience
        while not done():
            if time.monotonic() > deadline:
                raise RuntimeError(f"not within {patience:.0f} s: {what}")
            await asyncio.sleep(0.1)


def keys_of(count: int, per_namespace: int = 50) -> list[tuple[str, str]]:
    """So many images: fifty in each namespace, as large users have them."""
    return [(f"team-{n // per_namespace}", f"app-{n % per_namespace}") for n in range(count)]
