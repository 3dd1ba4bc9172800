"""Whom pods reach under the chart's NetworkPolicies, as the node's Felix enforces them.

Beside each pod that a policy is for stands one that none is for: what that one does not reach
would say nothing about the other.
"""

import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import pytest

from e2e.conftest import Node, restricted_namespace
from support.kubernetes import Json, eventually

SYSTEM = "niximage-system"
BUILDS = "default"  # the chart's policy for builds is there
BUILDER = {  # as the operator labels them
    "app.kubernetes.io/managed-by": "niximage-operator",
    "app.kubernetes.io/component": "builder",
}
METADATA = ("169.254.169.254:80", "169.254.169.252:988")  # of most clouds, and of GKE
CACHE_OF_NAMES = "169.254.20.10:53"
WORLD = "203.0.113.7"
SERVERS = (f"{WORLD}:443", f"{WORLD}:22")
ODD_PORT = f"{WORLD}:9418"
PORTS = (53, 80, 8080)  # of each of the pods here
LISTEN = """
import asyncio, sys
async def main():
    for each in sys.argv[1:]:
        host, _, port = each.rpartition(":")
        await asyncio.start_server(lambda _, writer: writer.close(), host or None, int(port))
    print("listening", flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""
PROBE = 'for each; do (timeout 3 bash -c "</dev/tcp/${each/:/\\/}" && echo "$each") & done; wait'


class Pod:
    """A pod, and what it reaches."""

    def __init__(self, node: Node, name: str, namespace: str) -> None:
        self._node, self._name, self.namespace = node, name, namespace
        self.address: str = eventually("the pod runs", self._address, within=60)

    def _address(self) -> str | None:
        pod = self._node.cluster.get("pod", self._name, self.namespace) or {"status": {}}
        ready = {"type": "Ready", "status": "True"}.items()
        if not any(ready <= each.items() for each in pod["status"].get("conditions", ())):
            return None
        return str(pod["status"]["podIP"])

    def reached(self, targets: Iterable[str]) -> set[str]:
        """Those of `address:port` that accept a connection."""
        command = ("exec", self._name, "-n", self.namespace, "--", "bash", "-c", PROBE, "probe")
        return set(self._node.cluster.do(*command, *targets).split())

    @contextmanager
    def listening(self, port: int) -> Iterator[None]:
        """Its container listens at one more port."""
        kubectl = [str(self._node.cluster.programs / "kubectl"), "-n", self.namespace]
        kubectl += [f"--kubeconfig={self._node.cluster.kubeconfig}", "exec", self._name, "--"]
        # it would go on when nobody looks any more
        with _listening([*kubectl, "timeout", "30", "python3", "-c", LISTEN, f":{port}"]):
            yield


@contextmanager
def _listening(command: list[str]) -> Iterator[None]:
    # it must not outlive a session that is killed
    command = ["setpriv", "--pdeathsig", "TERM", *command]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "listening\n"
            yield
        finally:
            process.kill()


def _start(node: Node, name: str, namespace: str, labels: Json) -> Pod:
    (operator,) = node.cluster.list("deployments", SYSTEM)
    image = operator["spec"]["template"]["spec"]["containers"][0]["image"]
    listen = ["python3", "-c", LISTEN, *(f":{port}" for port in PORTS)]
    everybody_may = {"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"}
    container: Json = {
        "name": "run",
        "image": image,
        "command": listen,
        "readinessProbe": {"tcpSocket": {"port": PORTS[-1]}, "periodSeconds": 1},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        },
    }
    spec: Json = {
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 0,
        "securityContext": {
            "runAsNonRoot": True,
            "seccompProfile": {"type": "RuntimeDefault"},
            "sysctls": [everybody_may],
        },
        "containers": [container],
    }
    metadata = {"name": name, "namespace": namespace, "labels": {"test": name, **labels}}
    service = {"selector": {"test": name}, "ports": [{"port": 80}]}
    node.apply({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
    node.apply({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": service})
    return Pod(node, name, namespace)


@pytest.fixture(scope="module")
def neighbour(node: Node) -> Iterator[Pod]:
    """A pod of somebody else, with a Service."""
    with restricted_namespace(node, "neighbours") as namespace:
        yield _start(node, "neighbour", namespace, {})


@pytest.fixture(scope="module")
def pods(node: Node) -> Iterator[tuple[Pod, Pod]]:
    """Two pods where builds run: one is labelled as a build's, and one is not."""
    try:
        yield _start(node, "build", BUILDS, BUILDER), _start(node, "other", BUILDS, {})
    finally:
        node.cluster.run("delete", "pod,service", "-n", BUILDS, "-l", "test", "--wait=false")


@pytest.fixture(scope="module")
def world(node: Node) -> Iterator[None]:
    """Servers at addresses outside of the cluster, next to the pods: in the node's router."""
    enter = ["nsenter", f"--net={node.cluster.kubeconfig.parent / 'router'}"]
    servers = (*METADATA, CACHE_OF_NAMES, *SERVERS, ODD_PORT)
    for address in {each.partition(":")[0] for each in servers}:
        command = [*enter, "ip", "address", "replace", f"{address}/32", "dev", "lo"]
        subprocess.run(command, check=True, timeout=20)
    with _listening([*enter, sys.executable, "-c", LISTEN, *servers]):
        yield


def _service(node: Node, name: str, namespace: str) -> str:
    service = node.cluster.get("service", name, namespace)
    assert service is not None
    return f"{service['spec']['clusterIP']}:{service['spec']['ports'][0]['port']}"


def _api_servers(node: Node) -> set[str]:
    """As pods find it, and as it is."""
    (machine,) = node.cluster.list("nodes", "")
    (address,) = (a["address"] for a in machine["status"]["addresses"] if a["type"] == "InternalIP")
    return {_service(node, "kubernetes", "default"), f"{address}:6443"}


def _part(node: Node, component: str) -> Pod:
    """A running part of the release."""
    (name,) = (
        pod["metadata"]["name"]
        for pod in node.cluster.list("pods", SYSTEM)
        if pod["metadata"]["labels"].get("app.kubernetes.io/component") == component
        and pod["status"]["phase"] == "Running"
    )
    return Pod(node, name, SYSTEM)


@pytest.mark.usefixtures("world")
def test_builds_reach_the_world_and_nothing_of_the_cluster(
    node: Node, pods: tuple[Pod, Pod], neighbour: Pod
) -> None:
    build, other = pods
    wanted = {
        *SERVERS,
        CACHE_OF_NAMES,
        f"{neighbour.address}:53",  # names are looked up at any pod
        *(_service(node, name, "niximage-demo") for name in ("packages", "bucket")),
    }
    unwanted = {
        ODD_PORT,
        *METADATA,
        *_api_servers(node),
        f"{neighbour.address}:80",
        _service(node, "neighbour", neighbour.namespace),
        f"{_part(node, 'operator').address}:8080",
        f"{_part(node, 'gateway').address}:5000",
    }
    assert other.reached(wanted | unwanted) == wanted | unwanted
    assert build.reached(wanted | unwanted) == wanted


def test_nobody_reaches_a_build(pods: tuple[Pod, Pod], neighbour: Pod) -> None:
    build, other = ({f"{pod.address}:{port}" for port in PORTS} for pod in pods)
    assert neighbour.reached(build | other) == other


@pytest.mark.usefixtures("world")
@pytest.mark.parametrize(("component", "port"), [("operator", 8080), ("gateway", 5000)])
def test_parts_reach_and_are_reached_at_their_ports_alone(
    node: Node, pods: tuple[Pod, Pod], neighbour: Pod, component: str, port: int
) -> None:
    part, (_, other) = _part(node, component), pods
    wanted = {*SERVERS, METADATA[0], CACHE_OF_NAMES, *_api_servers(node)}
    unwanted = {ODD_PORT, f"{neighbour.address}:8080"}
    assert other.reached(wanted | unwanted) == wanted | unwanted
    assert part.reached(wanted | unwanted) == wanted
    with part.listening(9999):
        assert part.reached({f"{part.address}:9999"})
        open_, shut = f"{part.address}:{port}", f"{part.address}:9999"
        assert neighbour.reached({open_, shut}) == {open_}
