"""Where the demo takes place: on a cluster of its own, or on the one that KUBECONFIG names."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from console import ClusterError
from helm import Helm
from kubectl import Kubectl
from programs import ROOT, ours

DEFAULT_STATE = ROOT / ".cluster"
DEFAULT_REGISTRY_PORT = 5000


@dataclass(frozen=True)
class Image:
    """An image that was built on this machine."""

    reference: str
    archive: Path


class Target(Protocol):
    """A cluster, and how images come to its nodes."""

    @property
    def kubeconfig(self) -> Path:
        """Where it is."""
        ...

    @property
    def programs(self) -> Path:
        """The folder with kubectl."""
        ...

    @property
    def kubectl(self) -> Kubectl:
        """What to talk to it with."""
        ...

    @property
    def helm(self) -> Helm:
        """What to install charts with."""
        ...

    @property
    def registry_port(self) -> int:
        """The port on each node's loopback that is free for the gateway."""
        ...

    def start(self) -> None:
        """Make sure that it runs."""
        ...

    def deliver(self, images: Sequence[Image]) -> list[str]:
        """Bring images to the nodes; returns the names that pods use there."""
        ...

    def remove(self, uninstall: Callable[[], None]) -> None:
        """Remove what the demo made."""
        ...


@dataclass(frozen=True)
class OwnCluster:
    """A cluster that `cluster/` makes and removes."""

    state: Path

    @property
    def kubeconfig(self) -> Path:
        """Made by `cluster up`."""
        return self.state / "kubeconfig"

    @property
    def programs(self) -> Path:
        """Those that the cluster was started from."""
        return Path(str(self._recorded["binaries"]))

    @property
    def kubectl(self) -> Kubectl:
        """Of the cluster's own version."""
        return Kubectl(self.programs / "kubectl", self.kubeconfig)

    @property
    def helm(self) -> Helm:
        """The one that `cluster/` builds."""
        return Helm(_built("helm"), self.kubeconfig)

    @property
    def registry_port(self) -> int:
        """Reserved by `cluster up`, so that several clusters can run side by side."""
        return int(str(self._recorded["registryPort"]))

    @property
    def _recorded(self) -> Mapping[str, object]:
        document: dict[str, object] = json.loads((self.state / "cluster.json").read_text())
        return document

    def start(self) -> None:
        """From nothing, or from whatever a crash left."""
        ours("cluster", "up", "--state", self.state)

    def deliver(self, images: Sequence[Image]) -> list[str]:
        """Load the archives into containerd; what it has is skipped."""
        ours("cluster", "load", "--state", self.state, *(image.archive for image in images))
        return [image.reference for image in images]

    def remove(self, uninstall: Callable[[], None]) -> None:
        """The whole cluster goes, and all in it."""
        del uninstall
        ours("cluster", "down", "--state", self.state)


@dataclass(frozen=True)
class GivenCluster:
    """Somebody's cluster: only what was applied is removed."""

    kubeconfig: Path
    repository: str | None

    registry_port = DEFAULT_REGISTRY_PORT

    @property
    def programs(self) -> Path:
        """The folder of the kubectl in PATH, or of the one that `cluster/` builds."""
        found = shutil.which("kubectl")
        return (Path(found) if found else _built("kubectl")).parent

    @property
    def kubectl(self) -> Kubectl:
        """With the given kubeconfig."""
        return Kubectl(self.programs / "kubectl", self.kubeconfig)

    @property
    def helm(self) -> Helm:
        """The helm in PATH, or the one that `cluster/` builds."""
        return Helm(shutil.which("helm") or _built("helm"), self.kubeconfig)

    def start(self) -> None:
        """It runs, and images can get there; or this is the place to say what is missing."""
        if not self.repository:
            raise ClusterError(
                f"the nodes of {self.kubeconfig} have to pull the demo's images from somewhere: "
                f"set IMAGE_REPOSITORY=registry.example/team; they are pushed there with skopeo"
            )
        self.kubectl("version", seconds=30)

    def deliver(self, images: Sequence[Image]) -> list[str]:
        """Push the archives to the registry that the nodes pull from."""
        return [self._push(image) for image in images]

    def _push(self, image: Image) -> str:
        tagged = image.reference.rpartition("/")[2]
        which = tagged.partition(":")[0].removeprefix("niximage-")
        return ours("images", "push", f"{self.repository}/{tagged}", which).strip()

    def remove(self, uninstall: Callable[[], None]) -> None:
        """Only what the demo applied."""
        uninstall()


def _built(program: str) -> Path:
    """A program that `cluster/` builds."""
    return Path(ours("cluster", "tools", program).strip()) / program


def choose(state: Path | None) -> Target:
    """The cluster in a state folder; without one, KUBECONFIG's; without that, the default's.

    A kubeconfig that `cluster/` made leads to that cluster, as if --state were given.
    """
    given = os.environ.get("KUBECONFIG")
    if state is not None or not given:
        return OwnCluster(state or DEFAULT_STATE)
    kubeconfig = Path(given)
    if not kubeconfig.is_file():
        raise ClusterError(f"KUBECONFIG is {given}, and there is no such file")
    if (kubeconfig.parent / "cluster.json").exists():
        return OwnCluster(kubeconfig.parent.resolve())
    return GivenCluster(kubeconfig, (os.environ.get("IMAGE_REPOSITORY") or "").rstrip("/") or None)
