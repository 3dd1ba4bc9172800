"""Real programs and real stores for the integration tests."""

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from niximage.api.base import GROUP
from niximage.api.build_class import CLASS_PLURAL
from niximage.api.image import PLURAL
from niximage.bucket import ObjectStore, open_store
from support.kubernetes import Cluster, eventually
from support.strict_gcs import StrictGcs, serving

if TYPE_CHECKING:  # it takes functions from here
    from integration.acceptance import Acceptance

PROJECT = Path(__file__).parents[2]
START_TIMEOUT = 20.0  # seconds for a program on loopback to answer


@pytest.fixture(scope="session")
def tools() -> Path:
    """The folder with all programs that `cluster` builds from Go modules."""
    printed = subprocess.run(
        [sys.executable, "cluster", "tools"],
        cwd=PROJECT,
        check=True,
        capture_output=True,
        text=True,
        timeout=280,
    )
    return Path(printed.stdout.strip().splitlines()[-1])


@pytest.fixture(scope="session")
def acceptance(tools: Path) -> "Iterator[Acceptance]":
    """The tools that every image has to please."""
    from integration.acceptance import tools_that_accept

    with tools_that_accept(tools) as found:
        yield found


@pytest.fixture(scope="session")
def cluster(tools: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A control plane with the CRDs: etcd, API server, controller manager; no node.

    NIXIMAGE_TEST_CONTROL_PLANE names the kubeconfig of one that is up, to save its start.
    """
    if kept := os.environ.get("NIXIMAGE_TEST_CONTROL_PLANE"):
        yield _with_crds(Cluster(tools / "kubectl", Path(kept)))
        return
    state = tmp_path_factory.mktemp("cluster") / "state"
    program = [sys.executable, str(PROJECT / "cluster")]
    mode = ["--state", str(state), "--mode", "control-plane"]
    try:
        up = subprocess.run(
            [*program, "up", *mode], capture_output=True, text=True, timeout=280, check=False
        )
        assert up.returncode == 0, up.stdout + up.stderr
        yield _with_crds(Cluster(tools / "kubectl", state / "kubeconfig"))
    finally:
        subprocess.run(
            [*program, "down", "--state", str(state)], capture_output=True, timeout=60, check=True
        )


def _with_crds(found: Cluster) -> Cluster:
    found.do("apply", "-k", str(PROJECT / "crds"))
    for plural in (PLURAL, CLASS_PLURAL):
        served = lambda p=plural: found.run("get", f"{p}.{GROUP}", "-A").returncode == 0  # noqa: E731 (one use)
        # `kubectl wait` fails on an object whose status is not written yet.
        eventually(f"{plural} are served", served)
    return found


def free_port() -> int:
    """A port of loopback that nothing listens on now."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def wait_until(what: str, seen: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    """Ask until the answer is yes; a process that died, or a deadline, fails the test."""
    deadline = time.monotonic() + START_TIMEOUT
    while not seen():
        if process.poll() is not None:
            pytest.fail(f"{what}: {process.args!r} ended with {process.returncode}")
        if time.monotonic() > deadline:
            pytest.fail(f"{what}: no answer within {START_TIMEOUT} s")
        time.sleep(0.02)


def answers(url: str) -> bool:
    """Whether an HTTP server answers at all."""
    try:
        with urllib.request.urlopen(url, timeout=2):
            return True
    except urllib.error.HTTPError as error:
        error.close()
        return True
    except OSError:
        return False


def end(process: subprocess.Popen[bytes]) -> None:
    """Stop a process that this test started, and wait for it."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(10)


@pytest.fixture(scope="session")
def gcs_server(tools: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a fake-gcs-server."""
    port = free_port()
    address = f"127.0.0.1:{port}"
    log = tmp_path_factory.mktemp("gcs") / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                tools / "fake-gcs-server",
                *("-scheme", "http", "-host", "127.0.0.1", "-port", str(port)),
                *("-backend", "memory", "-public-host", address, "-log-level", "error"),
            ],
            stdout=output,
            stderr=output,
        )
    try:
        wait_until("fake-gcs-server", lambda: answers(f"http://{address}/storage/v1/b"), process)
        yield f"http://{address}"
    finally:
        end(process)


@pytest.fixture
def gcs_bucket(gcs_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of a new bucket at the fake-gcs-server, which `gs://` then means."""
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", gcs_server)
    name = f"bucket-{secrets.token_hex(6)}"
    request = urllib.request.Request(
        f"{gcs_server}/storage/v1/b?project=test",
        data=json.dumps({"name": name}).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=10) as response:
        assert response.status == 200
    return f"gs://{name}"


@pytest.fixture
def strict_gcs(monkeypatch: pytest.MonkeyPatch) -> Iterator[StrictGcs]:
    """A stand-in for Google's storage that is strict, with a bucket `images`; `gs://` means it."""
    with serving(StrictGcs({"images": {}})) as gcs:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", gcs.url)
        yield gcs


@pytest.fixture(params=["file", "gs", "gs-strict"])
def bucket_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty bucket of each kind; those at Google's, at two stand-ins."""
    if request.param == "gs":
        return f"{request.getfixturevalue('gcs_bucket')}/some/prefix"
    if request.param == "gs-strict":
        request.getfixturevalue("strict_gcs")
        return "gs://images/some/prefix"
    folder = tmp_path / "bucket"
    folder.mkdir()
    return folder.as_uri()


@pytest.fixture
def store(bucket_url: str) -> Iterator[ObjectStore]:
    """An empty bucket of each kind, open."""
    opened = open_store(bucket_url, patience=10)
    yield opened
    opened.close()


@pytest.fixture(params=["file", "gs-strict"])
def exact_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ObjectStore]:
    """An empty bucket of each kind that keeps conditions; fake-gcs-server keeps few."""
    if request.param == "gs-strict":
        request.getfixturevalue("strict_gcs")
    url = "gs://images/some/prefix" if request.param == "gs-strict" else tmp_path.as_uri()
    opened = open_store(url, patience=10)
    yield opened
    opened.close()


@pytest.fixture
def unprivileged() -> dict[str, object]:
    """Arguments of `Popen` that run a program as nobody, where we may; else as ourselves."""
    return {"user": 65534, "group": 65534, "extra_groups": []} if os.geteuid() == 0 else {}
