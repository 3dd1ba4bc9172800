"""Builds that attack, on a real node: they fail by themselves, and others go on."""

import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.conftest import PROJECT, Node
from support.kubernetes import Json, nix_build_class, nix_image

ATTACKS = ("fork-bomb", "giant", "flood", "thief")
SMALL = "small-store"
PATIENCE = 240.0  # seconds: a kubelet looks at volumes now and then
pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def source(node: Node, tmp_path_factory: pytest.TempPathFactory) -> Json:
    """The set of attacks in the cluster's Git server."""
    folder = tmp_path_factory.mktemp("hostile")

    def run(*command: str | Path) -> None:
        subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=60)

    run(PROJECT / "nix" / "demo" / "make-repository", folder / "demo.git")
    run("git", "clone", "-q", "--bare", "demo.git", "hostile.git")
    run("git", "clone", "-q", "hostile.git", "tree")
    shutil.copy(PROJECT / "tests" / "support" / "hostile_set" / "default.nix", folder / "tree")
    git = ("git", "-C", "tree", "-c", "user.name=t", "-c", "user.email=t@example.org")
    run(*git, "commit", "-qam", "Attack")
    run(*git, "push", "-q", "origin", "HEAD:nixos-26.05")
    with tarfile.open(folder / "hostile.tar", "w") as tar:
        tar.add(folder / "hostile.git", "hostile.git")
    unpack = ("tar", "-x", "--no-same-owner", "-C", "/git")
    node.cluster.send(
        folder / "hostile.tar",
        *("exec", "-i", "-n", "niximage-demo", "deploy/packages", "-c", "git", "--", *unpack),
    )
    service = node.cluster.get("service", "packages", "niximage-demo")
    assert service is not None
    host = f"{service['spec']['clusterIP']}:{service['spec']['ports'][0]['port']}"
    return {"git": {"url": f"http://{host}/hostile.git", "ref": {"branch": "nixos-26.05"}}}


@pytest.fixture
def small(node: Node) -> Iterator[str]:
    """A class whose builds may fill little."""
    node.apply(nix_build_class(SMALL, store={"emptyDir": {"sizeLimit": "64Mi"}}))
    yield SMALL
    node.cluster.do("delete", "nixbuildclass", SMALL)


def test_attacks_harm_nobody_but_themselves(
    node: Node, namespace: str, source: Json, small: str
) -> None:
    for attack in ATTACKS:
        build = {"className": small} if attack == "giant" else {}
        node.apply(nix_image(namespace, attack, packages=[attack], source=source, build=build))
    bystander = nix_image(namespace, "bystander", packages=["hello"])
    node.apply(bystander)
    node.ready(namespace, "bystander")

    def failure(attack: str, reason: str) -> Json:
        image = node.image_with(namespace, "Stalled", f"True/{reason}", attack, within=PATIENCE)
        assert "image" not in image["status"]
        found: Json = image["status"]["failure"]
        return found

    assert "can't fork" in failure("fork-bomb", "BuildFailed")["logTail"]

    flooded = failure("flood", "BuildFailed")["logTail"]
    assert len(flooded.encode()) <= 2048
    assert "flood" in flooded
    assert "\x1b" not in flooded

    stolen = failure("thief", "BuildFailed")["logTail"]
    assert "user 1000, escalation NoNewPrivs:1" in stolen
    for word in ("found", "NIXIMAGE_BUCKET", "STORAGE_", "root:x:0"):
        assert word not in stolen

    evicted = failure("giant", "OutOfDisk")
    assert '"nix"' in evicted["message"]
    assert "64Mi" in evicted["message"]
