"""kubectl, NixImages to apply, and the patience to wait for an effect."""

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import pytest

from support.objects import Objects

PATIENCE: Final = 20.0  # seconds for an effect to show
Json = dict[str, Any]
Seen = TypeVar("Seen")


def eventually(
    what: str, look: Callable[[], Seen | None], *, within: float = PATIENCE, log: Path | None = None
) -> Seen:
    """Look again and again until there is something to see."""
    deadline = time.monotonic() + within
    while True:
        seen = look()
        if seen is not None and seen is not False:
            return seen
        if time.monotonic() > deadline:
            tail = log.read_text()[-4000:] if log else ""
            pytest.fail(f"{what}: not seen within {within} s\n{tail}")
        time.sleep(0.05)


class Cluster:
    """kubectl against a cluster of this test session; objects without it."""

    def __init__(self, kubectl: Path, kubeconfig: Path) -> None:
        self._kubectl = kubectl
        self.kubeconfig = kubeconfig
        self._objects = Objects(kubeconfig)

    @property
    def programs(self) -> Path:
        """The folder with kubectl and what was built with it."""
        return self._kubectl.parent

    def run(self, *args: str, given: Any = None) -> subprocess.CompletedProcess[str]:
        """Run kubectl; the caller looks at the exit code."""
        return subprocess.run(
            [self._kubectl, "--kubeconfig", self.kubeconfig, *args],
            input=json.dumps(given) if given is not None else None,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def do(self, *args: str, given: Any = None) -> str:
        """Run kubectl, which must succeed."""
        done = self.run(*args, given=given)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def send(self, file: Path, *args: str) -> None:
        """Run kubectl with a file as its input; it must succeed."""
        with file.open("rb") as given:
            done = subprocess.run(
                [self._kubectl, "--kubeconfig", self.kubeconfig, *args],
                stdin=given,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
        assert done.returncode == 0, done.stderr

    def get(self, kind: str, name: str, namespace: str) -> Json | None:
        """An object, or None if there is none of that name."""
        return self._objects.get(kind, name, namespace)

    def list(self, kind: str, namespace: str) -> list[Json]:
        """All objects of a kind in a namespace."""
        return self._objects.list(kind, namespace)

    def set_status(self, kind: str, name: str, namespace: str, status: Json) -> None:
        """Write a status as its controller would: here no kubelet and no Job runs."""
        self._objects.merge(kind, name, namespace, {"status": status}, "status")


def nix_image(namespace: str, name: str = "web", **spec: Any) -> Json:
    """A NixImage to apply."""
    return {
        "apiVersion": "niximage.dev/v1alpha1",
        "kind": "NixImage",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "packages": ["hello"],
            "source": {"nixpkgs": {"channel": "nixos-26.05"}},
            **spec,
        },
    }


def nix_build_class(name: str = "standard", **spec: Any) -> Json:
    """A NixBuildClass to apply."""
    return {
        "apiVersion": "niximage.dev/v1alpha1",
        "kind": "NixBuildClass",
        "metadata": {"name": name},
        "spec": spec,
    }


def conditions(image: Json | None) -> dict[str, str]:
    """The conditions as `type: status/reason`."""
    found = ((image or {}).get("status") or {}).get("conditions") or []
    return {c["type"]: f"{c['status']}/{c['reason']}" for c in found}
