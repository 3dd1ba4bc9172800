"""The operator as a process among others: rights, probes, figures, hand-over, few namespaces."""

import json
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from integration.conftest import free_port
from integration.controller.conftest import Operator
from support.git_server import GitServer
from support.kubernetes import Cluster, conditions, eventually, nix_image


def test_probes_and_figures_are_answered(operator: Operator, namespace: str) -> None:
    operator.stop()
    address = f"127.0.0.1:{free_port()}"
    operator.environment |= {"NIXIMAGE_LISTEN": address, "NIXIMAGE_LOG_FORMAT": "json"}
    operator.start()
    operator.cluster.do("create", "-f", "-", given=nix_image(namespace))
    job = operator.job(namespace)
    operator.end_job(job, code=0, message=json.dumps(operator.publish(job)))
    operator.image_with(namespace, "Ready", "True/Succeeded")

    def get(path: str) -> str:
        with urllib.request.urlopen(f"http://{address}{path}", timeout=10) as answer:
            return str(answer.read().decode())

    assert get("/healthz") == "ok"
    assert get("/readyz") == "ok"
    figures = get("/metrics")
    assert 'niximage_builds_total{reason="Succeeded",result="Succeeded"} 1.0' in figures
    assert 'condition="Ready",reason="Succeeded",status="True"' in figures
    assert "niximage_leader 1.0" in figures
    lines = [line for line in operator.log.read_text().splitlines() if line.startswith("{")]
    assert any("created Job" in json.loads(line)["message"] for line in lines)


def test_a_bucket_that_is_away_at_the_start_is_told_and_waited_for(
    operator: Operator, namespace: str, tmp_path: Path
) -> None:
    operator.stop()
    bucket = tmp_path / "bucket"
    bucket.rename(tmp_path / "elsewhere")
    address = f"127.0.0.1:{free_port()}"
    operator.environment |= {"NIXIMAGE_LISTEN": address}
    operator.start(until="cannot be used: cannot list")

    def get(path: str) -> str:
        try:
            with urllib.request.urlopen(f"http://{address}{path}", timeout=10) as answer:
                return str(answer.read().decode())
        except urllib.error.HTTPError as error:
            with error:
                return f"{error.code} {error.read().decode()}"

    words = f"503 not ready: the bucket {bucket.as_uri()} cannot be used"
    said = lambda: get("/readyz").startswith(words)  # noqa: E731 (one use)
    eventually("it lists all the same, and is not ready", said, log=operator.log)
    assert "the folder is not there" in get("/readyz")
    assert get("/healthz") == "ok", "a restart would not help"
    (tmp_path / "elsewhere").rename(bucket)
    eventually("it is ready", lambda: get("/readyz") == "ok", log=operator.log)
    assert operator.log.read_text().count("cannot be used") == 1


@pytest.fixture
def second(cluster: Cluster, git_server: GitServer, tmp_path: Path) -> Operator:
    """Another operator over the same cluster and bucket; not started."""
    folder = tmp_path / "second"
    folder.mkdir()
    return Operator(cluster, git_server, folder, (tmp_path / "bucket").as_uri())


def test_a_second_operator_waits_and_takes_over(
    operator: Operator, second: Operator, namespace: str
) -> None:
    operator.stop()
    lease = {"NIXIMAGE_LEASE": f"{namespace}/operator"}
    operator.environment |= lease
    second.environment |= lease
    operator.start()
    second.start(until="another operator is at work")
    operator.cluster.do("create", "-f", "-", given=nix_image(namespace))
    operator.job(namespace)
    assert "created Job" not in second.log.read_text()
    operator.kill()
    killed = time.monotonic()
    eventually("the second takes over", lambda: "listed" in second.log.read_text(), log=second.log)
    assert time.monotonic() - killed < 15
    operator.cluster.do("create", "-f", "-", given=nix_image(namespace, "other", packages=["jq"]))
    second.image(namespace, lambda i: conditions(i).get("Reconciling"), "other")
    assert second.stop() == 0
    found = operator.cluster.get("lease", "operator", namespace)
    assert found is not None
    assert not found["spec"].get("holderIdentity"), "given back"


ROLE = {
    "apiVersion": "rbac.authorization.k8s.io/v1",
    "kind": "Role",
    "metadata": {"name": "niximage-operator"},
    "rules": [
        {
            "apiGroups": ["niximage.dev"],
            "resources": ["niximages", "niximages/status", "niximages/finalizers"],
            "verbs": ["get", "list", "watch", "patch", "update"],
        },
        {
            "apiGroups": ["batch"],
            "resources": ["jobs"],
            "verbs": ["get", "list", "watch", "create", "delete"],
        },
        {"apiGroups": [""], "resources": ["pods", "pods/log"], "verbs": ["get", "list"]},
        {
            "apiGroups": [""],
            "resources": ["configmaps"],
            "verbs": ["get", "create", "patch", "delete"],
        },
        {"apiGroups": ["events.k8s.io"], "resources": ["events"], "verbs": ["create", "list"]},
    ],
}


def restricted(cluster: Cluster, namespace: str, folder: Path) -> Path:
    """The kubeconfig of a ServiceAccount that has a Role in one namespace, and nothing else."""
    cluster.do("create", "serviceaccount", "restricted", "-n", namespace)
    role = {**ROLE, "metadata": {"name": "niximage-operator", "namespace": namespace}}
    cluster.do("create", "-f", "-", given=role)
    cluster.do(
        *("create", "rolebinding", "niximage-operator", "-n", namespace),
        *("--role=niximage-operator", f"--serviceaccount={namespace}:restricted"),
    )
    token = cluster.do("create", "token", "restricted", "-n", namespace).strip()
    view = json.loads(cluster.do("config", "view", "--raw", "-o", "json"))
    view["users"][0]["user"] = {"token": token}
    path = folder / "restricted.kubeconfig"
    path.write_text(json.dumps(view))
    return path


def test_a_missing_right_is_named_at_the_start(
    operator: Operator, namespace: str, tmp_path: Path
) -> None:
    operator.stop()
    operator.kubeconfig = restricted(operator.cluster, namespace, tmp_path)
    operator.start(until="the operator may not")
    assert operator.process is not None
    assert operator.process.wait(30) != 0
    assert "list nixbuildclasses.niximage.dev" in operator.log.read_text()
    operator.process = None


def test_roles_in_one_namespace_are_enough_to_serve_it(
    operator: Operator, namespace: str, tmp_path: Path
) -> None:
    operator.stop()
    operator.kubeconfig = restricted(operator.cluster, namespace, tmp_path)
    operator.environment["NIXIMAGE_NAMESPACES"] = namespace
    operator.start()
    operator.cluster.do("create", "-f", "-", given=nix_image(namespace))
    job = operator.job(namespace)
    operator.end_job(job, code=0, message=json.dumps(operator.publish(job)))
    operator.image_with(namespace, "Ready", "True/Succeeded")
