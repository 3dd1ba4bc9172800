"""A package set of real programs, made of Debian's packages.

apt resolves and downloads them once, into the user's cache, as if nothing were installed; from
then on Nix builds the set offline. Of what a program depends on only libraries are taken:
package managers, Perl and the like are of no use in an image.
"""

import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

PROGRAMS: Final = ("bash", "coreutils", "curl", "ca-certificates", "nix-bin", "python3")
EXPRESSION: Final = Path(__file__).with_name("default.nix")

_APPLETS: Final = (
    *("ar", "cat", "chmod", "cp", "cut", "find", "head", "ln", "mkdir", "readlink", "rm", "rmdir"),
    *("sed", "sh", "tail", "tar", "unxz"),
)
_TRIPLETS: Final = {
    "amd64": ("x86_64-linux-gnu", "ld-linux-x86-64.so.2"),
    "arm64": ("aarch64-linux-gnu", "ld-linux-aarch64.so.1"),
}
_TIMEOUT: Final = 240.0  # seconds of one apt-get
# Python is one package that Debian has cut into several.
_PYTHON: Final = re.compile(r"(lib)?python3(\.[0-9]+)?(-minimal|-stdlib)?")
_LIBRARY: Final = re.compile(r"z?lib.*(?<!-perl)")


@dataclass(frozen=True)
class Deb:
    """A downloaded package.

    Attributes:
        depends: the names it depends on; of alternatives the first that is there.
    """

    path: Path
    version: str
    depends: Sequence[str]

    @property
    def name(self) -> str:
        """What Debian calls it."""
        return self.path.name.partition("_")[0]


def make_set(folder: Path) -> Path:
    """Lay the set's files into a new folder; returns it."""
    debs = {deb.name: deb for deb in _described(_download([*PROGRAMS, "patchelf"]))}
    architecture = _output("dpkg", "--print-architecture").strip()
    triplet, loader = _TRIPLETS[architecture]
    packages = _packages(debs)
    (folder / "debs").mkdir(parents=True)
    for package in packages.values():
        for name in package["files"]:
            shutil.copy(debs[name.removesuffix(".deb")].path, folder / "debs" / name)
    document = {"triplet": triplet, "loader": loader, "packages": packages}
    (folder / "debs.json").write_text(json.dumps(document, indent=2, sort_keys=True))
    shutil.copy(EXPRESSION, folder)
    _bootstrap(folder / "bootstrap" / "bin")
    return folder


def make_repository(folder: Path, branch: str) -> str:
    """Make a bare Git repository of the set; returns its one commit.

    The same packages give the same commit, whoever makes it and whenever.
    """
    environment = {
        "PATH": os.environ["PATH"],
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        **{f"GIT_{who}_NAME": "tests" for who in ("AUTHOR", "COMMITTER")},
        **{f"GIT_{who}_EMAIL": "tests@example.org" for who in ("AUTHOR", "COMMITTER")},
        **{f"GIT_{who}_DATE": "1767225600 +0000" for who in ("AUTHOR", "COMMITTER")},
    }

    def git(*arguments: str | Path) -> str:
        command = ["git", "--git-dir", folder, *arguments]
        return subprocess.run(
            command, check=True, capture_output=True, text=True, env=environment, timeout=60
        ).stdout.strip()

    subprocess.run(
        ["git", "init", "--quiet", "--bare", f"--initial-branch={branch}", folder],
        check=True,
        env=environment,
        timeout=60,
    )
    git("config", "uploadpack.allowAnySHA1InWant", "true")
    with tempfile.TemporaryDirectory() as scratch:
        tree = make_set(Path(scratch) / "set")
        git("--work-tree", tree, "add", "--all", "--force", ".")
    commit = git("commit-tree", git("write-tree"), "-m", "Debian's packages")
    git("update-ref", f"refs/heads/{branch}", commit)
    return commit


def _packages(debs: dict[str, Deb]) -> dict[str, dict[str, Any]]:
    """The set's packages: what each is unpacked from, and the libraries that it needs."""
    python = [name for name in debs if _PYTHON.fullmatch(name)]
    parts = {name: [name] for name in debs if name not in python} | {"python3": python}
    packages: dict[str, dict[str, Any]] = {}
    waiting = [*PROGRAMS, "patchelf", "libc6"]
    while waiting:
        name = waiting.pop()
        if name in packages:
            continue
        # libc6 and libgcc-s1 depend on each other; a loader needs nobody.
        of_all = [d for part in parts[name] for d in debs[part].depends if name != "libc6"]
        needs = sorted({d for d in of_all if _LIBRARY.fullmatch(d) and d not in python})
        packages[name] = {
            "version": debs[name].version,
            "files": [f"{part}.deb" for part in sorted(parts[name])],
            "needs": needs,
        }
        waiting += needs
    return packages


def _bootstrap(folder: Path) -> None:
    """A static busybox, and links of its applets' names."""
    folder.mkdir(parents=True)
    busybox = shutil.which("busybox")
    assert busybox is not None, "install Debian's busybox-static"
    shutil.copy(busybox, folder / "busybox")
    for applet in _APPLETS:
        (folder / applet).symlink_to("busybox")


def _download(packages: Sequence[str]) -> list[Path]:
    """The files of packages and of all that they depend on, as on a machine without any."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    cache = Path(base) / "niximage-tests" / "debs"
    (cache / "partial").mkdir(parents=True, exist_ok=True)
    nothing = cache / "nothing"
    (nothing / "partial").mkdir(parents=True, exist_ok=True)
    (nothing / "status").touch()

    def install(how: str, archives: Path) -> str:
        settings = {
            "Dir::State::status": nothing / "status",
            "Dir::Cache::archives": archives,
            "Debug::NoLocking": 1,
            "APT::Sandbox::User": "root",
        }
        options = [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]
        flags = ["--no-install-recommends", "-qq", "-y", how]
        return _output("apt-get", *options, *flags, "install", *packages)

    try:
        found = install("--print-uris", nothing)
    except subprocess.CalledProcessError:
        _output("apt-get", "update", "-qq")  # a machine whose lists of packages were removed
        found = install("--print-uris", nothing)
    # 'URI' name size hash
    paths = [cache / line.split()[1] for line in found.splitlines() if line.startswith("'")]
    if not all(path.exists() for path in paths):
        install("--download-only", cache)
    return paths


def _described(paths: Sequence[Path]) -> list[Deb]:
    names = {path.name.partition("_")[0] for path in paths}
    debs = []
    for path in paths:
        fields = _output("dpkg-deb", "--field", path, "Version", "Depends", "Pre-Depends")
        found = dict(line.split(": ", 1) for line in fields.splitlines() if ": " in line)
        wanted = ", ".join(v for k, v in found.items() if k != "Version")
        chosen = []
        for alternatives in wanted.split(", "):
            known = [n for n in re.findall(r"(?:^|\| )([a-z0-9][a-z0-9+.-]+)", alternatives)
                     if n in names]  # fmt: skip
            chosen += known[:1]
        version = re.sub(r"[^0-9A-Za-z+._-]", "-", found["Version"].rpartition(":")[2])
        debs.append(Deb(path, version, chosen))
    return debs


def _output(*command: str | Path) -> str:
    return subprocess.run(
        [str(word) for word in command],
        check=True,
        capture_output=True,
        text=True,
        timeout=_TIMEOUT,
        env={**os.environ, "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"},
    ).stdout
