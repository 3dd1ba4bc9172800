"""`niximage serve --auth kubernetes` against a real API server."""

import base64
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.conftest import answers, end, free_port, wait_until
from integration.gateway.conftest import Client
from integration.tiny import tiny_image
from niximage.bucket.file import FileStore
from support.kubernetes import Cluster, eventually

IMAGE = tiny_image(b"one")
AUDIENCE = "niximage"


@pytest.fixture(scope="module")
def teams(cluster: Cluster) -> Iterator[tuple[str, str]]:
    """Two namespaces, each with a ServiceAccount `puller`."""
    names = ("gateway-a", "gateway-b")
    for name in names:
        cluster.do("create", "namespace", name)
        cluster.do("create", "serviceaccount", "puller", "-n", name)
    yield names
    for name in names:
        cluster.do("delete", "namespace", name, "--wait=false")


@pytest.fixture
def gateway(cluster: Cluster, teams: tuple[str, str], tmp_path: Path) -> Iterator[Client]:
    store = FileStore(tmp_path / "bucket")
    for team in teams:
        IMAGE.publish(store, f"{team}/web", "latest")
    port = free_port()
    with (tmp_path / "gateway.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "niximage", "serve", "--auth", "kubernetes"],
            stdout=log,
            stderr=log,
            env={
                **os.environ,
                "KUBECONFIG": str(cluster.kubeconfig),
                "NIXIMAGE_BUCKET": store.url,
                "NIXIMAGE_PORT": str(port),
                "NIXIMAGE_AUDIENCE": AUDIENCE,
            },
        )
    client = Client(f"http://127.0.0.1:{port}")
    try:
        wait_until("gateway", lambda: answers(f"{client.url}/healthz"), process)
        yield client
    finally:
        end(process)
    assert process.returncode == 0


def token(cluster: Cluster, namespace: str, *, audience: str = AUDIENCE) -> str:
    made = cluster.do("create", "token", "puller", "-n", namespace, "--audience", audience)
    return made.strip()


def pull(client: Client, repository: str, credential: str, *, kind: str = "Bearer") -> int:
    path = f"/v2/{repository}/manifests/latest"
    return client.ask(path, Authorization=f"{kind} {credential}").status


def test_a_service_account_pulls_what_its_namespace_owns(
    cluster: Cluster, gateway: Client, teams: tuple[str, str]
) -> None:
    mine, theirs = teams
    bearer = token(cluster, mine)
    assert pull(gateway, f"{mine}/web", bearer) == 200
    assert pull(gateway, f"{theirs}/web", bearer) == 403
    assert pull(gateway, f"{mine}-more/web", bearer) == 403
    # As kubelets send what an imagePullSecret holds.
    basic = base64.b64encode(f"anybody:{bearer}".encode()).decode()
    assert pull(gateway, f"{mine}/web", basic, kind="Basic") == 200
    assert pull(gateway, f"{theirs}/web", basic, kind="Basic") == 403


def test_a_token_for_others_or_of_nobody_is_refused(
    cluster: Cluster, gateway: Client, teams: tuple[str, str]
) -> None:
    other = token(cluster, teams[0], audience="somebody-else")
    assert pull(gateway, f"{teams[0]}/web", other) == 401
    assert pull(gateway, f"{teams[0]}/web", "no-token") == 401
    broken = token(cluster, teams[0])[:-10] + "AAAAAAAAAA"
    assert pull(gateway, f"{teams[0]}/web", broken) == 401


def test_rbac_grants_what_another_namespace_owns(
    cluster: Cluster, gateway: Client, teams: tuple[str, str]
) -> None:
    owner, guest = teams
    bearer = token(cluster, guest)
    assert pull(gateway, f"{owner}/web", bearer) == 403
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": {"name": "pull-web", "namespace": owner},
        "rules": [
            {
                "apiGroups": ["niximage.dev"],
                "resources": ["niximages/pull"],
                "resourceNames": ["web"],
                "verbs": ["get"],
            }
        ],
    }
    cluster.do("apply", "-f", "-", given=role)
    binding = ["--role", "pull-web", "--serviceaccount", f"{guest}:puller"]
    cluster.do("create", "rolebinding", "pull-web", "-n", owner, *binding)
    # The refusal is remembered for some seconds.
    eventually("the grant", lambda: pull(gateway, f"{owner}/web", bearer) == 200, within=30)
    assert pull(gateway, f"{owner}/api", bearer) == 403


def test_skopeo_pulls_with_a_service_accounts_token(
    cluster: Cluster, gateway: Client, teams: tuple[str, str]
) -> None:
    bearer = token(cluster, teams[0])
    for team, works in ((teams[0], True), (teams[1], False)):
        done = subprocess.run(
            [
                *("skopeo", "inspect", "--raw", "--tls-verify=false"),
                *("--creds", f"serviceaccount:{bearer}"),
                f"docker://{gateway.address}/{team}/web:latest",
            ],
            capture_output=True,
            timeout=60,
            check=False,
        )
        assert (done.stdout == IMAGE.manifest) is works, done.stderr.decode()
