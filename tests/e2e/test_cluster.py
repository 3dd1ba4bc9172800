"""The local Kubernetes of `cluster/`, run for real, as people run it: by its commands.

What matters to those who build on it: instances do not disturb each other, a crash heals by
another `up`, pods run and answer on loopback, and `down` leaves nothing on the machine.
The first run on a machine builds Kubernetes, which takes minutes; later ones take seconds.
"""

import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

CLUSTER = Path(__file__).resolve().parents[2] / "cluster"
DEADLINE_SECONDS = 60

pytestmark = [
    pytest.mark.timeout(1800),  # the first run builds Kubernetes
    pytest.mark.skipif(shutil.which("go") is None, reason="Go builds the cluster's programs"),
]
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="a node needs root")


def cluster(*arguments: str | Path, code: int = 0) -> str:
    """Run a command of the cluster; returns its stdout."""
    command = [sys.executable, str(CLUSTER), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    return done.stdout


def status(state: Path, code: int = 0) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(cluster("status", "--json", "--state", state, code=code))
    return document


def kubectl(state: Path, *arguments: str, stdin: str | None = None) -> str:
    command = [
        f"{cluster('tools', 'kubectl').strip()}/kubectl",
        "--kubeconfig",
        str(state / "kubeconfig"),
    ]
    done = subprocess.run(
        [*command, *arguments], input=stdin, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def apply(state: Path, *documents: dict[str, Any]) -> None:
    items = {"apiVersion": "v1", "kind": "List", "items": list(documents)}
    kubectl(state, "apply", "--filename", "-", stdin=json.dumps(items))


def eventually(check: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not check():
        assert time.monotonic() < deadline, f"not in {DEADLINE_SECONDS} s: {what}"
        time.sleep(0.05)


def traces(state: Path, name: str) -> list[str]:
    """Everything on this machine that belongs to the instance."""
    found = [str(path) for path in (state, Path("/sys/class/net", name)) if path.exists()]
    found += [line for line in Path("/proc/self/mountinfo").read_text().splitlines()
              if f" {state}" in line]  # fmt: skip
    # Not rglob, which fails when a group of another instance goes away while it looks.
    found += [str(Path(folder, name)) for folder, inner, _ in os.walk("/sys/fs/cgroup")
              if name in inner]  # fmt: skip
    found += [str(link) for link in Path("/var/log/containers").glob("*")
              if str(link.readlink()).startswith(str(state))]  # fmt: skip
    found += map(str, Path("/var/lib/cni/results").glob(f"{name}-*"))
    if shutil.which("iptables-save"):
        rules = subprocess.run(["iptables-save"], capture_output=True, text=True, check=True)
        found += [line for line in rules.stdout.splitlines()
                  if f'"{name}' in line.replace("\\", "")]  # fmt: skip
    routes = Path("/proc/net/route").read_text().splitlines()
    found += [line for line in routes if line.split()[0] == name]
    found += [path for path in ("/var/lib/calico", "/run/calico") if Path(path).exists()]
    return found + processes(state)


def processes(state: Path) -> list[str]:
    """The instance's processes, shims and pods included."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes()
            if str(state).encode() in command + (folder / "environ").read_bytes():
                found.append(f"{folder}: {command!r}")
        except OSError:  # ended meanwhile, or nobody may look at it
            continue
    return found


def network_namespaces() -> set[str]:
    folder = Path("/run/netns")
    return {path.name for path in folder.iterdir()} if folder.exists() else set()


@pytest.fixture
def states() -> Iterator[list[Path]]:
    """Two state folders, removed with what runs in them; pytest's own are too long for sockets."""
    folder = Path(tempfile.mkdtemp(prefix="cluster-"))
    pair = [folder / "first", folder / "second"]
    yield pair
    for state in pair:
        cluster("down", "--state", state)
    shutil.rmtree(folder)


@pytest.fixture
def state(states: list[Path]) -> Path:
    return states[0]


def test_two_control_planes_start_at_once_and_run_side_by_side(states: list[Path]) -> None:
    starting = [
        subprocess.Popen(
            [sys.executable, CLUSTER, "up", "--mode", "control-plane", "--state", state],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for state in states
    ]
    assert [process.wait() for process in starting] == [0, 0]
    names = [status(state)["name"] for state in states]
    assert len(set(names)) == 2
    kubectl(states[0], "create", "namespace", "only-in-the-first")
    assert "only-in-the-first" in kubectl(states[0], "get", "namespaces")
    assert "only-in-the-first" not in kubectl(states[1], "get", "namespaces")
    for state, name in zip(states, names, strict=True):
        cluster("down", "--state", state)
        assert traces(state, name) == []


def test_up_is_idempotent_and_heals_a_killed_api_server(state: Path) -> None:
    cluster("up", "--mode", "control-plane", "--state", state)
    first = status(state)
    cluster("up", "--mode", "control-plane", "--state", state)
    assert status(state)["processes"] == first["processes"]

    os.kill(first["processes"]["kube-apiserver"], signal.SIGKILL)
    eventually(lambda: not _is_running(state, "kube-apiserver"), "the API server ends")
    assert not status(state, code=1)["healthy"]
    cluster("up", "--mode", "control-plane", "--state", state)
    assert status(state)["healthy"]
    assert "default" in kubectl(state, "get", "namespaces")


def test_down_leaves_a_folder_alone_that_holds_no_cluster(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").touch()
    cluster("down", "--state", tmp_path, code=1)
    cluster("up", "--mode", "control-plane", "--state", tmp_path, code=1)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@needs_root
def test_a_machine_hears_of_all_that_it_lacks_before_anything_is_done(tmp_path: Path) -> None:
    (cache := tmp_path / "cache").mkdir()
    (programs := tmp_path / "programs").mkdir()
    (programs / "python3").symlink_to(sys.executable)
    up = "mount -t tmpfs -o size=1m none $XDG_CACHE_HOME; exec python3 $0 up --state $1"
    done = subprocess.run(
        ["/usr/bin/unshare", "--mount", "/bin/sh", "-c", f"/bin/{up}", CLUSTER, tmp_path / "state"],
        env={"PATH": str(programs), "XDG_CACHE_HOME": str(cache)},
        capture_output=True,
        text=True,
        check=False,
    )
    first, *lacks = done.stderr.splitlines()
    assert done.returncode == 1
    assert first == "error: this machine lacks something; nothing was changed on it:"
    assert any("Go is not installed" in each for each in lacks)
    assert any("too little disk" in each and "0.0 GiB are free" in each for each in lacks)
    assert not (tmp_path / "state").exists()


@needs_root
@pytest.mark.parametrize(("program", "command"), [("cluster", "up"), ("images", "build")])
def test_who_is_not_root_is_told_before_anything_is_done(
    tmp_path: Path, program: str, command: str
) -> None:
    done = subprocess.run(
        ["unshare", "--user", sys.executable, CLUSTER.parent / program, command],
        env={**os.environ, "XDG_CACHE_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "root is needed" in done.stderr
    assert "==>" not in done.stderr


@needs_root
def test_a_node_runs_pods_and_goes_without_a_trace(state: Path) -> None:
    namespaces_before = network_namespaces()
    environment = cluster("up", "--state", state)
    node = status(state)
    asked = (
        f"{environment}\nkubectl config view --output=jsonpath='{{.clusters[0].cluster.server}}'"
    )
    assert subprocess.check_output(["bash", "-euc", asked], text=True) == node["server"]
    apply(state, _web_pod(node), _job(node["baseImage"]))

    url = f"http://127.0.0.1:{node['registryPort']}/index.html"
    eventually(lambda: _fetch(url) == b"hello\n", "a host port on loopback answers")
    kubectl(state, "wait", "--for=condition=complete", "--timeout=60s", "job/two-steps")
    assert kubectl(state, "logs", "job/two-steps", "--container=build") == "building\n"
    terminated = ".items[0].status.containerStatuses[0].state.terminated"
    query = ["--selector=job-name=two-steps", f"--output=jsonpath={{{terminated}.message}}"]
    assert kubectl(state, "get", "pods", *query) == "built\n"

    cluster("down", "--state", state)
    assert traces(state, node["name"]) == []
    assert network_namespaces() == namespaces_before


@needs_root
def test_down_cleans_up_after_a_node_that_crashed_with_running_pods(state: Path) -> None:
    cluster("up", "--state", state)
    node = status(state)
    apply(state, _web_pod(node))
    kubectl(state, "wait", "--for=condition=ready", "--timeout=60s", "pod/web")
    for component in ("kubelet", "containerd", "kube-apiserver"):
        os.kill(node["processes"][component], signal.SIGKILL)
    cluster("down", "--state", state)
    assert traces(state, node["name"]) == []


@needs_root
def test_load_makes_archives_known_by_the_names_that_pods_use(state: Path, tmp_path: Path) -> None:
    cluster("up", "--state", state)
    archives = [tmp_path / "short.tar", tmp_path / "long.tar"]
    for archive, name in zip(archives, ("app:1", "registry.example/team/app:1"), strict=True):
        archive.write_bytes(_oci_archive(name))
    loaded = ["docker.io/library/app:1", "registry.example/team/app:1"]
    assert cluster("load", "--state", state, *archives).split() == loaded
    assert cluster("load", "--state", state, *archives).split() == loaded


def _is_running(state: Path, component: str) -> bool:
    components = status(state, code=1)["components"]
    return any(c["name"] == component and c["running"] for c in components)


def _fetch(url: str) -> bytes:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            body: bytes = answer.read()
            return body
    except OSError:
        return b""


def _web_pod(node: dict[str, Any]) -> dict[str, Any]:
    script = "mkdir /www; echo hello > /www/index.html; exec httpd -f -p 8080 -h /www"
    port = {"containerPort": 8080, "hostPort": node["registryPort"], "hostIP": "127.0.0.1"}
    web = {
        "name": "web",
        "image": node["baseImage"],
        "command": ["sh", "-c", script],
        "ports": [port],
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web"},
        "spec": {"containers": [web]},
    }


def _job(image: str) -> dict[str, Any]:
    """A build Job's shape: what the first container leaves, the second one reports."""
    volume = {"name": "work", "mountPath": "/work"}

    def container(name: str, script: str) -> dict[str, Any]:
        command = ["sh", "-c", script]
        return {"name": name, "image": image, "command": command, "volumeMounts": [volume]}

    build = container("build", "echo building; echo built > /work/result")
    publish = container("publish", "cp /work/result /dev/termination-log")
    pod = {
        "restartPolicy": "Never",
        "volumes": [{"name": "work", "emptyDir": {}}],
        "initContainers": [build],
        "containers": [publish],
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "two-steps"},
        "spec": {"backoffLimit": 0, "template": {"spec": pod}},
    }


def _oci_archive(name: str) -> bytes:
    """An image of one layer, which holds one file with the image's name."""
    layer = _tar({"name": name.encode()})
    diff_id = f"sha256:{hashlib.sha256(layer).hexdigest()}"
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": [diff_id]},
        }
    ).encode()
    kind = "application/vnd.oci.image"
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": f"{kind}.manifest.v1+json",
            "config": _descriptor(f"{kind}.config.v1+json", config),
            "layers": [_descriptor(f"{kind}.layer.v1.tar", layer)],
        }
    ).encode()
    entry = _descriptor(f"{kind}.manifest.v1+json", manifest)
    entry["annotations"] = {"org.opencontainers.image.ref.name": name}
    blobs = {f"blobs/sha256/{hashlib.sha256(b).hexdigest()}": b for b in (layer, config, manifest)}
    index = {"schemaVersion": 2, "manifests": [entry]}
    layout = {"imageLayoutVersion": "1.0.0"}
    documents = {"oci-layout": layout, "index.json": index}
    return _tar(blobs | {path: json.dumps(d).encode() for path, d in documents.items()})


def _descriptor(media_type: str, content: bytes) -> dict[str, Any]:
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    return {"mediaType": media_type, "digest": digest, "size": len(content)}


def _tar(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for path, content in files.items():
            member = tarfile.TarInfo(path)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()
