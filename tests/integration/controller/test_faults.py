"""Between the operator and the real API server things go wrong, and every image still arrives.

One operator serves most of these tests, through a proxy that does to its requests what networks
and API servers do. Its full lists are an hour apart: nothing but its own care repairs anything.
"""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Iterator

import pytest

from integration.controller.conftest import Operator
from support.api import IMAGES, Api
from support.git_server import GitServer
from support.kubernetes import (
    Cluster,
    Json,
    conditions,
    eventually,
    nix_build_class,
    nix_image,
)
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
        Fault("PATCH", STATUS, lost=True),
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


def pod_of(operator: Operator, namespace: str, image: str) -> Json:
    """The pod of an image's Job."""

    def look() -> Json | None:
        pods = operator.cluster.list("pods", namespace)
        return next(
            (p for p in pods if p["metadata"]["labels"].get("niximage.dev/image") == image), None
        )

    return eventually("the Job's pod", look)


def test_a_pod_that_cannot_start_says_why(operator: Operator, namespace: str) -> None:
    stuck: dict[str, Json] = {
        "no-node": {
            "conditions": [
                {
                    "type": "PodScheduled",
                    "status": "False",
                    "reason": "Unschedulable",
                    "message": "0/3 nodes are available: 3 Insufficient memory.",
                }
            ]
        },
        "no-image": {
            "initContainerStatuses": [
                {
                    "name": "build",
                    "image": "x",
                    "imageID": "",
                    "ready": False,
                    "restartCount": 0,
                    "state": {
                        "waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling x"}
                    },
                }
            ]
        },
    }
    for name, status in stuck.items():
        image = nix_image(namespace, name, packages=[name])
        operator.cluster.do("create", "-f", "-", given=image)
        pod = pod_of(operator, namespace, name)["metadata"]["name"]
        operator.cluster.set_status("pod", pod, namespace, status)
    told = {
        name: operator.image(
            namespace,
            lambda i: i["status"].get("currentBuild", {}).get("progress", {}).get("message"),
            name,
        )["status"]["currentBuild"]["progress"]
        for name in stuck
    }
    assert {progress["phase"] for progress in told.values()} == {"Pending"}
    assert "Insufficient memory" in told["no-node"]["message"]
    assert "ImagePullBackOff" in told["no-image"]["message"]


@pytest.mark.parametrize("how", ["evicted", "gone"])
def test_a_pod_that_is_taken_away_is_followed_by_another(
    operator: Operator, namespace: str, how: str
) -> None:
    operator.cluster.do("create", "-f", "-", given=nix_image(namespace))
    first = operator.job(namespace)
    pod = pod_of(operator, namespace, "web")["metadata"]["name"]
    if how == "evicted":
        status = {"phase": "Failed", "reason": "Evicted", "message": "low on memory"}
        operator.cluster.set_status("pod", pod, namespace, status)
    else:
        operator.cluster.do("delete", "pod", pod, "-n", namespace, "--grace-period=0", "--force")
    second = operator.job(namespace, other_than=first["metadata"]["uid"])
    assert second["metadata"]["annotations"]["niximage.dev/attempt"] == "2"
    operator.end_job(second, code=0, message=json.dumps(operator.publish(second)))
    image = operator.image_with(namespace, "Ready", "True/Succeeded")
    assert [build["result"] for build in image["status"]["history"]] == ["Succeeded", "Failed"]


def test_what_an_attacker_says_is_only_text(operator: Operator, namespace: str) -> None:
    operator.cluster.do("create", "-f", "-", given=nix_image(namespace))
    said = {
        "v": 1,
        "reason": "BuildFailed",
        "message": "\x1b[2J\x1b]0;owned\x07 see https://example.org \u202e\r\n" + "x" * 900,
        "retryable": False,
        "logTail": "\x1b[31m" + "y" * 900,
    }
    operator.end_job(operator.job(namespace), code=65, message=json.dumps(said), step="build")
    image = operator.image_with(namespace, "Stalled", "True/BuildFailed")
    told = json.dumps(image["status"], ensure_ascii=False)
    assert "see https://example.org" in told
    assert "\\u001b" not in told
    assert "\u202e" not in told


def test_a_record_that_is_no_record_is_built_anew(operator: Operator, namespace: str) -> None:
    operator.cluster.do("create", "-f", "-", given=nix_image(namespace))
    built(operator, namespace)
    bucket = operator.folder / "bucket"
    (record,) = bucket.glob(f"niximage/v1/builds/{namespace}/*")
    record.write_bytes(b'{"v": 1, "kind": "build", "digest": "sha256:')
    operator.cluster.do("delete", "niximage", "web", "-n", namespace)
    eventually("its Job is gone", lambda: not operator.cluster.list("jobs", namespace), within=90)
    operator.cluster.do("create", "-f", "-", given=nix_image(namespace))
    built(operator, namespace)
    assert json.loads(record.read_text())["kind"] == "build"


def test_a_class_that_goes_away_ends_no_build(operator: Operator, namespace: str) -> None:
    shape = nix_build_class("passing")
    operator.cluster.do("apply", "-f", "-", given=shape)
    image = nix_image(namespace, build={"className": "passing"})
    operator.cluster.do("create", "-f", "-", given=image)
    job = operator.job(namespace)
    operator.cluster.do("delete", "nixbuildclass", "passing")
    operator.image_with(namespace, "Reconciling", "True/WaitingForClass")
    operator.end_job(job, code=0, message=json.dumps(operator.publish(job)))
    operator.cluster.do("apply", "-f", "-", given=shape)
    operator.image_with(namespace, "Ready", "True/Succeeded")
    (only,) = operator.cluster.list("jobs", namespace)
    assert only["metadata"]["uid"] == job["metadata"]["uid"]
    operator.cluster.do("delete", "nixbuildclass", "passing")


def test_a_namespace_that_ends_takes_all_with_it(
    operator: Operator, proxy: FaultProxy, namespace: str
) -> None:
    ending = f"{namespace}-ending"
    operator.cluster.do("create", "namespace", ending)
    for name in ("web", "shop"):
        output = {"deletionPolicy": "Delete"} if name == "shop" else {}
        image = nix_image(ending, name, packages=[name], output=output)
        operator.cluster.do("create", "-f", "-", given=image)
        operator.image(ending, lambda i: conditions(i).get("Reconciling") == BUILDING, name)
    operator.cluster.do("delete", "namespace", ending, "--wait=true", "--timeout=60s")
    quiet = len(proxy.writes())
    operator.cluster.do("create", "-f", "-", given=nix_image(namespace))
    operator.image_with(namespace, "Reconciling", BUILDING)
    later = [request for request, _ in proxy.writes()[quiet:] if f"/{ending}/" in request.path]
    assert later == [], "nobody writes where nothing is"


async def test_five_hundred_images_at_once_are_all_answered_within_the_caps(
    operator: Operator, namespace: str
) -> None:
    spaces = [f"{namespace}-{n}" for n in range(5)]
    try:
        async with Api(operator.cluster.kubeconfig) as api:
            for space in spaces:
                body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": space}}
                await api.call("POST", "/api/v1/namespaces", body)
            for space in spaces:
                images = [nix_image(space, f"i-{n}", packages=[f"p{n}"]) for n in range(100)]
                path = f"{IMAGES}/namespaces/{space}/niximages"
                await asyncio.gather(*(api.call("POST", path, image) for image in images))
            deadline = time.monotonic() + 60
            while True:
                found = await api.list(f"{IMAGES}/niximages")
                states = Counter(
                    (image["metadata"]["namespace"], conditions(image).get("Reconciling"))
                    for image in found
                    if image["metadata"]["namespace"] in spaces
                )
                building = {s: states[s, BUILDING] for s in spaces}
                waiting = {s: states[s, "True/Queued"] for s in spaces}
                if (sum(building.values()), sum(waiting.values())) == (20, 480):
                    break
                assert time.monotonic() < deadline, states
                await asyncio.sleep(0.3)
            jobs = await api.list("/apis/batch/v1/jobs")
            made = Counter(job["metadata"]["namespace"] for job in jobs)
        assert max(made[space] for space in spaces) <= 5
        assert sum(made[space] for space in spaces) == 20
    finally:
        operator.cluster.do("delete", "namespace", *spaces, "--wait=false")
