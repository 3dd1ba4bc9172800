"""The programs that are Debian packages, installed where they are missing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from console import ClusterError, run, step

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class DebianPackage:
    """A Debian package, and a program or file that shows it is there."""

    name: str
    proof: str


CONTROL_PLANE = (DebianPackage("openssl", "openssl"),)
NODE = (
    *CONTROL_PLANE,
    DebianPackage("containerd", "containerd"),
    DebianPackage("runc", "runc"),
    DebianPackage("containernetworking-plugins", "/usr/lib/cni/portmap"),
    DebianPackage("iptables", "iptables-restore"),
    DebianPackage("iproute2", "ip"),
    DebianPackage("conntrack", "conntrack"),
    DebianPackage("ipset", "ipset"),
    DebianPackage("mount", "umount"),
    DebianPackage("buildah", "buildah"),
    DebianPackage("busybox-static", "busybox"),
)


def install(packages: Sequence[DebianPackage]) -> None:
    """Install with apt-get what is missing; nothing happens when all is there."""
    if obstacle := obstacle_to(packages):
        raise ClusterError(obstacle)
    if names := _missing(packages):
        with step(f"installing Debian packages: {' '.join(names)}"):
            environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
            run(["apt-get", "update"], environment=environment)
            # --no-remove: never replace a container runtime that somebody installed on purpose
            install = ["apt-get", "install", "--yes", "--no-install-recommends", "--no-remove"]
            run([*install, *names], environment=environment)


def obstacle_to(packages: Sequence[DebianPackage]) -> str | None:
    """Why those that are missing cannot be installed here; None when they can, or all are there."""
    names = " ".join(_missing(packages))
    if names and shutil.which("apt-get") is None:
        return f"these are missing, and there is no apt-get to install them: {names}"
    if names and os.geteuid() != 0:
        return f"these are missing; run as root, or: apt-get install {names}"
    return None


def _missing(packages: Sequence[DebianPackage]) -> list[str]:
    return [package.name for package in packages if not _is_installed(package)]


def _is_installed(package: DebianPackage) -> bool:
    found = shutil.which(package.proof, path=SYSTEM_PATH)
    if found is None:
        return False
    if package.name == "busybox-static":
        # the package `busybox` has the same file, but dynamically linked: useless in an image
        with Path(found).open("rb") as file:
            return b"/ld-" not in file.read(4096)
    return True
