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
_MAJOR, _MINOR, _ = KUBERNETES.split(".")
_HELM = "helm.sh/helm/v3"
# What release builds write into the programs: their versions, and Helm's idea of a cluster's.
_STAMPS = {
    "k8s.io/component-base/version.gitVersion": f"v{KUBERNETES}",
    "k8s.io/component-base/version.gitMajor": _MAJOR,
    "k8s.io/component-base/version.gitMinor": _MINOR,
    f"{_HELM}/internal/version.version": "v3.22.0",
    f"{_HELM}/pkg/chartutil.k8sVersionMajor": _MAJOR,
    f"{_HELM}/pkg/chartutil.k8sVersionMinor": _MINOR,
    f"{_HELM}/pkg/lint/rules.k8sVersionMajor": _MAJOR,
    f"{_HELM}/pkg/lint/rules.k8sVersionMinor": _MINOR,
}
_LINKER_FLAGS = " ".join(["-s -w", *(f"-X {name}={value}" for name, value in _STAMPS.items())])


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
    Program("helm", HERE / "helm", f"{_HELM}/cmd/helm"),
)


CHART_TOOLS = (
    Program("helm", HERE / "helm", f"{_HELM}/cmd/helm"),
    Program("helm-docs", HERE / "charts", "github.com/norwoodj/helm-docs/cmd/helm-docs"),
    Program("kubeconform", HERE / "charts", "github.com/yannh/kubeconform/cmd/kubeconform"),
    Program("kube-score", HERE / "charts", "github.com/zegl/kube-score/cmd/kube-score"),
)
# Only a test of GitOps needs them, and they take almost as long as the cluster's own.
FLUX = tuple(
    Program(name, HERE / "flux", f"github.com/fluxcd/{name}")
    for name in ("source-controller", "kustomize-controller")
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


def binaries_folder(programs: tuple[Program, ...] = PROGRAMS) -> Path:
    """The folder that holds these programs; builds it when it is not there yet."""
    folder = cache_folder() / _recipe_digest(programs) / "bin"
    if not folder.exists():
        with locked("build"):
            if not folder.exists():  # another process may have built it while this one waited
                _build(programs, folder)
    return folder


def _recipe_digest(programs: Sequence[Program]) -> str:
    modules = sorted({program.module for program in programs})
    pins = [(module / name).read_bytes() for module in modules for name in ("go.mod", "go.sum")]
    commands = [" ".join(_build_command(program, Path("bin"))) for program in programs]
    return digest(*pins, *commands)


def _build_command(program: Program, folder: Path) -> list[str]:
    # -trimpath and no C: the result does not depend on this folder or on the machine's libc
    flags = ["-trimpath", "-buildvcs=false", "-ldflags", _LINKER_FLAGS]
    return ["go", "build", *flags, "-o", str(folder / program.name), program.package]


def _build(programs: tuple[Program, ...], folder: Path) -> None:
    if shutil.which("go") is None:
        raise ClusterError("Go is not installed, or not in PATH: version 1.26 or newer is needed")
    folder.parent.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "CGO_ENABLED": "0"}
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix="build-") as temporary:
        target = Path(temporary) / "bin"
        target.mkdir()
        whole = {PROGRAMS: f"Kubernetes {KUBERNETES}", FLUX: "Flux's controllers"}
        what = whole.get(programs, "tools")
        with step(f"building {what} from Go modules (some minutes, once)"):
            for number, program in enumerate(programs, start=1):
                say(f"    {number}/{len(programs)} {program.name}")
                command = _build_command(program, target)
                run(command, environment=environment, folder=program.module)
                _copy_crds(program, target / "crds", environment)
        target.rename(folder)


def _copy_crds(program: Program, target: Path, environment: dict[str, str]) -> None:
    """Put the CRDs of a controller beside it; most programs have none."""
    if program not in FLUX:
        return
    command = ["go", "list", "-m", "-f", "{{.Dir}}", program.package]
    found = run(command, environment=environment, folder=program.module).strip()
    target.mkdir(exist_ok=True)
    for file in (Path(found) / "config" / "crd" / "bases").glob("*.yaml"):
        shutil.copyfile(file, target / file.name)  # not its mode: the module's files are read-only
