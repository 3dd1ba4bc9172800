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
    DebianPackage("mount", "umount"),
    DebianPackage("buildah", "buildah"),
    DebianPackage("busybox-static", "busybox"),
)


def install(packages: Sequence[DebianPackage]) -> None:
    """Install with apt-get what is missing; nothing happens when all is there."""
    missing = [package.name for package in packages if not _is_installed(package)]
    if not missing:
        return
    names = " ".join(missing)
    if shutil.which("apt-get") is None:
        raise ClusterError(f"these are missing, and there is no apt-get to install them: {names}")
    if os.geteuid() != 0:
        raise ClusterError(f"these are missing; run as root, or: apt-get install {names}")
    with step(f"installing Debian packages: {names}"):
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        run(["apt-get", "update"], environment=environment)
        # --no-remove: never replace a container runtime that somebody installed on purpose
        install = ["apt-get", "install", "--yes", "--no-install-recommends", "--no-remove"]
        run([*install, *missing], environment=environment)


def _is_installed(package: DebianPackage) -> bool:
    found = shutil.which(package.proof, path=SYSTEM_PATH)
    if found is None:
        return False
    if package.name == "busybox-static":
        # the package `busybox` has the same file, but dynamically linked: useless in an image
        with Path(found).open("rb") as file:
            return b"/ld-" not in file.read(4096)
    return True
