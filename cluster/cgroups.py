"""The instance's own control group: where its pods run, and how they are found to be ended.

Two kubelets that share a control group take each other's pods for orphans and kill them,
so each instance has its own root. At the end it names every process of every container,
even when containerd is dead.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from console import ClusterError
from processes import is_zombie, kill_until_none


@dataclass(frozen=True)
class Hierarchy:
    """One mounted control group file system; version 1 mounts one for each controller."""

    mount_point: Path
    version: int


def create(name: str) -> None:
    """Make the control group in every hierarchy, with the controllers that kubelet asks for."""
    for hierarchy in _hierarchies():
        group = hierarchy.mount_point / name
        if hierarchy.version == 2:  # noqa: PLR2004 (a version number, not a magic value)
            _hand_down_controllers(hierarchy.mount_point)
        group.mkdir(exist_ok=True)
        # version 1: no process may enter a group that names no CPU and no memory node
        for setting in ("cpuset.cpus", "cpuset.mems"):
            if hierarchy.version == 1 and (group / setting).exists():
                (group / setting).write_text((hierarchy.mount_point / setting).read_text())


def exists(name: str) -> bool:
    """Whether something of this name is left in any hierarchy."""
    return any((hierarchy.mount_point / name).exists() for hierarchy in _hierarchies())


def kill_processes(name: str) -> None:
    """End every process in the control group and below it."""
    kill_until_none(lambda: _processes(name), what=f"control group {name}")


def remove(name: str, seconds: float = 20) -> None:
    """Remove the control group with all below it; it may stay busy for a moment after a kill."""
    deadline = time.monotonic() + seconds
    while exists(name):
        for group in _groups(name):
            with suppress(OSError):
                group.rmdir()
        if time.monotonic() > deadline:
            raise ClusterError(f"the control group {name} cannot be removed: it is still in use")
        time.sleep(0.01)


def _hierarchies() -> list[Hierarchy]:
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        kind = after.split()[0]
        if kind in ("cgroup", "cgroup2"):
            version = 2 if kind == "cgroup2" else 1
            found.append(Hierarchy(mount_point=Path(before.split()[4]), version=version))
    return found


def _hand_down_controllers(group: Path) -> None:
    for controller in (group / "cgroup.controllers").read_text().split():
        with suppress(OSError):  # a controller in use elsewhere; kubelet says so if it needs it
            (group / "cgroup.subtree_control").write_text(f"+{controller}")


def _groups(name: str) -> Iterator[Path]:
    """Every folder of the control group, the innermost first."""
    for hierarchy in _hierarchies():
        for folder, _, _ in os.walk(hierarchy.mount_point / name, topdown=False):
            yield Path(folder)


def _processes(name: str) -> set[int]:
    pids: set[int] = set()
    for group in _groups(name):
        with suppress(OSError):
            pids.update(map(int, (group / "cgroup.procs").read_text().split()))
    return {pid for pid in pids if pid > 0 and not is_zombie(pid)}
