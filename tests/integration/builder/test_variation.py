"""The same digest on two machines that have nothing in common but the image's inputs."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from support.debian_set.make import make_set

PACKAGES = ("bash", "coreutils", "python3", "cacert")
FILES = [
    {"path": "/etc/motd", "content": "grüezi\n", "mode": "0640", "uid": 1000},
    {"path": "/srv/a", "directory": True},
]

# Another machine: an empty store in memory, another user, one processor, and in there what the
# second argument says. It is the owner of all that we own, under another number.
OTHER = """
mount -t tmpfs -o mode=755 tmpfs /nix
mount -t tmpfs tmpfs /dev/shm  # faketime fails where one of its process number was killed before
umask 077
exec unshare --user --map-user=daemon --map-group=daemon taskset --cpu-list 0 "$@"
"""
CLOCK = ("faketime", "-m", "2037-06-01 12:00:00")
ENVIRONMENT = {
    "TZ": "Asia/Kathmandu",
    "LANG": "tr_TR.UTF-8",
    "LC_ALL": "tr_TR.UTF-8",
    "PYTHONHASHSEED": "4711",
    "SOURCE_DATE_EPOCH": "1234567890",
}


def document(packages: Sequence[str]) -> str:
    spec: dict[str, Any] = {
        "packages": list(packages),
        "source": {"nixpkgs": {"channel": "nixos-26.05"}},
        "config": {"user": "app", "workingDir": "/work", "env": [{"name": "A", "value": "ä"}]},
        "files": FILES,
        "nixDatabase": True,
    }
    metadata = {"name": "web", "namespace": "team"}
    kind = {"apiVersion": "niximage.dev/v1alpha1", "kind": "NixImage"}
    return yaml.safe_dump({**kind, "metadata": metadata, "spec": spec})


def build(
    home: Path,
    source: Path,
    packages: Sequence[str],
    *,
    prefix: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """The document of `niximage build` with a home of its own."""
    home.mkdir()
    (home / "web.yaml").write_text(document(packages))
    done = subprocess.run(
        [
            *prefix,
            *(sys.executable, "-m", "niximage", "build", "--json", "--file", "web.yaml"),
            *("--source", str(source), "--output", "oci:image"),
        ],
        cwd=home,
        env={
            **os.environ,
            "HOME": str(home),
            "XDG_CACHE_HOME": str(home),
            "NIXIMAGE_SUBSTITUTERS": "",
            **(environment or {}),
        },
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_two_machines_make_the_same_digest(tmp_path: Path) -> None:
    source = make_set(tmp_path / "set")
    here = build(tmp_path / "here", source, PACKAGES)
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(source, elsewhere, symlinks=True, copy_function=shutil.copyfile)
    for program in (elsewhere / "bootstrap" / "bin").iterdir():
        if not program.is_symlink():
            program.chmod(0o700)
    (tmp_path / "other.sh").write_text(OTHER)
    enter = ["unshare", "--mount", *(["--map-root-user"] if os.geteuid() else [])]
    there = build(
        tmp_path / "there",
        elsewhere,
        PACKAGES[::-1],
        prefix=[*enter, "sh", "-eu", str(tmp_path / "other.sh"), *CLOCK],
        environment=ENVIRONMENT,
    )
    assert there["digest"] == here["digest"]
    assert there["seconds"]["realise"] > 0
    assert not any(layer["reused"] for layer in there["platforms"][0]["layers"]), "all made anew"
