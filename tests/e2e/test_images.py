"""The main job on a real node: apply a NixImage, run a pod by its digest.

One image is built for all who only look at it.
"""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from e2e.conftest import PROJECT, Node, restricted_namespace
from support.kubernetes import Json, nix_image

HELLO: Json = yaml.safe_load((PROJECT / "examples" / "hello.yaml").read_text())


def in_namespace(document: Json, namespace: str) -> Json:
    return {**document, "metadata": {"name": "web", "namespace": namespace}}


@pytest.fixture(scope="module")
def hello(node: Node) -> Iterator[Json]:
    """The example, `web` in a namespace of its own, once it is Ready."""
    with restricted_namespace(node, "images") as namespace:
        node.apply(in_namespace(HELLO, namespace))
        yield node.ready(namespace)


def test_from_apply_to_a_running_pod(node: Node, hello: Json) -> None:
    namespace, status = hello["metadata"]["namespace"], hello["status"]
    reference = status["image"]
    assert reference == f"{node.registry}/{namespace}/web@{status['digest']}"
    (build,) = status["history"]
    assert build["log"] == f"niximage/v1/logs/{namespace}/{build['id']}.gz", "its log is kept"
    assert "Hello" in node.output(namespace, reference)
    assert "Hello" in node.output(namespace, reference, "/bin/hello")


def test_kubectl_shows_what_matters(node: Node, hello: Json) -> None:
    namespace, status = hello["metadata"]["namespace"], hello["status"]
    line = node.cluster.do("get", "niximg", "web", "-n", namespace, "--no-headers").split()
    assert line[:4] == [
        "web",
        "True",
        "Succeeded",
        status["source"]["shortRevision"],
    ]
    described = node.cluster.do("describe", "niximg", "web", "-n", namespace)
    assert status["image"] in described


def test_skopeo_pulls_from_the_gateway(hello: Json, tmp_path: Path) -> None:
    reference = hello["status"]["image"]
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


def test_a_second_image_reuses_the_layers_of_the_first(node: Node, hello: Json) -> None:
    namespace = hello["metadata"]["namespace"]
    other = yaml.safe_load((PROJECT / "examples" / "cowsay.yaml").read_text())
    other["metadata"] = {"name": "other", "namespace": namespace}
    node.apply(other)
    artifact = node.ready(namespace, "other")["status"]["artifact"]
    assert artifact["reusedLayers"] >= 1
    assert artifact["reusedSize"] > artifact["size"] / 2


def test_a_pod_and_this_machine_make_the_same_digest(hello: Json, tmp_path: Path) -> None:
    """Another Nix, another user, another kernel's temporary files: the same bytes."""
    file = tmp_path / "web.yaml"
    file.write_text(yaml.safe_dump(in_namespace(HELLO, hello["metadata"]["namespace"])))
    (tmp_path / "bucket").mkdir()
    done = subprocess.run(
        [
            *(sys.executable, "-m", "niximage", "build", "--json", "--file", str(file)),
            *("--bucket", (tmp_path / "bucket").as_uri(), "--substituters", ""),
            *("--nixpkgs-url", hello["status"]["source"]["url"]),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["digest"] == hello["status"]["digest"]


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
