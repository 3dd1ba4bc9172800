"""The programs that are built from Go modules, once, into the cache.

Kubernetes publishes no packages that a machine behind a package proxy could install, but
every component is a Go module, and go.sum pins each one by hash.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cache import cache_folder, digest, locked
from console import ClusterError, last_lines, run, say, step

HERE = Path(__file__).resolve().parent
_HELM = "helm.sh/helm/v3"
_OWN = "niximage.dev/cluster"  # programs whose source is here


def _pinned(module: str) -> str:
    """The version of a module that go.mod names, without its `v`."""
    found = re.search(
        rf"^\t{re.escape(module)} v(\S+)", (HERE / "go.mod").read_text(), re.MULTILINE
    )
    if not found:
        raise ClusterError(f"{HERE}/go.mod does not require {module}")
    return found[1]


KUBERNETES = _pinned("k8s.io/kubernetes")
_MAJOR, _MINOR, _ = KUBERNETES.split(".")
# What release builds write into the programs: their versions, and Helm's idea of a cluster's.
_STAMPS = {
    "k8s.io/component-base/version.gitVersion": f"v{KUBERNETES}",
    "k8s.io/component-base/version.gitMajor": _MAJOR,
    "k8s.io/component-base/version.gitMinor": _MINOR,
    f"{_HELM}/internal/version.version": f"v{_pinned(_HELM)}",
    f"{_HELM}/pkg/chartutil.k8sVersionMajor": _MAJOR,
    f"{_HELM}/pkg/chartutil.k8sVersionMinor": _MINOR,
    f"{_HELM}/pkg/lint/rules.k8sVersionMajor": _MAJOR,
    f"{_HELM}/pkg/lint/rules.k8sVersionMinor": _MINOR,
}
# -trimpath and no C: the result does not depend on this folder or on the machine's libc.
# Debug information is not made, rather than made and stripped.
_FLAGS = (
    *("-trimpath", "-buildvcs=false", "-gcflags=all=-dwarf=false", "-ldflags"),
    " ".join(["-s -w", *(f"-X {name}={value}" for name, value in _STAMPS.items())]),
)


@dataclass(frozen=True)
class Program:
    """One Go program.

    Attributes:
        name: in the folder of programs.
        package: its main package.
        module: the folder whose go.mod pins it.
    """

    name: str
    package: str
    module: Path = HERE

    @property
    def built(self) -> str:
        """What Go calls it: by its package's last name that is no version."""
        *_, above, last = self.package.split("/")
        return above if re.fullmatch(r"v\d+", last) else last


_KUBERNETES_PROGRAMS = (
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kube-proxy",
    "kubectl",
)
_FLUX = ("source-controller", "kustomize-controller")
PROGRAMS: Mapping[str, Program] = {
    program.name: program
    for program in (
        *(Program(name, f"k8s.io/kubernetes/cmd/{name}") for name in _KUBERNETES_PROGRAMS),
        Program("etcd", "go.etcd.io/etcd/server/v3"),
        Program("helm", f"{_HELM}/cmd/helm"),
        Program("fake-gcs-server", "github.com/fsouza/fake-gcs-server"),
        Program("distribution", "github.com/distribution/distribution/v3/cmd/registry"),
        Program("crane", "github.com/google/go-containerregistry/cmd/crane"),
        *(Program(name, f"github.com/fluxcd/{name}") for name in _FLUX),
        Program("kstatus", f"{_OWN}/kstatus"),
        Program("helm-docs", "github.com/norwoodj/helm-docs/cmd/helm-docs"),
        Program("kubeconform", "github.com/yannh/kubeconform/cmd/kubeconform"),
        # of its own module: it reads kinds that Kubernetes' libraries no longer have
        Program("kube-score", "github.com/zegl/kube-score/cmd/kube-score", HERE / "kube-score"),
    )
}
COMPONENTS = (*_KUBERNETES_PROGRAMS, "etcd")


def binaries_folder(names: Collection[str] = ()) -> Path:
    """The folder that holds these programs, all when none is named; builds those it lacks."""
    folder = cache_folder() / recipe_digest() / "bin"
    names = names or PROGRAMS.keys()
    if _missing(names, folder):
        with locked("build"):
            # another process may have built some while this one waited
            if missing := _missing(names, folder):
                _build(missing, folder)
    return folder


def recipe_digest() -> str:
    """A hash of all that the programs are made from."""
    modules = sorted({program.module for program in PROGRAMS.values()})
    pins = [(module / name).read_bytes() for module in modules for name in ("go.mod", "go.sum")]
    sources = [file.read_bytes() for file in sorted(HERE.glob("*/*.go"))]
    return digest(*pins, *sources, *_FLAGS)


def _missing(names: Collection[str], folder: Path) -> list[Program]:
    return [PROGRAMS[name] for name in names if not (folder / name).exists()]


def _build(programs: Sequence[Program], folder: Path) -> None:
    if shutil.which("go") is None:
        raise ClusterError("Go is not installed, or not in PATH: version 1.26 or newer is needed")
    folder.mkdir(parents=True, exist_ok=True)
    with (
        step(f"building {len(programs)} programs from Go modules (some minutes, once)"),
        tempfile.TemporaryDirectory(dir=folder.parent, prefix="build-") as temporary,
    ):
        for module in dict.fromkeys(program.module for program in programs):
            own = [program for program in programs if program.module == module]
            _compile(own, module, Path(temporary))
        for program in programs:
            if program.name in _FLUX:
                _copy_crds(program, folder / "crds")
            (Path(temporary) / program.built).rename(folder / program.name)


def _compile(programs: Sequence[Program], module: Path, target: Path) -> None:
    """Build programs of one module: by one command, which keeps all processors busy."""
    names = {program.package: program.name for program in programs}
    said: list[str] = []
    with subprocess.Popen(
        ["go", "build", "-v", *_FLAGS, "-o", f"{target}/", *names],
        cwd=module,
        env=_environment(),
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        for line in process.stderr or ():
            said.append(line)
            # it names each package when it is compiled, those of main at last
            if name := names.get(line.strip()):
                say(f"    {name}")
    if process.returncode:
        raise ClusterError(f"`go build` failed in {module}\n{last_lines(''.join(said))}")


def _environment() -> dict[str, str]:
    # The compiler lives for seconds: collecting less garbage saves a twentieth of its time.
    return {"GOGC": "400", **os.environ, "CGO_ENABLED": "0"}


def _copy_crds(program: Program, target: Path) -> None:
    """Put the CRDs of a controller beside it."""
    command = ["go", "list", "-m", "-f", "{{.Dir}}", program.package]
    found = run(command, environment=_environment(), folder=program.module).strip()
    target.mkdir(exist_ok=True)
    for file in (Path(found) / "config" / "crd" / "bases").glob("*.yaml"):
        shutil.copyfile(file, target / file.name)  # not its mode: the module's files are read-only
