"""The operator dies before and after each of its writes, loses what it watches, and goes on."""

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.controller.conftest import Operator
from support.git_server import GitServer
from support.kubernetes import Cluster, conditions, eventually, nix_image
from support.proxy import Fault, FaultProxy

WRITES = "POST|PATCH|DELETE"


@pytest.fixture
def proxy(cluster: Cluster) -> Iterator[FaultProxy]:
    """The one way from operator to API server."""
    with FaultProxy(cluster.kubeconfig) as running:
        yield running


@pytest.fixture
def fragile(
    cluster: Cluster, proxy: FaultProxy, git_server: GitServer, tmp_path: Path
) -> Iterator[Operator]:
    """An operator behind the proxy; not started."""
    bucket = tmp_path / "bucket"
    bucket.mkdir()
    made = Operator(cluster, git_server, tmp_path, bucket.as_uri())
    made.kubeconfig = proxy.kubeconfig(tmp_path / "kubeconfig")
    yield made
    proxy.heal()
    if made.process is not None and made.process.poll() is None:
        assert made.stop() == 0
    assert "Traceback" not in made.log.read_text(), made.log.read_text()[-4000:]


def test_an_operator_that_dies_before_and_after_each_write_gets_there(
    fragile: Operator, proxy: FaultProxy, namespace: str
) -> None:
    fragile.cluster.do("create", "-f", "-", given=nix_image(namespace))
    mine = rf"/{namespace}/(jobs|niximages)"

    def finished() -> bool:
        image = fragile.cluster.get("niximage", "web", namespace)
        return conditions(image).get("Ready") == "True/Succeeded"

    deaths = 0
    while not finished():
        for job in fragile.cluster.list("jobs", namespace):
            if not job.get("status", {}).get("conditions"):
                fragile.end_job(job, code=0, message=json.dumps(fragile.publish(job)))
        die = lambda _: fragile.kill()  # noqa: E731 (two uses)
        early = Fault(WRITES, mine, status=500, before=die)
        late = Fault(WRITES, mine, after=die)
        proxy.add(late if deaths % 2 else early)
        fragile.start(until="image")
        assert fragile.process is not None
        fragile.process.wait(20)
        proxy.heal()
        deaths += 1
        assert deaths < 20
    assert deaths >= 4, "the Job is made, and the image told of"
    made = [
        request
        for request, status in proxy.writes()
        if request.method == "POST" and request.path.endswith("/jobs") and status == 201
    ]
    assert len(made) == 1
    fragile.start()
    fragile.cluster.do("create", "-f", "-", given=nix_image(namespace, "next", packages=["jq"]))
    fragile.image(namespace, lambda i: conditions(i).get("Reconciling") == "True/Building", "next")
    image = fragile.cluster.get("niximage", "web", namespace)
    assert image is not None
    assert len(image["status"]["history"]) == 1


def test_what_was_deleted_while_nobody_watched_is_found_gone(
    fragile: Operator, proxy: FaultProxy, namespace: str
) -> None:
    fragile.environment["NIXIMAGE_RESYNC_INTERVAL"] = "2"
    fragile.start()
    for name in ("web", "gone"):
        image = nix_image(namespace, name, packages=[name])
        fragile.cluster.do("create", "-f", "-", given=image)
        fragile.image(
            namespace, lambda i: conditions(i).get("Reconciling") == "True/Building", name
        )
    first = next(
        job
        for job in fragile.cluster.list("jobs", namespace)
        if job["metadata"]["labels"]["niximage.dev/image"] == "web"
    )
    blind = proxy.add(Fault("GET", "", status=503, watches=True, times=1000))
    assert proxy.cut_watches() == 3
    fragile.cluster.do("delete", "niximage", "gone", "-n", namespace)
    fragile.cluster.do("delete", "job", first["metadata"]["name"], "-n", namespace)
    proxy.add(Fault("GET", "", status=410, watches=True, times=3))
    blind.times = 0
    second = fragile.job(namespace, other_than=first["metadata"]["uid"])
    assert second["metadata"]["name"] == first["metadata"]["name"]
    listed = lambda: "listed 1 images and 1 Jobs" in fragile.log.read_text()  # noqa: E731 (one use)
    eventually("the image is forgotten", listed, log=fragile.log)


def restart_api_server(cluster: Cluster) -> None:
    """Kill the API server, and start it as it was, over the same etcd."""
    state = cluster.kubeconfig.parent
    pid = json.loads((state / "cluster.json").read_text())["processes"]["kube-apiserver"]
    command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[:-1]
    variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")[:-1]
    environment = dict(os.fsdecode(each).split("=", 1) for each in variables)
    handle = os.pidfd_open(pid)
    try:
        signal.pidfd_send_signal(handle, signal.SIGKILL)
    finally:
        os.close(handle)
    eventually("it is gone", lambda: cluster.run("get", "--raw", "/readyz").returncode != 0)
    with (state / "logs" / "kube-apiserver.log").open("ab") as output:
        process = subprocess.Popen(
            command, env=environment, stdout=output, stderr=output, start_new_session=True
        )
    _told(state / "cluster.json", process.pid)
    process.returncode = 0  # it outlives this test, and belongs to the cluster from now on
    eventually("it is back", lambda: cluster.run("get", "--raw", "/readyz").returncode == 0)


def _told(file: Path, pid: int) -> None:
    document = json.loads(file.read_text())
    document["processes"]["kube-apiserver"] = pid
    file.write_text(json.dumps(document))


def test_an_api_server_that_is_restarted_is_found_again(fragile: Operator, namespace: str) -> None:
    fragile.kubeconfig = None  # without the proxy: its answers are not the API server's
    fragile.start()
    fragile.cluster.do("create", "-f", "-", given=nix_image(namespace))
    job = fragile.job(namespace)
    restart_api_server(fragile.cluster)
    fragile.end_job(job, code=0, message=json.dumps(fragile.publish(job)))
    fragile.image_with(namespace, "Ready", "True/Succeeded")
    assert fragile.process is not None
    assert fragile.process.poll() is None


def _end(operator: Operator) -> None:
    if operator.process is not None and operator.process.poll() is None:
        operator.kill()


def test_no_two_operators_act_at_once_whoever_holds_the_lease_dies(
    fragile: Operator, cluster: Cluster, proxy: FaultProxy, namespace: str, tmp_path: Path
) -> None:
    other = Operator(cluster, fragile.git, tmp_path / "other", fragile.bucket)
    other.folder.mkdir()
    with FaultProxy(cluster.kubeconfig) as second:
        other.kubeconfig = second.kubeconfig(tmp_path / "other.kubeconfig")
        for each in (fragile, other):
            each.environment["NIXIMAGE_LEASE"] = f"{namespace}/operator"
        fragile.start()
        other.start(until="another operator is at work")
        with contextlib.ExitStack() as stack:
            stack.callback(_end, other)
            fragile.cluster.do("create", "-f", "-", given=nix_image(namespace))
            fragile.job(namespace)
            proxy.go()  # it lives, but reaches nobody: it has to stop before the other begins
            told = lambda: "listed" in other.log.read_text()  # noqa: E731 (one use)
            eventually("the other takes over", told, within=15, log=other.log)
            assert fragile.process is not None
            assert fragile.process.wait(15) == 75
            proxy.come_back()
            assert "is lost" in fragile.log.read_text()
            image = nix_image(namespace, "next", packages=["jq"])
            fragile.cluster.do("create", "-f", "-", given=image)
            other.image(
                namespace, lambda i: conditions(i).get("Reconciling") == "True/Building", "next"
            )
            assert other.stop() == 0
        leased = ("/leases", "accessreviews")
        ours = [r.at for r, _ in proxy.writes() if not any(w in r.path for w in leased)]
        theirs = [r.at for r, _ in second.writes() if not any(w in r.path for w in leased)]
        assert max(ours) < min(theirs)
