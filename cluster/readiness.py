"""Asking components whether they are well, and waiting until they are."""

from __future__ import annotations

import json
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from certificates import ADMINISTRATOR
from components import Component
from console import ClusterError, last_lines
from instance import Instance
from processes import is_running

_ANSWER_SECONDS = 5
_START_SECONDS = 90
_PAUSE_SECONDS = 0.05


def is_healthy(instance: Instance, component: Component) -> bool:
    """Whether the component's own health check says so right now."""
    try:
        if isinstance(component.health, Path):
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(_ANSWER_SECONDS)
                connection.connect(str(component.health))
        else:
            _get(instance, component.health)
    except (OSError, ValueError):
        return False
    return True


def is_component_running(instance: Instance, component: Component) -> bool:
    """Whether the process that was started for the component still lives."""
    pid = instance.processes.get(component.name)
    return pid is not None and is_running(pid, instance.state)


def wait_for_components(instance: Instance, components: Sequence[Component]) -> None:
    """Wait until all of them are well; a failure names the component and shows its log."""
    waiting = list(components)
    deadline = time.monotonic() + _START_SECONDS
    while waiting := [c for c in waiting if not is_healthy(instance, c)]:
        for component in waiting:
            if not is_component_running(instance, component):
                raise failure(instance, component.name, "ended")
        if time.monotonic() > deadline:
            problem = f"is not ready after {_START_SECONDS} seconds"
            raise failure(instance, waiting[0].name, problem)
        time.sleep(_PAUSE_SECONDS)


def wait_for_pods_to_be_welcome(instance: Instance) -> None:
    """Wait until a pod that is applied now starts: what the controllers make has to be there."""
    namespace = "/api/v1/namespaces/default"
    _wait(instance, "kube-controller-manager", "the default service account",
          lambda: _exists(instance, f"{namespace}/serviceaccounts/default"))  # fmt: skip
    _wait(instance, "kube-controller-manager", "the authority's certificate for pods",
          lambda: _exists(instance, f"{namespace}/configmaps/kube-root-ca.crt"))  # fmt: skip
    if instance.mode == "node":
        _wait(instance, "kubelet", "a ready node", lambda: is_node_ready(instance))


def is_node_ready(instance: Instance) -> bool:
    """Whether the node is Ready and takes pods."""
    try:
        node = _get_json(instance, f"/api/v1/nodes/{instance.name}")
    except (OSError, ValueError):
        return False
    conditions = {c["type"]: c["status"] for c in node["status"].get("conditions", [])}
    return conditions.get("Ready") == "True" and not node["spec"].get("taints")


def failure(instance: Instance, component: str, problem: str) -> ClusterError:
    """An error about a component, with the end of its log."""
    log = instance.log(component)
    text = log.read_text(errors="replace") if log.exists() else ""
    return ClusterError(f"{component} {problem}; its log is {log}\n{last_lines(text)}")


def _wait(instance: Instance, component: str, what: str, check: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while not check():
        if time.monotonic() > deadline:
            problem = f"has not brought about {what} in {_START_SECONDS} seconds"
            raise failure(instance, component, problem)
        time.sleep(_PAUSE_SECONDS)


def _exists(instance: Instance, path: str) -> bool:
    try:
        _get_json(instance, path)
    except (OSError, ValueError):
        return False
    return True


def _get_json(instance: Instance, path: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(_get(instance, instance.server + path))
    return document


def _get(instance: Instance, url: str) -> bytes:
    """GET as the administrator; raises OSError for anything but a 2xx answer."""
    keys = instance.certificates
    handlers: list[urllib.request.BaseHandler] = [urllib.request.ProxyHandler({})]
    if url.startswith("https:"):
        context = ssl.create_default_context(cafile=keys / "authority.crt")
        name = ADMINISTRATOR.file
        context.load_cert_chain(keys / f"{name}.crt", keys / f"{name}.key")
        handlers.append(urllib.request.HTTPSHandler(context=context))
    try:
        with urllib.request.build_opener(*handlers).open(url, timeout=_ANSWER_SECONDS) as answer:
            body: bytes = answer.read()
            return body
    except urllib.error.HTTPError as error:
        error.close()
        raise
