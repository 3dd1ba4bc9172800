"""Where the programs come from: Debian packages, and Go modules built once into the cache.

Kubernetes publishes no packages that a machine behind a package proxy could install, but
every component is a Go module, and go.sum pins each one by hash.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cache import cache_folder, digest, locked
from console import ClusterError, run, say, step

HERE = Path(__file__).resolve().parent
KUBERNETES = "1.34.4"
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_VERSION = "k8s.io/component-base/version"
_STAMP = " ".join(
    f"-X {_VERSION}.{name}={value}"
    for name, value in (("gitVersion", f"v{KUBERNETES}"), ("gitMajor", "1"), ("gitMinor", "34"))
)


@dataclass(frozen=True)
class Program:
    """One Go program: its name in the bin folder, the module folder that pins it, its package."""

    name: str
    module: Path
    package: str


PROGRAMS = (
    *(
        Program(name, HERE, f"k8s.io/kubernetes/cmd/{name}")
        for name in (
            "kube-apiserver",
            "kube-controller-manager",
            "kube-scheduler",
            "kubelet",
            "kube-proxy",
            "kubectl",
        )
    ),
    Program("etcd", HERE, "go.etcd.io/etcd/server/v3"),
    Program("fake-gcs-server", HERE / "tools", "github.com/fsouza/fake-gcs-server"),
    Program(
        "distribution", HERE / "registry", "github.com/distribution/distribution/v3/cmd/registry"
    ),
    Program("crane", HERE / "tools", "github.com/google/go-containerregistry/cmd/crane"),
)


@dataclass(frozen=True)
class DebianPackage:
    """A Debian package, and a program or file that shows it is there."""

    name: str
    proof: str


CONTROL_PLANE_PACKAGES = (DebianPackage("openssl", "openssl"),)
NODE_PACKAGES = (
    *CONTROL_PLANE_PACKAGES,
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


def install_packages(packages: Sequence[DebianPackage]) -> None:
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


def binaries_folder() -> Path:
    """The folder that holds every program of `PROGRAMS`; builds it when it is not there yet."""
    folder = cache_folder() / _recipe_digest() / "bin"
    if not folder.exists():
        with locked("build"):
            if not folder.exists():  # another process may have built it while this one waited
                _build(folder)
    return folder


def _recipe_digest() -> str:
    modules = sorted({program.module for program in PROGRAMS})
    pins = [(module / name).read_bytes() for module in modules for name in ("go.mod", "go.sum")]
    commands = [" ".join(_build_command(program, Path("bin"))) for program in PROGRAMS]
    return digest(*pins, *commands)


def _build_command(program: Program, folder: Path) -> list[str]:
    # -trimpath and no C: the result does not depend on this folder or on the machine's libc
    flags = ["-trimpath", "-buildvcs=false", "-ldflags", f"-s -w {_STAMP}"]
    return ["go", "build", *flags, "-o", str(folder / program.name), program.package]


def _build(folder: Path) -> None:
    if shutil.which("go") is None:
        raise ClusterError("Go is not installed, or not in PATH: version 1.26 or newer is needed")
    folder.parent.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "CGO_ENABLED": "0"}
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix="build-") as temporary:
        target = Path(temporary) / "bin"
        target.mkdir()
        with step(f"building Kubernetes {KUBERNETES} from Go modules (about 5 minutes, once)"):
            for number, program in enumerate(PROGRAMS, start=1):
                say(f"    {number}/{len(PROGRAMS)} {program.name}")
                command = _build_command(program, target)
                run(command, environment=environment, folder=program.module)
        target.rename(folder)
