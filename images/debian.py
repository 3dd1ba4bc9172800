"""Debian root file systems, from packages alone: no base image has to be downloaded."""

from __future__ import annotations

import os
from dataclasses import dataclass

from buildah import Buildah
from cache import digest
from console import ClusterError, run, step
from folders import scratch_folder
from packages import DebianPackage, install

SUITE = "trixie"
# what nobody reads in a container
EXCLUDED = ("doc", "info", "locale", "man")
BUILD_TOOLS = (
    DebianPackage("buildah", "buildah"),
    DebianPackage("busybox-static", "busybox"),
    DebianPackage("git", "git"),
    DebianPackage("mmdebstrap", "mmdebstrap"),
)
RECIPE = """\
FROM scratch
ADD base.tar /
ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
"""


@dataclass(frozen=True)
class Base:
    """A minimal Debian with some packages."""

    packages: tuple[str, ...]

    @property
    def key(self) -> str:
        """Changes with the recipe; Debian's updates come in when the cache is deleted."""
        return digest(SUITE, *EXCLUDED, *self.packages, RECIPE)


def install_build_tools() -> None:
    """Install what building images takes; refuses who is not root before anything is done."""
    if os.geteuid() != 0:
        raise ClusterError("root is needed to make an image of Debian packages: try with sudo")
    install(BUILD_TOOLS)


def image(buildah: Buildah, base: Base) -> str:
    """The name of a base's image in the storage; makes it when it is not there."""
    reference = f"localhost/niximage-base:{base.key[:12]}"
    if not buildah.has(reference):
        names = ",".join(base.packages)
        with scratch_folder() as folder, step(f"making a Debian {SUITE} with {names}"):
            flags = ["--variant=minbase", "--quiet", f"--include={names}"]
            flags += [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in EXCLUDED]
            run(["mmdebstrap", *flags, SUITE, folder / "base.tar"])
            (folder / "Containerfile").write_text(RECIPE)
            buildah.build(folder / "Containerfile", folder, reference)
    return reference
