"""GitOps with Flux: a commit in, a rollout out; examples/flux as it is."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.conftest import Node
from support.flux import Repository, Team, flux

PATIENCE = 150.0  # seconds: a build, and what Flux waits for
pytestmark = pytest.mark.timeout(1500)  # where the controllers have to be built first


@pytest.fixture
def team(node: Node, namespace: str, tmp_path: Path) -> Iterator[Team]:
    """The namespace of a team, with Flux at work."""
    folder = tmp_path / "flux"
    folder.mkdir()
    with flux(node.cluster, folder):
        made = Team(node.cluster, namespace, folder, patience=PATIENCE)
        yield made
        made.end()


@pytest.fixture
def url(node: Node, namespace: str) -> str:
    """An empty repository in the cluster's Git server, which takes pushes."""
    service = node.cluster.get("service", "packages", "niximage-demo")
    assert service is not None
    server = ("exec", "-n", "niximage-demo", "deploy/packages", "-c", "git", "--")
    path = f"/git/{namespace}.git"
    node.cluster.do(*server, "git", "init", "-q", "--bare", "-b", "main", path)
    host = f"{service['spec']['clusterIP']}:{service['spec']['ports'][0]['port']}"
    return f"http://{host}/{namespace}.git"


def test_a_commit_ends_in_a_rollout(
    team: Team, url: str, node: Node, namespace: str, tmp_path: Path
) -> None:
    def run(*command: str) -> str:
        return node.cluster.do("exec", "deploy/greeting", "-n", namespace, "--", *command)

    repository = Repository(tmp_path / "repository", url)
    first = repository.push(["hello", "shell"])
    team.start(url)
    team.ready("images", first)
    before = team.image()
    team.ready("app", first)
    team.rolled_out(before)
    assert "Hello" in run("hello")

    second = repository.push(["cowsay", "hello", "shell"])
    team.fetch()
    team.ready("images", second)
    after = team.image()
    assert after != before
    team.rolled_out(after)
    assert "moo" in run("cowsay", "moo")
