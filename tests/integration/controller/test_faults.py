"""Between the operator and the real API server things go wrong, and every image still arrives.

One operator serves most of these tests, through a proxy that does to its requests what networks
and API servers do. Its full lists are an hour apart: nothing but its own care repairs anything.
"""

import json
from collections.abc import Iterator

import pytest

from integration.controller.conftest import Operator
from support.git_server import GitServer
from support.kubernetes import Cluster, Json, conditions, eventually, nix_image
from support.proxy import Fault, FaultProxy

STATUS = "/niximages/.*/status$"
JOBS = "/jobs$"
BUILDING = "True/Building"


@pytest.fixture(scope="module")
def proxy(cluster: Cluster) -> Iterator[FaultProxy]:
    """The one way from operator to API server."""
    with FaultProxy(cluster.kubeconfig) as running:
        yield running


@pytest.fixture(scope="module")
def served(
    cluster: Cluster, proxy: FaultProxy, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Operator]:
    """An operator behind the proxy, for all tests."""
    folder = tmp_path_factory.mktemp("faults")
    bucket = folder / "bucket"
    bucket.mkdir()
    git = GitServer(folder)
    running = Operator(cluster, git, folder, bucket.as_uri())
    running.kubeconfig = proxy.kubeconfig(folder / "kubeconfig")
    running.environment["NIXIMAGE_RESYNC_INTERVAL"] = "3600"
    running.start()
    yield running
    assert running.stop() == 0
    git.stop()
    assert "Traceback" not in running.log.read_text(), running.log.read_text()[-4000:]


@pytest.fixture
def operator(served: Operator, proxy: FaultProxy) -> Iterator[Operator]:
    """The operator, alive before and after."""
    yield served
    proxy.heal()
    assert served.process is not None
    assert served.process.poll() is None, served.log.read_text()[-4000:]


def built(operator: Operator, namespace: str) -> Json:
    """The NixImage web, once its Job was played and it is Ready."""
    job = operator.job(namespace)
    operator.end_job(job, code=0, message=json.dumps(operator.publish(job)))
    return operator.image_with(namespace, "Ready", "True/Succeeded")


@pytest.mark.parametrize(
    "fault",
    [
        Fault("PATCH", STATUS, status=409, times=2),
        Fault("PATCH", STATUS, status=422, times=2),
        Fault("PATCH", STATUS, status=429, headers={"Retry-After": "1"}, times=2),
        Fault("PATCH", STATUS, status=500, times=2),
        Fault("PATCH", STATUS, lost=True, times=2),
    ],
    ids=["409", "422", "429", "500", "lost"],
)
def test_a_status_that_was_refused_arrives(
    operator: Operator, proxy: FaultProxy, namespace: str, fault: Fault
) -> None:
    proxy.add(fault)
    operator.cluster.do("create", "-f", "-", given=nix_image(namespace))
    image = operator.image_with(namespace, "Reconciling", BUILDING)
    assert fault.times == 0
    assert image["status"]["observedGeneration"] == 1


def test_who_asks_for_time_gets_it(operator: Operator, proxy: FaultProxy, namespace: str) -> None:
    proxy.add(Fault("PATCH", STATUS, status=429, headers={"Retry-After": "3"}))
    operator.cluster.do("create", "-f", "-", given=nix_image(namespace))
    operator.image_with(namespace, "Reconciling", BUILDING)
    writes = [
        (request.at, status)
        for request, status in proxy.writes()
        if f"/{namespace}/" in request.path and request.path.endswith("/status")
    ]
    (refused, _), (taken, _) = writes[:2]
    assert [status for _, status in writes[:2]] == [429, 200]
    assert taken - refused >= 3


@pytest.mark.parametrize(
    "fault",
    [
        Fault("POST", JOBS, status=500, times=2),
        Fault("POST", JOBS, status=429, headers={"Retry-After": "1"}),
        Fault("POST", JOBS, lost=True),
        Fault("POST", "/events$", status=500, times=9),
        Fault("GET", "/pods$", status=500, times=2),
        Fault("DELETE", "/jobs/", lost=True),
    ],
    ids=["job-500", "job-429", "job-lost", "events", "pods", "delete-lost"],
)
def test_an_image_is_built_once_whatever_call_fails(
    operator: Operator, proxy: FaultProxy, namespace: str, fault: Fault
) -> None:
    proxy.add(fault)
    operator.cluster.do("create", "-f", "-", given=nix_image(namespace))
    operator.job(namespace)
    built(operator, namespace)
    made = [
        status
        for request, status in proxy.writes()
        if request.method == "POST" and f"/{namespace}/jobs" in request.path and status == 201
    ]
    assert len(made) == 1


def test_a_watch_that_is_cut_goes_on(operator: Operator, proxy: FaultProxy, namespace: str) -> None:
    operator.cluster.do("create", "-f", "-", given=nix_image(namespace))
    operator.job(namespace)
    assert proxy.cut_watches() == 3
    built(operator, namespace)
    eventually("the watches are there again", lambda: proxy.cut_watches() == 3)
    operator.cluster.do("create", "-f", "-", given=nix_image(namespace, "next", packages=["jq"]))
    operator.image(namespace, lambda i: conditions(i).get("Reconciling") == BUILDING, "next")


def test_an_api_server_that_goes_away_is_waited_for(
    operator: Operator, proxy: FaultProxy, namespace: str
) -> None:
    operator.cluster.do("create", "-f", "-", given=nix_image(namespace))
    job = operator.job(namespace)
    proxy.go()
    operator.end_job(job, code=0, message=json.dumps(operator.publish(job)))
    operator.cluster.do("create", "-f", "-", given=nix_image(namespace, "next", packages=["jq"]))
    proxy.come_back()
    operator.image_with(namespace, "Ready", "True/Succeeded")
    operator.image(namespace, lambda i: conditions(i).get("Reconciling") == BUILDING, "next")
