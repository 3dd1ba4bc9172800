"""Programs of another platform: Debian's for arm64, fetched as apt does, and never run.

apt gets a folder of its own in the user's cache, with its own lists: this machine's packages and
architectures stay as they are. What was fetched once is not fetched again.
"""

import io
import os
import subprocess
import tarfile
from pathlib import Path
from typing import Final

_TIMEOUT: Final = 240.0  # seconds of one program
_PACKAGE: Final = "busybox-static"
_MACHINE: Final = 183  # AArch64, as ELF numbers machines


def busybox() -> bytes:
    """The static busybox of arm64."""
    with tarfile.open(
        fileobj=io.BytesIO(_run("dpkg-deb", "--fsys-tarfile", _fetched()))
    ) as archive:
        file = archive.extractfile("./bin/busybox")
        assert file is not None
        program = file.read()
    assert program[:4] == b"\x7fELF"
    assert int.from_bytes(program[18:20], "little") == _MACHINE
    return program


def _fetched() -> Path:
    """Debian's package, in the cache."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    cache = Path(base) / "niximage-tests" / "arm64"
    if found := sorted(cache.glob(f"{_PACKAGE}_*.deb")):
        return found[-1]
    for folder in ("lists/partial", "archives/partial"):
        (cache / folder).mkdir(parents=True, exist_ok=True)
    (cache / "status").touch()
    settings = {
        "APT::Architecture": "arm64",
        "APT::Architectures::": "arm64",
        "APT::Sandbox::User": "root",
        "Acquire::Languages": "none",
        "Debug::NoLocking": "1",
        "Dir::Cache": cache,
        "Dir::State": cache,
        "Dir::State::status": cache / "status",
    }
    options = [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]
    _run("apt-get", *options, "-qq", "update")
    _run("apt-get", *options, "-qq", "download", _PACKAGE, folder=cache)
    return max(cache.glob(f"{_PACKAGE}_*.deb"))


def _run(*command: str | Path, folder: Path | None = None) -> bytes:
    return subprocess.run(
        command,
        check=True,
        capture_output=True,
        timeout=_TIMEOUT,
        cwd=folder,
        env={**os.environ, "LC_ALL": "C.UTF-8"},
    ).stdout
