"""`kubectl niximage` on a real API server: found by kubectl, with the operator to answer."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import pytest
from typer.testing import CliRunner, Result

from integration.controller.conftest import Operator
from integration.gateway.conftest import running
from integration.tiny import tiny_image
from niximage.api.build import BuildFailure
from niximage.bucket import open_store
from niximage.bucket.logs import save_log
from niximage.cli.app import app
from niximage.errors import EXIT_RETRYABLE, EXIT_TERMINAL, Reason, Terminal
from niximage.gateway import Options
from support.kubernetes import Cluster, eventually, nix_image

PROGRAMS: Final = Path(sys.executable).parent
DIGEST: Final = "sha256:" + "ab" * 32
TIMEOUT: Final = 60.0  # seconds of one run


class Plugin:
    """The plugin in one namespace: in this process, or as kubectl starts it."""

    def __init__(self, cluster: Cluster, kubectl: Path, namespace: str) -> None:
        self._kubectl = kubectl
        self._namespace = namespace
        self._runner = CliRunner(env={"KUBECONFIG": str(cluster.kubeconfig)})
        self.environment = {
            **os.environ,
            "PATH": f"{PROGRAMS}:{kubectl.parent}:{os.environ['PATH']}",
            "KUBECONFIG": str(cluster.kubeconfig),
        }

    def run(self, command: str, *arguments: str, own: bool = True) -> Result:
        """What a run says; its exit code is the caller's to look at."""
        where = ("-n", self._namespace) if own else ()
        done = self._runner.invoke(app, [command, *arguments, *where])
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return done

    def do(self, command: str, *arguments: str) -> str:
        """What a run prints that must succeed."""
        done = self.run(command, *arguments)
        assert done.exit_code == 0, done.stderr
        return done.stdout

    def start(self, command: str, *arguments: str) -> "subprocess.Popen[str]":
        """A run that goes on; it can be interrupted, even where tests run in the background."""
        terminal = ["env", "--default-signal=INT"]
        return subprocess.Popen(
            [*terminal, self._kubectl, "niximage", command, *arguments, "-n", self._namespace],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


@pytest.fixture
def plugin(
    cluster: Cluster, tools: Path, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> Plugin:
    found = Plugin(cluster, tools / "kubectl", namespace)
    monkeypatch.setattr(sys, "argv", ["/usr/bin/kubectl-niximage"])
    return found


def ready_status(**more: Any) -> dict[str, Any]:
    """A status as the operator writes it."""
    return {
        "observedGeneration": 1,
        "conditions": [
            {
                "type": "Ready",
                "status": "True",
                "reason": "Succeeded",
                "message": "1 layer",
                "lastTransitionTime": "2026-05-01T11:00:00Z",
            }
        ],
        "digest": DIGEST,
        "image": f"127.0.0.1:5000/team/web@{DIGEST}",
        **more,
    }


def test_lists_and_states_are_shown_to_people_and_programs(
    plugin: Plugin, cluster: Cluster, namespace: str
) -> None:
    assert "no NixImages found" in plugin.run("list").stderr
    cluster.do("create", "-f", "-", given=nix_image(namespace))
    cluster.set_status("niximage", "web", namespace, ready_status())
    title, line = plugin.do("list").splitlines()
    assert title.split()[:3] == ["NAME", "READY", "STATUS"]
    assert line.split()[:3] == ["web", "True", "Succeeded"]
    everywhere = plugin.run("list", "-A", "-o", "json", own=False)
    names = [(i["metadata"]["namespace"], i["metadata"]["name"]) for i in _items(everywhere.stdout)]
    assert (namespace, "web") in names
    assert f"127.0.0.1:5000/team/web@{DIGEST}" in plugin.do("status", "web")
    assert json.loads(plugin.do("status", "web", "-o", "json"))["status"]["digest"] == DIGEST
    assert "has no build that ended" in plugin.run("history", "web").stderr


def _items(text: str) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = json.loads(text)["items"]
    return items


def test_kubectl_shows_its_own_name_and_completes_commands_and_images(
    plugin: Plugin, cluster: Cluster, namespace: str
) -> None:
    with plugin.start("status", "--help") as shown:
        assert "Usage: kubectl niximage status" in shown.communicate(timeout=TIMEOUT)[0]
    cluster.do("create", "-f", "-", given=nix_image(namespace))

    def completed(*words: str) -> list[str]:
        done = subprocess.run(
            [PROGRAMS / "kubectl_complete-niximage", *words],
            env=plugin.environment,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=True,
        )
        return done.stdout.split()

    assert completed("sus") == ["suspend", ":4"]
    assert completed("status", "-n", namespace, "w") == ["web", ":4"]
    assert completed("status", "--context", "none", "w") == [":4"]


def test_what_is_wrong_is_told_with_what_to_do(
    plugin: Plugin, cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    cluster.do("create", "-f", "-", given=nix_image(namespace))
    near = plugin.run("status", "wep")
    assert near.exit_code == EXIT_TERMINAL
    assert "there is no NixImage wep in the namespace" in near.stderr
    assert "Did you mean web?" in near.stderr
    other = plugin.run("status", "web", "-n", "default", own=False)
    assert "There is one in" in other.stderr
    assert namespace in other.stderr
    nothing = plugin.run("list", "--kubeconfig", str(tmp_path / "none"))
    assert nothing.exit_code == EXIT_TERMINAL
    assert "there is no kubeconfig at" in nothing.stderr
    context = plugin.run("list", "--context", "none")
    assert context.exit_code == EXIT_TERMINAL
    assert "Expected object with name none in" in context.stderr
    missing = plugin.run("logs", "web")
    assert missing.exit_code == EXIT_TERMINAL
    assert "no build of web has begun; it is Pending: the operator has not seen" in missing.stderr
    assert plugin.run("reconcile", "web", "--timeout", "soon").exit_code == EXIT_TERMINAL


def test_a_silent_and_a_forbidding_api_server_are_told_apart(
    plugin: Plugin, cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    config = json.loads(cluster.do("config", "view", "--raw", "-o", "json"))
    config["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:1"
    silent = tmp_path / "silent"
    silent.write_text(json.dumps(config))
    done = plugin.run("list", "--kubeconfig", str(silent))
    assert done.exit_code == EXIT_RETRYABLE
    assert "the API server does not answer" in done.stderr
    assert "Check the kubeconfig" in done.stderr
    cluster.do("create", "serviceaccount", "nobody", "-n", namespace)
    token = cluster.do("create", "token", "nobody", "-n", namespace).strip()
    config = json.loads(cluster.do("config", "view", "--raw", "-o", "json"))
    config["users"] = [{"name": each["name"], "user": {"token": token}} for each in config["users"]]
    weak = tmp_path / "weak"
    weak.write_text(json.dumps(config))
    done = plugin.run("list", "--kubeconfig", str(weak))
    assert done.exit_code == EXIT_TERMINAL
    assert "cannot list resource" in done.stderr
    assert "ask an admin" in done.stderr


def test_requests_are_answered_waited_for_and_taken_back(
    operator: Operator, plugin: Plugin, namespace: str
) -> None:
    cluster = operator.cluster
    cluster.do("create", "-f", "-", given=nix_image(namespace))
    first = operator.job(namespace)
    eventually("the Job's pod", lambda: cluster.list("pods", namespace) or None)
    early = plugin.run("logs", "web", "--step", "build")
    assert early.exit_code == EXIT_RETRYABLE
    assert "Wait for it with --follow" in early.stderr
    absent = plugin.run("logs", "web", "--step", "fetch")
    assert absent.exit_code == EXIT_TERMINAL
    assert "is none of its steps, which are build and publish" in absent.stderr
    assert "stopped " + first["metadata"]["name"] in plugin.do("cancel", "web")
    operator.image(namespace, lambda i: i["spec"].get("suspend"))
    refused = plugin.run("reconcile", "web")
    assert refused.exit_code == EXIT_TERMINAL
    assert "Resume it: kubectl niximage resume web" in refused.stderr

    waiting = plugin.start("resume", "web", "--wait")
    second = operator.job(namespace, other_than=first["metadata"]["uid"])
    denied = Terminal(Reason.PACKAGE_NOT_FOUND, "there is no package hello")
    failure = BuildFailure.from_error(denied).to_message().decode()
    operator.end_job(second, code=EXIT_TERMINAL, message=failure, step="build")
    output, said = waiting.communicate(timeout=TIMEOUT)
    assert waiting.returncode == EXIT_TERMINAL, said
    assert "web resumed" in output
    assert "PackageNotFound: there is no package hello" in said
    assert "there is no package hello" in plugin.do("status", "web")

    waiting = plugin.start("retry", "web", "--wait")
    third = operator.job(namespace, other_than=second["metadata"]["uid"])
    operator.end_job(third, code=0, message=json.dumps(operator.publish(third)))
    output, said = waiting.communicate(timeout=TIMEOUT)
    assert waiting.returncode == 0, said
    assert "web is Ready: 127.0.0.1:5000/" in output
    assert "has not failed" in plugin.run("retry", "web").stderr

    slow = plugin.run("reconcile", "web", "--force", "--wait", "--timeout", "1s")
    assert slow.exit_code == EXIT_RETRYABLE
    assert "web was not Ready within 1 s" in slow.stderr
    fourth = operator.job(namespace, other_than=third["metadata"]["uid"])
    operator.end_job(fourth, code=0, message=json.dumps(operator.publish(fourth)))
    operator.image(namespace, lambda i: len(i["status"]["history"]) == 3)
    lines = plugin.do("history", "web").splitlines()
    assert [line.split()[1] for line in lines] == ["RESULT", "Succeeded", "Succeeded", "Failed"]


def test_the_log_of_a_build_whose_pod_is_gone_comes_from_the_bucket(
    plugin: Plugin, cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    store = open_store(tmp_path.as_uri())
    kept = "==> build\nevaluated\n==> publish\npublished\n"
    key = save_log(store, namespace, "0b0dd1b2", kept)
    build = {
        "id": "0b0dd1b2",
        "jobName": "web-1",
        "result": "Succeeded",
        "reason": "Succeeded",
        "revision": "c0ffee",
        "startTime": "2026-05-01T11:00:00Z",
        "completionTime": "2026-05-01T11:00:07Z",
        "log": key,
    }
    cluster.do("create", "-f", "-", given=nix_image(namespace))
    cluster.set_status("niximage", "web", namespace, ready_status(history=[build]))
    bucket = ("--bucket", tmp_path.as_uri())
    assert plugin.do("logs", "web", *bucket) == kept
    assert plugin.do("logs", "web", "--step", "publish", *bucket) == "published\n"
    missing = plugin.run("logs", "web", "--step", "fetch", *bucket)
    assert missing.exit_code == EXIT_TERMINAL
    assert "the step fetch did not run" in missing.stderr
    unknown = plugin.run("logs", "web")
    assert unknown.exit_code == EXIT_TERMINAL
    assert f"its log is in the bucket as {key}" in unknown.stderr
    assert "Name the bucket" in unknown.stderr


def test_following_ends_quietly_when_it_is_interrupted(
    plugin: Plugin, cluster: Cluster, namespace: str
) -> None:
    cluster.do("create", "-f", "-", given=nix_image(namespace))
    following = plugin.start("reconcile", "web", "--wait")
    assert following.stdout is not None
    assert following.stdout.readline() == "web: reconciliation requested\n"
    following.send_signal(2)
    _, said = following.communicate(timeout=TIMEOUT)
    assert following.returncode == 130
    assert "Traceback" not in said


def test_an_image_is_read_by_way_of_the_api_server(
    plugin: Plugin, cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    store = open_store(tmp_path.as_uri())
    image = tiny_image(b"by way of the API server")
    digest = image.publish(store, f"{namespace}/web").digest
    address = own_address()
    with running(store, Options(host=address, port=0)) as gateway:
        port = urlsplit(gateway.url).port
        container = {
            "name": "gateway",
            "image": "niximage-operator:none",
            "ports": [{"name": "registry", "containerPort": port}],
        }
        labels = {"app.kubernetes.io/name": "niximage", "app.kubernetes.io/component": "gateway"}
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "gateway", "namespace": namespace, "labels": labels},
            "spec": {"containers": [container]},
        }
        cluster.do("create", "-f", "-", given=pod)
        reached = ("export", f"{namespace}/web@{digest}", "--through-cluster")
        output = f"oci:{tmp_path / 'layout'}"
        nobody = plugin.run(*reached, "-o", output)
        assert "no gateway runs in this cluster" in nobody.stderr
        ready = {"type": "Ready", "status": "True"}
        addresses = {"podIP": address, "podIPs": [{"ip": address}]}
        cluster.set_status("pod", "gateway", namespace, {"conditions": [ready], **addresses})
        done = plugin.run(*reached, "-o", output)
        assert done.exit_code == 0, done.stderr
        assert (tmp_path / "layout" / "index.json").is_file()
        other = f"{namespace}/web@sha256:{'0' * 64}"
        unknown = plugin.run("tree", other, "--through-cluster")
        assert unknown.exit_code == EXIT_TERMINAL
        assert f"has no {other}" in unknown.stderr
        cluster.do("delete", "pod", "gateway", "-n", namespace, "--force")


def own_address() -> str:
    """An address of this machine that is not loopback, which the API server goes to no more."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("198.51.100.1", 9))  # nothing is sent
        return str(probe.getsockname()[0])
