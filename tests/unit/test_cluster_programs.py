"""What the local cluster's programs are built from: one Kubernetes, and names that people type."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from integration.chart.kubernetes_schemas import KUBERNETES

PROJECT = Path(__file__).parents[2]
PINS = (PROJECT / "cluster" / "go.mod").read_text()
VERSION = re.findall(r"^\tk8s\.io/kubernetes v1\.(\S+)", PINS, re.MULTILINE)


def test_the_libraries_of_kubernetes_are_all_of_its_version() -> None:
    """Others are compiled for nothing but themselves, which takes minutes."""
    replaced = re.findall(r"^\tk8s\.io/\S+ => \S+ v0\.(\S+)", PINS, re.MULTILINE)
    assert len(replaced) > 20
    assert set(replaced) == set(VERSION)


def test_what_names_the_version_of_kubernetes_names_the_same() -> None:
    assert list(KUBERNETES.values())[-1] == f"v1.{VERSION[0]}"
    minor = list(KUBERNETES)[-1]
    assert f"single-node Kubernetes {minor} " in (PROJECT / "cluster" / "README.md").read_text()


def test_an_unknown_program_is_refused_with_the_names_of_all() -> None:
    done = subprocess.run(
        [sys.executable, "cluster", "tools", "kubectl", "kubeclt"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: unknown: kubeclt; there are kube-apiserver ")
    assert " kubectl " in done.stderr


@pytest.mark.parametrize(
    ("go", "told"),
    [
        ("echo go version go1.19.8 linux/amd64", "go is 1.19; version 1.26 or newer is needed"),
        ("echo 'go: go.mod requires go >= 1.26.0' >&2; exit 1", "requires go >= 1.26.0; version"),
    ],
)
def test_a_go_that_cannot_build_them_is_refused_at_once(tmp_path: Path, go: str, told: str) -> None:
    (tmp_path / "go").write_text(f"#!/bin/sh\n{go}\n")
    (tmp_path / "go").chmod(0o755)
    done = subprocess.run(
        [sys.executable, "cluster", "tools", "kubectl"],
        cwd=PROJECT,
        env={"PATH": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert told in done.stderr
    assert "https://go.dev/dl" in done.stderr
