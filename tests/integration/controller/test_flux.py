"""GitOps with Flux, up to where a node is needed: a commit in, a Deployment of the new digest out.

What runs there is the operator, Flux's own controllers, and examples/flux as it is.
"""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.controller.conftest import Operator
from integration.source.conftest import Server, SmartHandler
from niximage.api.build import BuildFailure
from niximage.errors import Reason, Terminal
from support.flux import Repository, Team, flux, image_of
from support.kubernetes import Json

PATIENCE = 60.0  # seconds
pytestmark = pytest.mark.timeout(1200)  # where the controllers have to be built first


class Node:
    """A team's namespace, and what a node would do there: build, and run pods."""

    def __init__(self, operator: Operator, team: Team, namespace: str) -> None:
        self._operator, self.team, self._namespace = operator, team, namespace
        self._done: set[str] = set()

    def build(self, content: bytes) -> None:
        """Publish what the next build Job asks for."""
        job = self._job()
        result = self._operator.publish(job, content=content)
        self._operator.end_job(job, code=0, message=json.dumps(result))

    def fail(self, error: Terminal) -> None:
        """End the next build Job with an error."""
        message = BuildFailure.from_error(error).to_message().decode()
        self._operator.end_job(self._job(), code=65, message=message, step="build")

    def run(self, image: str) -> None:
        """Run the Deployment's pod of an image, and see that it is the only one then."""

        def look() -> Json | None:
            return next((pod for pod in self.team.pods() if image_of(pod) == image), None)

        pod = self.team.seen(f"a pod of {image}", look)
        status = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
        name = pod["metadata"]["name"]
        self._operator.cluster.set_status("pod", name, self._namespace, status)
        self.team.rolled_out(image)

    def move_channel(self) -> None:
        """Have nixpkgs move on, and the operator look."""
        self._operator.git.commit("the channel moves")
        request = ("annotate", "niximage/greeting", "reconcile.fluxcd.io/requestedAt=now")
        self._operator.cluster.do(*request, "-n", self._namespace)

    def _job(self) -> Json:
        def look() -> Json | None:
            jobs = self._operator.cluster.list("jobs", self._namespace)
            return next((j for j in jobs if j["metadata"]["uid"] not in self._done), None)

        job = self.team.seen("a build", look)
        self._done.add(job["metadata"]["uid"])
        return job


@pytest.fixture
def node(operator: Operator, namespace: str, tmp_path: Path) -> Iterator[Node]:
    """The namespace of a team, with Flux at work."""
    folder = tmp_path / "flux"
    folder.mkdir()
    with flux(operator.cluster, folder):
        team = Team(operator.cluster, namespace, folder, patience=PATIENCE)
        yield Node(operator, team, namespace)
        team.end()


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """An empty repository."""
    path = tmp_path / "served" / "greeting.git"
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", path], check=True, timeout=30)
    return path


@pytest.fixture
def url(bare: Path) -> Iterator[str]:
    """Its URL, at a server that speaks git's own protocol."""
    server = Server(type("Handler", (SmartHandler,), {"root": bare.parent}))
    yield f"{server.url}/{bare.name}"
    server.stop()


def test_a_commit_ends_in_a_rollout(node: Node, bare: Path, url: str, tmp_path: Path) -> None:
    team = node.team
    repository = Repository(tmp_path / "repository", str(bare))
    first = repository.push(["hello", "shell"])
    team.start(url)
    node.build(b"first")
    team.ready("images", first)
    images = [team.image()]
    node.run(images[-1])
    team.ready("app", first)

    second = repository.push(["cowsay", "hello", "shell"])
    team.fetch()
    node.build(b"second")
    team.ready("images", second)
    images.append(team.image())
    node.run(images[-1])
    team.ready("app", second)

    # The source moved: without a commit Flux sees it by the ConfigMap alone.
    node.move_channel()
    node.build(b"third")
    moved = lambda: found if (found := team.image()) not in images else None  # noqa: E731 (one use)
    images.append(team.seen("another image", moved))
    node.run(images[-1])
    assert len(set(images)) == len(images)

    # A NixImage that cannot be built fails its Kustomization at once; what runs goes on.
    repository.push(["cowsay", "helo", "shell"])
    team.fetch()
    node.fail(Terminal(Reason.PACKAGE_NOT_FOUND, "helo: there is no such package"))
    assert "NixImage/" in team.refused("images")
    team.rolled_out(images[-1])
