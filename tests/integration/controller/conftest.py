"""A real API server, a real Git server, a real bucket, and the operator as a process."""

import contextlib
import itertools
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from niximage.bucket import open_store
from support.git_server import GitServer
from support.kubernetes import Cluster, Json, conditions, eventually
from support.node import publish, request_of

_numbers = itertools.count(1)


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    """A new namespace."""
    name = f"team-{os.getpid()}-{next(_numbers)}"
    cluster.do("create", "namespace", name)
    yield name
    # The next test's operator must not find what this one left.
    cluster.do("delete", "niximages", "--all", "-n", name)
    cluster.do("delete", "namespace", name, "--wait=false")


@pytest.fixture
def git_server(tmp_path: Path) -> Iterator[GitServer]:
    """A Git server of this test alone."""
    server = GitServer(tmp_path)
    yield server
    with contextlib.suppress(OSError):
        server.stop()


@dataclass
class Operator:
    """The operator as a process that can be killed and started again."""

    cluster: Cluster
    git: GitServer
    folder: Path
    bucket: str
    environment: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    kubeconfig: Path | None = None

    @property
    def log(self) -> Path:
        return self.folder / "operator.log"

    def start(self, *, until: str = "listed") -> None:
        """Start it, and wait until it has said something: that it listed what there is."""
        before = self.log.read_text() if self.log.exists() else ""
        environment = {
            **os.environ,
            **self.environment,
            "KUBECONFIG": str(self.kubeconfig or self.cluster.kubeconfig),
            "NIXIMAGE_BUCKET": self.bucket,
            "NIXIMAGE_REGISTRY": "127.0.0.1:5000",
            "NIXIMAGE_NIXPKGS_URL": self.git.url,
            "NIXIMAGE_BUILDER_IMAGE": "niximage-operator:none",
            "NIXIMAGE_RETRY_DELAY": "1",
        }
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "niximage", "operator"],
                stdout=output,
                stderr=output,
                env=environment,
            )
        said = lambda: until in self.log.read_text()[len(before) :]  # noqa: E731 (one use)
        eventually("the operator starts", said, log=self.log)

    def kill(self) -> None:
        """Kill it without a warning."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(10)

    def stop(self) -> int:
        """Ask it to stop; returns its exit code."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(30)

    # What a node would do -----------------------------------------------------------------------

    def job(self, namespace: str, *, other_than: str = "") -> Json:
        """The live Job of the namespace's one NixImage."""

        def look() -> Json | None:
            jobs = self.cluster.list("jobs", namespace)
            live = [j for j in jobs if "deletionTimestamp" not in j["metadata"]]
            return next((j for j in live if j["metadata"]["uid"] != other_than), None)

        return eventually("a Job", look, log=self.log)

    def image(self, namespace: str, wanted: Callable[[Json], object], name: str = "web") -> Json:
        """The NixImage, once it is as wanted."""

        def look() -> Json | None:
            found = self.cluster.get("niximage", name, namespace)
            return found if found is not None and wanted(found) else None

        return eventually("the wanted status", look, log=self.log)

    def image_with(self, namespace: str, kind: str, value: str) -> Json:
        """The NixImage, once a condition has `status/reason`."""
        return self.image(namespace, lambda i: conditions(i).get(kind) == value)

    def publish(self, job: Json, *, content: bytes = b"hello\n") -> Json:
        """Do what the Job's pod would do: publish an image and its record; the result."""
        store = open_store(self.bucket)
        try:
            return publish(store, request_of(job["spec"]["template"]), content)
        finally:
            store.close()

    def end_job(self, job: Json, *, code: int, message: str, step: str = "publish") -> None:
        """Do what kubelet and Job controller would do when a step has ended."""
        namespace, name = job["metadata"]["namespace"], job["metadata"]["name"]
        terminated = {"exitCode": code, "message": message, "reason": "Completed"}
        status = {"name": step, "state": {"terminated": terminated}, **_CONTAINER}
        kind = "containerStatuses" if step == "publish" else "initContainerStatuses"
        phase = "Failed" if code else "Succeeded"

        def pod() -> str | None:
            pods = self.cluster.list("pods", namespace)
            own = [p for p in pods if p["metadata"]["labels"].get("job-name") == name]
            return own[0]["metadata"]["name"] if own else None

        found = eventually("the Job's pod", pod)
        self.cluster.set_status("pod", found, namespace, {"phase": phase, kind: [status]})


_CONTAINER = {"image": "x", "imageID": "x", "ready": False, "restartCount": 0}


@pytest.fixture
def operator(cluster: Cluster, git_server: GitServer, tmp_path: Path) -> Iterator[Operator]:
    """The operator, started, with a bucket of its own."""
    bucket = tmp_path / "bucket"
    bucket.mkdir()
    running = Operator(cluster, git_server, tmp_path, bucket.as_uri())
    running.start()
    yield running
    if running.process is not None and running.process.poll() is None:
        assert running.stop() == 0, running.log.read_text()[-4000:]
    log = running.log.read_text()
    assert "Traceback" not in log, log[-4000:]
