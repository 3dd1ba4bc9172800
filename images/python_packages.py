"""The Python side of an image: wheels, collected on this machine for the image's Python.

What this machine trusts, and where it gets packages from, is set up here and not in a build
container; so no network is needed inside.
"""

from __future__ import annotations

import platform
from pathlib import Path

from cache import locked
from console import run
from folders import ROOT

PYTHON = "3.13"  # of Debian trixie
GLIBC_MINORS = range(17, 42)  # trixie has 2.41; wheels name the oldest 2.x that they run on


def download_wheels(folder: Path) -> None:
    """Collect what uv.lock says into a folder; every file's hash is checked."""
    folder.mkdir()
    uv = _uv()
    requirements = folder.with_name("requirements.txt")
    export = ["export", "--quiet", "--locked", "--no-dev", "--no-emit-project"]
    run([uv, *export, "--directory", ROOT, "--output-file", requirements])
    flags = ["--quiet", "--no-deps", "--require-hashes", "--only-binary=:all:"]
    flags += ["--implementation=cp", f"--python-version={PYTHON}"]
    flags += [f"--platform=manylinux_2_{minor}_{platform.machine()}" for minor in GLIBC_MINORS]
    flags += [f"--platform=manylinux2014_{platform.machine()}"]
    # uv has no `download`, so it runs pip
    run([uv, "tool", "run", "pip", "download", *flags, "--dest", folder, "-r", requirements])


def build_wheel(folder: Path) -> None:
    """Build the project's own wheel into a folder."""
    run([_uv(), "build", "--quiet", "--wheel", "--out-dir", folder, ROOT])


def _uv() -> str:
    """The uv in PATH, or the one that the project's commands share."""
    with locked("uv"):
        return run([ROOT / ".ci" / "uv"]).strip()
