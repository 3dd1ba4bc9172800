"""The release as those have it who rely on it, by the commands of the documentation.

The gateway has a name that nodes know, TLS, tokens and two replicas, as docs/gateway.md sets it up;
there are two operators; and what nobody needs is collected from a bucket in a folder.
"""

import base64
import json
import os
import re
import shutil
import signal
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.conftest import IMAGE_LABEL, PROJECT, Node
from e2e.user import Page, Shell
from support.kubernetes import Json, eventually, nix_image

pytestmark = pytest.mark.timeout(600)  # the release is changed, and changed back
NAMESPACE = "default"  # where the chart prepares builds
SYSTEM = "niximage-system"
REPOSITORIES = Path("docker/registry/v2/repositories")


@pytest.fixture(scope="module")
def page(node: Node) -> Iterator[Page]:
    """How docs/gateway.md sets up a gateway by name; afterwards the node does not know the name."""
    service = node.cluster.get("service", "kubernetes", NAMESPACE)
    assert service is not None
    address = service["spec"]["clusterIP"].rpartition(".")[0] + ".14"  # given to no other Service
    folder = node.cluster.kubeconfig.parent / "containerd" / "certs.d"
    here = {"10.96.0.50": address, "/etc/containerd/certs.d": str(folder), "team-a": NAMESPACE}
    yield Page.of("gateway.md", "By name, for all nodes", here)
    shutil.rmtree(folder / "registry.example", ignore_errors=True)


@pytest.fixture(scope="module")
def bucket(node: Node) -> Path:
    """A folder of the node."""
    return node.cluster.kubeconfig.parent / "bucket"


@pytest.fixture(scope="module")
def shell(
    node: Node, page: Page, bucket: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Shell]:
    """The release, upgraded; afterwards it is as before."""
    run = Shell(node, tmp_path_factory.mktemp("user"))
    (run.folder / "charts").symlink_to(PROJECT / "charts")
    others = {
        "bucket": {"url": "", "emulatorHost": "", "folder": {"path": str(bucket)}},
        "operator": {"replicas": 2},
        "gc": {"enabled": True, "grace": "24h"},
    }
    values = page.values + "".join(f"{key}: {json.dumps(each)}\n" for key, each in others.items())
    (run.folder / "service.yaml").write_text(values)
    try:
        run(page.named("openssl", "kubectl create secret tls", "kubectl create secret generic"))
        run(page.named("helm"))
        run(page.named("mkdir", "cp", "printf"))
        yield run
    finally:
        kinds = "niximage,job,pod,secret,serviceaccount"
        node.cluster.run("delete", kinds, "--all", "-n", NAMESPACE)
        state = node.cluster.kubeconfig.parent
        command = [sys.executable, str(PROJECT / "demo"), "install", "--state", str(state)]
        subprocess.run(command, check=True, capture_output=True, timeout=280)


def holder(node: Node) -> str:
    """The pod that acts, by the Lease."""
    lease = node.cluster.get("lease", "niximage-operator", SYSTEM)
    return str(lease["spec"]["holderIdentity"].rpartition("-")[0]) if lease else ""


def kill(pod: str, program: str) -> None:
    """Kill a pod's program without a word to it."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            environment = (folder / "environ").read_bytes().split(b"\0")
            command = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:  # ended meanwhile
            continue
        if f"HOSTNAME={pod}".encode() in environment and program.encode() in command:
            os.kill(int(folder.name), signal.SIGKILL)


def test_another_operator_takes_over_and_an_evicted_build_goes_on(node: Node, shell: Shell) -> None:
    node.apply(nix_image(NAMESPACE, "hello"))
    leader = eventually("somebody acts", lambda: holder(node) or None)
    pod = node.building(NAMESPACE, "on", "shell", "hello")["metadata"]["name"]
    (before,) = jobs_of(node, "on")
    kill(leader, "operator")
    killed = time.monotonic()
    path = f"/api/v1/namespaces/{NAMESPACE}/pods/{pod}/eviction"
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod}}
    node.cluster.do("create", "--raw", path, "-f", "-", given=eviction)
    eventually("another acts", lambda: holder(node) not in ("", leader), within=30)
    assert time.monotonic() - killed < 15
    node.ready(NAMESPACE, "on")
    (after,) = jobs_of(node, "on")
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    names = {each["metadata"]["name"] for each in node.cluster.list("pods", NAMESPACE)}
    assert pod not in names, "another one did it"


def jobs_of(node: Node, image: str) -> list[Json]:
    """The Jobs of a NixImage."""
    jobs = node.cluster.list("jobs", NAMESPACE)
    return [job for job in jobs if job["metadata"]["labels"][IMAGE_LABEL] == image]


def test_nodes_pull_by_name_with_a_secret_and_not_without(
    node: Node, shell: Shell, page: Page
) -> None:
    reference = node.ready(NAMESPACE, "on")["status"]["image"]
    assert reference.startswith(f"registry.example/{NAMESPACE}/on@sha256:")
    refused = node.run(NAMESPACE, reference, "/bin/hello")

    def reason() -> str | None:
        pod = node.cluster.get("pod", refused, NAMESPACE) or {}
        for status in pod["status"].get("containerStatuses", []):
            waiting = status["state"].get("waiting", {})
            if waiting.get("reason") in {"ErrImagePull", "ImagePullBackOff"}:
                return str(waiting.get("message"))
        return None

    assert "401 Unauthorized" in eventually("the pull is refused", reason)
    of_namespace = ("serviceaccount", "-n", "secret docker-registry")
    creates = (f"kubectl create {what}" for what in of_namespace)
    shell(page.named(*creates, "kubectl wait", "kubectl patch"))
    assert "Hello" in node.output(NAMESPACE, reference, "/bin/hello")


def test_each_gateway_takes_the_others_tokens(node: Node, shell: Shell) -> None:
    pods = node.cluster.list("pods", SYSTEM)
    label = "app.kubernetes.io/component"
    gateways = [p for p in pods if p["metadata"]["labels"].get(label) == "gateway"]
    first, second = (f"https://{pod['status']['podIP']}:5000" for pod in gateways)
    password = node.cluster.do("create", "token", "puller", "-n", NAMESPACE).strip()
    trusting = ssl.create_default_context(cafile=str(shell.folder / "tls.crt"))
    trusting.check_hostname = False  # each is asked by its pod's address

    def ask(url: str, authorization: str) -> Json:
        request = urllib.request.Request(url, headers={"Authorization": authorization})
        with urllib.request.urlopen(request, timeout=10, context=trusting) as answer:
            found: Json = json.loads(answer.read())
            return found

    basic = base64.b64encode(f"token:{password}".encode()).decode()
    repository = f"{NAMESPACE}/on"
    scope = f"service=niximage&scope=repository:{repository}:pull"
    token = ask(f"{first}/token?{scope}", f"Basic {basic}")["token"]
    digest = node.ready(NAMESPACE, "on")["status"]["digest"]
    manifest = ask(f"{second}/v2/{repository}/manifests/{digest}", f"Bearer {token}")
    assert manifest["layers"]


def test_the_collection_deletes_what_no_image_needs(node: Node, shell: Shell, bucket: Path) -> None:
    node.ready(NAMESPACE, "hello")
    before = files(bucket)
    node.cluster.do("delete", "niximage", "hello", "-n", NAMESPACE)
    long_ago = time.time() - 25 * 3600
    for file in before:
        os.utime(bucket / file, (long_ago, long_ago))
    node.cluster.do("label", "namespace", SYSTEM, "pod-security.kubernetes.io/warn=restricted")
    commands = Page.of("operating.md", "Garbage collection", {}).named("kubectl")
    log = shell(f"({commands}) 2>&1")
    assert "Warning" not in log, "it is of the Restricted profile"
    after = files(bucket)
    of_hello = REPOSITORIES / NAMESPACE / "hello"
    assert any(file.is_relative_to(of_hello) for file in before)
    assert not any(file.is_relative_to(of_hello) for file in after)
    assert re.search(rf"^{NAMESPACE}/hello +\d", log, re.MULTILINE)
    assert "1 digest is in use" in log
    digest = node.ready(NAMESPACE, "on")["status"]["digest"]
    manifest = json.loads((bucket / blob(digest)).read_bytes())
    for part in (manifest["config"], *manifest["layers"]):
        assert blob(part["digest"]) in after


def blob(digest: str) -> Path:
    """Where a bucket has a blob."""
    digits = digest.removeprefix("sha256:")
    return Path("docker/registry/v2/blobs/sha256", digits[:2], digits, "data")


def files(folder: Path) -> set[Path]:
    """The files below a folder, by their names in it."""
    return {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}
