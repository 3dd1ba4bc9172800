"""Flux's own source-controller and kustomize-controller, and a team that uses them.

The controllers run as processes beside the cluster. In a cluster they are pods; to the API server
and to what they do it makes no difference.
"""

import itertools
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

import pytest
import yaml

from support.kubernetes import Cluster, Json, conditions, eventually

PROJECT: Final = Path(__file__).parents[2]
EXAMPLE: Final = PROJECT / "examples" / "flux"
CONTROLLERS: Final = ("source-controller", "kustomize-controller")
BUILD_SECONDS: Final = 900.0  # of the controllers, where no `make prepare` has built them

_requests = itertools.count(1)
Seen = TypeVar("Seen")


@contextmanager
def flux(cluster: Cluster, folder: Path) -> Iterator[None]:
    """The controllers and their CRDs, which go with them; their logs are in the folder."""
    from integration.conftest import free_port

    programs = _programs()
    crds = [word for name in CONTROLLERS for word in ("-f", str(programs / "crds" / name))]
    cluster.do("apply", "--server-side", *crds)
    cluster.do("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
    storage = f"127.0.0.1:{free_port()}"
    own = {
        "source-controller": [
            f"--storage-path={folder}",
            f"--storage-addr={storage}",
            f"--storage-adv-addr={storage}",
        ],
        "kustomize-controller": ["--requeue-dependency=2s"],
    }
    with ExitStack() as stack:
        stack.callback(cluster.do, "delete", "--ignore-not-found", "--timeout=50s", *crds)
        for name, flags in own.items():
            stack.enter_context(_running(programs / name, flags, cluster, folder))
        yield


def _programs() -> Path:
    built = subprocess.run(
        [sys.executable, str(PROJECT / "cluster"), "tools", *CONTROLLERS],
        check=True,
        capture_output=True,
        text=True,
        timeout=BUILD_SECONDS,
    )
    return Path(built.stdout.strip().splitlines()[-1])


@contextmanager
def _running(program: Path, own: list[str], cluster: Cluster, folder: Path) -> Iterator[None]:
    from integration.conftest import answers, end, free_port

    health = f"127.0.0.1:{free_port()}"
    flags = [f"--health-addr={health}", "--metrics-addr=0", "--log-encoding=console", *own]
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "KUBECONFIG": str(cluster.kubeconfig),
        "RUNTIME_NAMESPACE": "default",
    }
    log = folder / f"{program.name}.log"
    with log.open("wb") as output:
        # They must not outlive a session that is killed.
        command = ["setpriv", "--pdeathsig", "TERM", str(program), *flags]
        process = subprocess.Popen(command, stdout=output, stderr=output, env=environment)
    try:

        def healthy() -> bool:
            if process.poll() is not None:
                pytest.fail(f"{program.name} ended: {log.read_text()[-4000:]}")
            return answers(f"http://{health}/readyz")

        eventually(f"{program.name} is ready", healthy, within=60, log=log)
        yield
    finally:
        end(process)


def image_of(pod: Json) -> str:
    """The image of a pod's one container."""
    image: str = pod["spec"]["containers"][0]["image"]
    return image


class Repository:
    """A working tree of the example's repository.

    Args:
        folder: where it is made.
        remote: where it pushes to: a bare repository.
    """

    def __init__(self, folder: Path, remote: str) -> None:
        self._folder, self._remote = folder, remote
        shutil.copytree(EXAMPLE / "repository", folder)
        self._git("init", "-q", "-b", "main")

    def push(self, packages: list[str]) -> str:
        """Have the NixImage ask for these packages, commit, push; returns the commit."""
        file = self._folder / "images" / "greeting.yaml"
        image = yaml.safe_load(file.read_text())
        image["spec"]["packages"] = packages
        file.write_text(yaml.safe_dump(image))
        self._git("add", "--all")
        who = ("-c", "user.name=t", "-c", "user.email=t@example.org")
        self._git(*who, "commit", "-qm", f"Ask for {packages}")
        self._git("push", "-q", self._remote, "main")
        return self._git("rev-parse", "HEAD")

    def _git(self, *arguments: str) -> str:
        command = ["git", *arguments]
        done = subprocess.run(
            command, cwd=self._folder, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


class Team:
    """What Flux makes of the repository in a namespace."""

    def __init__(self, cluster: Cluster, namespace: str, folder: Path, *, patience: float) -> None:
        self._cluster, self._namespace, self._folder = cluster, namespace, folder
        self._patience = patience

    def start(self, url: str) -> None:
        """Apply the example, with the repository that it is to follow."""
        for document in yaml.safe_load_all((EXAMPLE / "team.yaml").read_text()):
            document["metadata"]["namespace"] = self._namespace
            own = {"url": url} if document["kind"] == "GitRepository" else {}
            document["spec"] |= own or {"targetNamespace": self._namespace}
            self._cluster.do("apply", "-f", "-", given=document)

    def fetch(self) -> None:
        """Look at the repository now, as `flux reconcile source git greeting` does."""
        request = f"reconcile.fluxcd.io/requestedAt=request-{next(_requests)}"
        of_repository = ("gitrepository/greeting", "-n", self._namespace)
        self._cluster.do("annotate", *of_repository, "--overwrite", request)

    def end(self) -> None:
        """Let Flux take away all that it made, while it runs."""
        kinds = "kustomizations.kustomize.toolkit.fluxcd.io,gitrepositories"
        self._cluster.do("delete", kinds, "--all", "-n", self._namespace, "--timeout=50s")

    def ready(self, kustomization: str, commit: str) -> None:
        """Wait until a Kustomization is Ready at a commit."""

        def look() -> bool:
            found = self._get("kustomization", kustomization)
            at = (found.get("status") or {}).get("lastAppliedRevision", "")
            said = conditions(found).get("Ready")
            return said == "True/ReconciliationSucceeded" and at == f"main@sha1:{commit}"

        self.seen(f"{kustomization} at {commit[:8]}", look)

    def refused(self, kustomization: str) -> str:
        """Why a Kustomization is not Ready, once its health checks have failed."""

        def look() -> str | None:
            found = self._get("kustomization", kustomization)
            for condition in (found.get("status") or {}).get("conditions", []):
                if (condition["type"], condition["reason"]) == ("Ready", "HealthCheckFailed"):
                    return str(condition["message"])
            return None

        return self.seen(f"{kustomization} fails", look)

    def image(self) -> str:
        """The NixImage's image: it is Ready whenever Flux says that its Kustomization is."""
        found: Any = self._get("niximage", "greeting")
        assert conditions(found)["Ready"] == "True/Succeeded"
        assert found["status"]["observedGeneration"] == found["metadata"]["generation"]
        image: str = found["status"]["image"]
        return image

    def pods(self) -> list[Json]:
        """The pods of the example's Deployment."""
        pods = self._cluster.list("pods", self._namespace)
        return [p for p in pods if p["metadata"].get("labels", {}).get("app") == "greeting"]

    def rolled_out(self, image: str) -> None:
        """Wait until the Deployment's one pod is of an image and runs."""

        def look() -> bool:
            found = [
                (p["spec"]["containers"][0]["image"], p["status"]["phase"]) for p in self.pods()
            ]
            return found == [(image, "Running")]

        self.seen(f"a pod of {image}", look)

    def seen(self, what: str, look: Callable[[], Seen | None]) -> Seen:
        """Wait for something; tells what there is, and what Flux says, where it does not come."""
        try:
            return eventually(what, look, within=self._patience)
        except pytest.fail.Exception as failure:
            kinds = "gitrepositories,kustomizations,niximages,configmaps,deployments,pods"
            seen = self._cluster.run("get", kinds, "-n", self._namespace, "-o", "wide").stdout
            lines = [line for log in self._folder.glob("*.log") for line in log.open()]
            errors = [line[:500] for line in lines if "\tERROR\t" in line][-10:]
            pytest.fail("\n".join([str(failure), seen, *errors]))

    def _get(self, kind: str, name: str) -> Json:
        return self._cluster.get(kind, name, self._namespace) or {}
