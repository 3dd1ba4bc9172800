"""`kubectl niximage` beside a real build: its log as it comes, and what is in the image."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import yaml

from e2e.conftest import PROJECT, Node
from support.kubernetes import Json, conditions

PROGRAMS: Final = Path(sys.executable).parent
HELLO: Final[Json] = yaml.safe_load((PROJECT / "examples" / "hello.yaml").read_text())
TIMEOUT: Final = 150.0  # seconds of one run


def test_a_build_is_followed_and_its_image_explained(
    node: Node, namespace: str, tmp_path: Path
) -> None:
    environment = {
        **os.environ,
        "PATH": f"{PROGRAMS}:{os.environ['PATH']}",
        "KUBECONFIG": str(node.cluster.kubeconfig),
    }

    def start(*arguments: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [node.cluster._kubectl, "niximage", *arguments, "-n", namespace],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(*arguments: str) -> str:
        with start(*arguments) as process:
            output, said = process.communicate(timeout=TIMEOUT)
        assert process.returncode == 0, said
        return output

    image: dict[str, Any] = {**HELLO, "metadata": {"name": "web", "namespace": namespace}}
    node.apply(image)
    with start("logs", "-f", "web") as following:
        output, said = following.communicate(timeout=TIMEOUT)
    assert following.returncode == 0, said
    assert "evaluated 1 package for linux/amd64" in output
    assert output.index("evaluated 1 package for linux/amd64") < output.index("published")
    assert conditions(node.ready(namespace))["Ready"] == "True/Succeeded"
    assert "were there before" in run("status", "web")
    # By the node's own gateway, as status.image names it.
    assert "hello-2.12" in run("tree", "web")
    assert "hello\n└── hello-2.12\n" in run("why", "web", "greeting-data")
    run("export", "web", "-o", f"oci:{tmp_path / 'layout'}")
    assert json.loads((tmp_path / "layout" / "index.json").read_text())["manifests"]
