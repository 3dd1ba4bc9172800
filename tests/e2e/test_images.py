"""The main job on a real node: apply a NixImage, run a pod by its digest."""

import json
import subprocess
import sys
import time
from pathlib import Path

import yaml

from e2e.conftest import PROJECT, Node
from support.kubernetes import Json, nix_image

HELLO: Json = yaml.safe_load((PROJECT / "examples" / "hello.yaml").read_text())


def in_namespace(document: Json, namespace: str) -> Json:
    return {**document, "metadata": {"name": "web", "namespace": namespace}}


def test_from_apply_to_a_running_pod(node: Node, namespace: str) -> None:
    node.apply(in_namespace(HELLO, namespace))
    image = node.ready(namespace)
    reference = image["status"]["image"]
    assert reference == f"{node.registry}/{namespace}/web@{image['status']['digest']}"
    (build,) = image["status"]["history"]
    assert build["log"] == f"niximage/v1/logs/{namespace}/{build['id']}.gz", "its log is kept"
    assert "Hello" in node.output(namespace, reference)
    assert "Hello" in node.output(namespace, reference, "/bin/hello")


def test_kubectl_shows_what_matters(node: Node, namespace: str) -> None:
    node.apply(in_namespace(HELLO, namespace))
    image = node.ready(namespace)
    line = node.cluster.do("get", "niximg", "-n", namespace, "--no-headers").split()
    assert line[:4] == [
        "web",
        "True",
        "Succeeded",
        image["status"]["source"]["shortRevision"],
    ]
    described = node.cluster.do("describe", "niximg", "web", "-n", namespace)
    assert image["status"]["image"] in described


def test_skopeo_pulls_from_the_gateway(node: Node, namespace: str, tmp_path: Path) -> None:
    node.apply(in_namespace(HELLO, namespace))
    reference = node.ready(namespace)["status"]["image"]
    copy = tmp_path / "copy"
    done = subprocess.run(
        [
            *("skopeo", "--insecure-policy", "copy", "--src-tls-verify=false"),
            *(f"docker://{reference}", f"oci:{copy}:hello"),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (manifest,) = json.loads((copy / "index.json").read_text())["manifests"]
    assert reference.endswith(manifest["digest"])


def test_a_second_image_reuses_the_layers_of_the_first(node: Node, namespace: str) -> None:
    node.apply(in_namespace(HELLO, namespace))
    node.ready(namespace)
    other = yaml.safe_load((PROJECT / "examples" / "cowsay.yaml").read_text())
    other["metadata"] = {"name": "other", "namespace": namespace}
    node.apply(other)
    artifact = node.ready(namespace, "other")["status"]["artifact"]
    assert artifact["reusedLayers"] >= 1
    assert artifact["reusedSize"] > artifact["size"] / 2


def test_a_pod_and_this_machine_make_the_same_digest(
    node: Node, namespace: str, tmp_path: Path
) -> None:
    """Another Nix, another user, another kernel's temporary files: the same bytes."""
    node.apply(in_namespace(HELLO, namespace))
    image = node.ready(namespace)
    file = tmp_path / "web.yaml"
    file.write_text(yaml.safe_dump(in_namespace(HELLO, namespace)))
    (tmp_path / "bucket").mkdir()
    done = subprocess.run(
        [
            *(sys.executable, "-m", "niximage", "build", "--json", "--file", str(file)),
            *("--bucket", (tmp_path / "bucket").as_uri(), "--substituters", ""),
            *("--nixpkgs-url", image["status"]["source"]["url"]),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["digest"] == image["status"]["digest"]


def test_what_was_built_is_ready_at_once(node: Node, namespace: str) -> None:
    node.apply(in_namespace(HELLO, namespace))
    first = node.ready(namespace)
    node.cluster.do("delete", "niximage", "web", "-n", namespace)
    started = time.monotonic()
    node.apply(in_namespace(HELLO, namespace))
    second = node.ready(namespace)
    assert second["status"]["digest"] == first["status"]["digest"]
    assert time.monotonic() - started < 30
    jobs = node.cluster.list("jobs", namespace)
    owners = {o["uid"] for j in jobs for o in j["metadata"]["ownerReferences"]}
    assert second["metadata"]["uid"] not in owners, "no Job was started for it"


def test_nested_attributes_and_several_packages(node: Node, namespace: str) -> None:
    node.apply(nix_image(namespace, packages=["hello", "tools.upper", "shell"]))
    reference = node.ready(namespace)["status"]["image"]
    shouted = node.output(namespace, reference, "/bin/sh", "-c", "echo quiet | upper")
    assert shouted.strip() == "QUIET"
