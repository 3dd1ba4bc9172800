"""Sources that take a step of their own, in real pods: a private repository, and a volume.

The operator has the rights that the chart gives it, and the pods are of the Restricted profile.
"""

import base64
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.conftest import Node
from integration.nix.demo import Demo
from integration.private_git import BASIC, private_http, private_ssh
from support.kubernetes import Json, conditions, nix_image


@pytest.fixture
def demo() -> Iterator[Demo]:
    """The demo package set of an edition of its own, where pods and servers may read it."""
    folder = Path(tempfile.mkdtemp(prefix="niximage-sources-"))
    folder.chmod(0o755)
    yield Demo.make(folder / "private.git")
    shutil.rmtree(folder)


@pytest.fixture
def host(node: Node) -> Iterator[str]:
    """The machine's address; the operator may use any port, as admins can allow by the chart."""
    (machine,) = node.cluster.list("nodes", "default")
    (found,) = (a["address"] for a in machine["status"]["addresses"] if a["type"] == "InternalIP")
    policy: Json = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "git", "namespace": "niximage-system"},
        "spec": {
            "podSelector": {"matchLabels": {"app.kubernetes.io/component": "operator"}},
            "policyTypes": ["Egress"],
            "egress": [{"to": [{"ipBlock": {"cidr": f"{found}/32"}}]}],
        },
    }
    node.apply(policy)
    yield str(found)
    node.cluster.do("delete", "networkpolicy", "git", "-n", "niximage-system")


def secret(namespace: str, name: str, values: dict[str, bytes]) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace},
        "data": {key: base64.b64encode(value).decode() for key, value in values.items()},
    }


def git(url: str, name: str, **ref: str) -> Json:
    return {"git": {"url": url, "ref": ref, "secretRef": {"name": name}}}


def test_private_repositories_over_https_and_ssh(
    node: Node, namespace: str, demo: Demo, host: str, tmp_path: Path
) -> None:
    commit = demo.source.revision
    with private_http(demo.path.parent, host=host) as url, private_ssh(tmp_path, host=host) as ssh:
        over_http = git(f"{url}/{demo.path.name}", "password", commit=commit)
        node.apply(nix_image(namespace, "http", source=over_http))
        over_ssh = git(f"{ssh.url}{demo.path}", "key", commit=commit)
        node.apply(nix_image(namespace, "ssh", packages=["hello", "shell"], source=over_ssh))
        # No Secret is there yet, and that is told by the pod rather than waited for.
        node.image(
            namespace,
            lambda i: i["status"].get("failure", {}).get("reason") == "CredentialsMissing",
            "http",
        )
        password = {key: value.encode() for key, value in BASIC.items()}
        node.apply(secret(namespace, "password", password))
        node.apply(secret(namespace, "key", ssh.keys()))
        image = node.ready(namespace, "http")["status"]["image"]
        node.ready(namespace, "ssh")
        moving = git(f"{url}/{demo.path.name}", "password", branch="nixos-26.05")
        node.apply(nix_image(namespace, "moving", source=moving))
        node.image(
            namespace,
            lambda i: conditions(i).get("SourceResolved") == "False/CredentialsNotGranted",
            "moving",
        )
    assert "Hello" in node.output(namespace, image, "hello")


def test_a_package_set_on_a_volume(node: Node, namespace: str, demo: Demo) -> None:
    files = demo.check_out(demo.path.parent / "volume" / "set").parent
    for path in (files, *files.rglob("*")):
        path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
    name = f"packages-{namespace}"
    node.apply(
        {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": name},
            "spec": {
                "capacity": {"storage": "1Gi"},
                "accessModes": ["ReadWriteOnce"],
                "persistentVolumeReclaimPolicy": "Retain",
                "storageClassName": "",
                "claimRef": {"name": "packages", "namespace": namespace},
                "hostPath": {"path": str(files)},
            },
        }
    )
    node.apply(
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": "packages", "namespace": namespace},
            "spec": {
                "accessModes": ["ReadWriteOnce"],
                "storageClassName": "",
                "volumeName": name,
                "resources": {"requests": {"storage": "1Gi"}},
            },
        }
    )
    try:
        source = {"volume": {"claimName": "packages", "path": "set", "revision": "first"}}
        node.apply(nix_image(namespace, source=source))
        image = node.ready(namespace)
        assert image["status"]["source"]["ref"] == "PersistentVolumeClaim/packages"
        assert image["status"]["source"]["shortRevision"] == "first"
        assert "Hello" in node.output(namespace, image["status"]["image"], "hello")
    finally:
        node.cluster.do("delete", "pv", name, "--wait=false")
