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
import time
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
_SILENCE_SECONDS = 60  # a first build takes minutes; who waits sees that it goes on


@dataclass(frozen=True)
class Program:
    """One Go program.

    Attributes:
        name: in the folder of programs.
        package: its main package.
        module: the folder whose go.mod pins it.
        crds: the folder of its CRDs in the module that the package is of.
    """

    name: str
    package: str
    module: Path = HERE
    crds: str = ""

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
_CALICO = "github.com/projectcalico/calico"
PROGRAMS: Mapping[str, Program] = {
    program.name: program
    for program in (
        *(Program(name, f"k8s.io/kubernetes/cmd/{name}") for name in _KUBERNETES_PROGRAMS),
        # of its own module: it is written for an older Kubernetes' libraries
        Program(
            "calico-felix",
            f"{_CALICO}/felix/cmd/calico-felix",
            HERE / "calico",
            crds="libcalico-go/config/crd",
        ),
        Program("calico", f"{_CALICO}/cni-plugin/cmd/calico", HERE / "calico"),
        Program("etcd", "go.etcd.io/etcd/server/v3"),
        Program("helm", f"{_HELM}/cmd/helm"),
        Program("fake-gcs-server", "github.com/fsouza/fake-gcs-server"),
        Program("distribution", "github.com/distribution/distribution/v3/cmd/registry"),
        Program("crane", "github.com/google/go-containerregistry/cmd/crane"),
        *(
            Program(name, f"github.com/fluxcd/{name}", crds="config/crd/bases")
            for name in ("source-controller", "kustomize-controller")
        ),
        Program("kstatus", f"{_OWN}/kstatus"),
        Program("helm-docs", "github.com/norwoodj/helm-docs/cmd/helm-docs"),
        Program("kubeconform", "github.com/yannh/kubeconform/cmd/kubeconform"),
        # of its own module: it reads kinds that Kubernetes' libraries no longer have
        Program("kube-score", "github.com/zegl/kube-score/cmd/kube-score", HERE / "kube-score"),
    )
}
COMPONENTS = (*_KUBERNETES_PROGRAMS, "etcd", "calico-felix", "calico")


def binaries_folder(names: Collection[str] = ()) -> Path:
    """The folder that holds these programs, all when none is named; builds those it lacks."""
    folder = _folder()
    if lacking(names):
        with locked("build"):
            # another process may have built some while this one waited
            if programs := lacking(names):
                _build(programs, folder)
    return folder


def lacking(names: Collection[str] = ()) -> list[Program]:
    """Those of these programs, all when none is named, that have to be built."""
    folder = _folder()
    return [PROGRAMS[name] for name in names or PROGRAMS if not (folder / name).exists()]


def obstacle() -> str | None:
    """Why programs cannot be built with this machine's Go; None when they can."""
    wanted = _go_version((HERE / "go.mod").read_text())
    hint = f"version {wanted[0]}.{wanted[1]} or newer is needed, see https://go.dev/dl"
    program = shutil.which("go")
    if program is None:
        return f"Go is not installed, or not in PATH: {hint}"
    # here, where a Go that can get a newer one for itself does so, as in the build
    done = subprocess.run(
        [program, "version"], cwd=HERE, capture_output=True, text=True, timeout=600, check=False
    )
    if done.returncode:
        return f"{program} does not work: {done.stderr.strip()}; {hint}"
    found = _go_version(done.stdout)
    if found < wanted:
        return f"Go is too old: {program} is {found[0]}.{found[1]}; {hint}"
    return None


def crds_folder(binaries: Path, name: str) -> Path:
    """The folder with the CRDs of a program."""
    return binaries / "crds" / name


def recipe_digest() -> str:
    """A hash of all that the programs are made from."""
    modules = sorted({program.module for program in PROGRAMS.values()})
    pins = [(module / name).read_bytes() for module in modules for name in ("go.mod", "go.sum")]
    sources = [file.read_bytes() for file in sorted(HERE.glob("*/*.go"))]
    return digest(*pins, *sources, *_FLAGS)


def _folder() -> Path:
    return cache_folder() / recipe_digest() / "bin"


def _go_version(text: str) -> tuple[int, int]:
    """Of what go.mod and `go version` say: `go 1.26.0`, `go version go1.26.8 linux/amd64`."""
    found = re.search(r"^go (?:version go)?(\d+)\.(\d+)", text, re.MULTILINE)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def _build(programs: Sequence[Program], folder: Path) -> None:
    if found := obstacle():
        raise ClusterError(found)
    folder.mkdir(parents=True, exist_ok=True)
    names = ", ".join(program.name for program in programs)
    with (
        step(f"building {names} from Go modules (some minutes, once)"),
        tempfile.TemporaryDirectory(dir=folder.parent, prefix="build-") as temporary,
    ):
        for module in dict.fromkeys(program.module for program in programs):
            own = [program for program in programs if program.module == module]
            _compile(own, module, Path(temporary))
        for program in programs:
            if program.crds:
                _copy_crds(program, crds_folder(folder, program.name))
            (Path(temporary) / program.built).rename(folder / program.name)


def _compile(programs: Sequence[Program], module: Path, target: Path) -> None:
    """Build programs of one module: by one command, which keeps all processors busy."""
    names = {program.package: program.name for program in programs}
    said: list[str] = []
    spoke = began = time.monotonic()
    with subprocess.Popen(
        ["go", "build", "-v", *_FLAGS, "-o", f"{target}/", *names],
        cwd=module,
        env=_environment(),
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        for line in process.stderr or ():
            said.append(line)
            # it names each module that is fetched, and each package when it is compiled
            if name := names.get(line.strip()):  # a program's own is its last one
                say(f"    {name}")
            elif time.monotonic() - spoke > _SILENCE_SECONDS:
                spoke = time.monotonic()
                say(f"    {(spoke - began) / 60:.0f} min: {line.strip()}")
    if process.returncode:
        raise ClusterError(f"`go build` failed in {module}\n{last_lines(''.join(said))}")


def _environment() -> dict[str, str]:
    # The compiler lives for seconds: collecting less garbage saves a twentieth of its time.
    return {"GOGC": "400", **os.environ, "CGO_ENABLED": "0"}


def _copy_crds(program: Program, target: Path) -> None:
    """Put a program's CRDs beside it."""
    command = ["go", "list", "-f", "{{.Module.Dir}}", program.package]
    found = run(command, environment=_environment(), folder=program.module).strip()
    target.mkdir(parents=True, exist_ok=True)
    for file in (Path(found) / program.crds).glob("*.yaml"):
        shutil.copyfile(file, target / file.name)  # not its mode: the module's files are read-only
