"""The CRD on a real API server: what it takes, what it refuses, and in which words."""

from typing import Any

import pytest

from support.kubernetes import Cluster, nix_image
from unit.api.test_spec import GOOD

GIT = {"url": "https://example.org/set.git", "ref": {"branch": "main"}}

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "Nix code in a package": ({"packages": ["hello; import <x>"]}, "spec.packages[0]"),
    "string interpolation": ({"packages": ["${abort 1}"]}, "spec.packages[0]"),
    "a quote": ({"packages": ['a"b']}, "spec.packages[0]"),
    "an option": ({"packages": ["--impure"]}, "spec.packages[0]"),
    "a package twice": ({"packages": ["hello", "hello"]}, "Duplicate value"),
    "no package": ({"packages": []}, "spec.packages"),
    "no source": ({"source": {}}, "set exactly one of nixpkgs and git"),
    "two sources": (
        {"source": {"nixpkgs": {"channel": "nixos-26.05"}, "git": GIT}},
        "set exactly one of nixpkgs and git",
    ),
    "channel and revision": (
        {"source": {"nixpkgs": {"channel": "nixos-26.05", "revision": "a" * 40}}},
        "set exactly one of channel and revision",
    ),
    "two refs": (
        {"source": {"git": {**GIT, "ref": {"branch": "a", "tag": "b"}}}},
        "set exactly one of branch, tag, name and commit",
    ),
    "a ref like an option": (
        {"source": {"git": {**GIT, "ref": {"branch": "-u"}}}},
        "spec.source.git.ref.branch",
    ),
    "a transport that runs programs": (
        {"source": {"git": {**GIT, "url": "ext::sh -c id"}}},
        "spec.source.git.url",
    ),
    "a path out of the repository": (
        {"source": {"git": {**GIT, "path": "a/../.."}}},
        "path must stay inside the repository",
    ),
    "an interval of seconds": ({"interval": "5s"}, "interval must be between 1m and 744h"),
    "a timeout of days": ({"timeout": "48h"}, "timeout must be between 30s and 24h"),
    "no base in a base": ({"base": {}}, "set exactly one of niximage and image"),
    "a base by tag": ({"base": {"image": "docker.io/library/debian:12"}}, "spec.base.image"),
    "a base of no host": (
        {"base": {"image": f"library/debian@sha256:{'a' * 64}"}},
        "spec.base.image",
    ),
    "itself as its base": (
        {"base": {"niximage": {"name": "web"}}},
        "an image cannot be its own base",
    ),
    "more layers than runtimes take": ({"layering": {"maxLayers": 126}}, "spec.layering.maxLayers"),
    "a path of files twice": (
        {"files": [{"path": "/a", "content": ""}, {"path": "/a", "directory": True}]},
        "Duplicate value",
    ),
    "large files": (
        {"files": [{"path": "/a", "content": "ä" * 16384}, {"path": "/b", "content": "x" * 32769}]},
        "files may have 65536 bytes together",
    ),
    "large files in base64": (
        {"files": [{"path": f"/{n}", "contentBase64": "A" * 40000} for n in range(2)]},
        "files may have 65536 bytes together",
    ),
    "a file outside": (
        {"files": [{"path": "/etc/../nix", "content": ""}]},
        "path must have no '.' or '..' in it",
    ),
    "a file here": ({"files": [{"path": "/etc/.", "content": ""}]}, "path must have no '.' or"),
    "a file in the store": (
        {"files": [{"path": "/nix", "content": ""}]},
        "path must not lie in /nix, /proc, /sys or /dev",
    ),
    "a file of the runtime's": (
        {"files": [{"path": "/etc/hosts", "content": ""}]},
        "the container runtime provides /etc/hosts",
    ),
    "a file of nothing": ({"files": [{"path": "/x"}]}, "set exactly one of content"),
    "a file and a link": (
        {"files": [{"path": "/x", "content": "", "symlink": "/y"}]},
        "set exactly one of content",
    ),
    "no directory": ({"files": [{"path": "/x", "directory": False}]}, "spec.files[0].directory"),
    "a link with a mode": (
        {"files": [{"path": "/x", "symlink": "/y", "mode": "0777"}]},
        "a symlink has no mode",
    ),
    "a mode that is not octal": (
        {"files": [{"path": "/x", "content": "", "mode": "0968"}]},
        "spec.files[0].mode",
    ),
    "a path without a slash": ({"files": [{"path": "x", "content": ""}]}, "spec.files[0].path"),
    "bytes that are no base64": (
        {"files": [{"path": "/x", "contentBase64": "AAA"}]},
        "spec.files[0].contentBase64",
    ),
}


@pytest.mark.parametrize("spec", GOOD.values(), ids=GOOD)
def test_good_specs_are_accepted(cluster: Cluster, namespace: str, spec: dict[str, Any]) -> None:
    cluster.do("create", "--dry-run=server", "-f", "-", given=nix_image(namespace, **spec))


@pytest.mark.parametrize(("spec", "words"), REFUSED.values(), ids=REFUSED)
def test_bad_specs_are_refused_with_the_field_named(
    cluster: Cluster, namespace: str, spec: dict[str, Any], words: str
) -> None:
    done = cluster.run("create", "-f", "-", given=nix_image(namespace, **spec))
    assert done.returncode != 0
    assert words in done.stderr


def test_a_name_too_long_for_a_job_is_refused(cluster: Cluster, namespace: str) -> None:
    done = cluster.run("create", "-f", "-", given=nix_image(namespace, "w" * 53))
    assert "at most 52 characters" in done.stderr
    cluster.do("create", "-f", "-", given=nix_image(namespace, "w" * 52))


def test_a_new_image_is_not_taken_for_current(cluster: Cluster, namespace: str) -> None:
    """Flux and Argo CD must wait for an object that no operator has seen."""
    cluster.do("create", "-f", "-", given=nix_image(namespace))
    found = cluster.get("niximage", "web", namespace)
    assert found is not None
    assert found["status"] == {"observedGeneration": -1}
    assert found["spec"]["interval"] == "10m"


@pytest.mark.parametrize("before", [{}, {"output": {"repository": "old"}}])
def test_the_repository_cannot_change(
    cluster: Cluster, namespace: str, before: dict[str, Any]
) -> None:
    cluster.do("create", "-f", "-", given=nix_image(namespace, **before))
    done = cluster.run("apply", "-f", "-", given=nix_image(namespace, output={"repository": "new"}))
    assert "output.repository cannot be changed" in done.stderr


def test_kubectl_shows_the_columns(cluster: Cluster, namespace: str) -> None:
    cluster.do("create", "-f", "-", given=nix_image(namespace))
    narrow = cluster.do("get", "niximg", "-n", namespace).splitlines()[0].split()
    assert narrow == ["NAME", "READY", "REASON", "REVISION", "AGE"]
    wide = cluster.do("get", "nix", "-n", namespace, "-o", "wide").splitlines()[0].split()
    assert wide == ["NAME", "READY", "REASON", "REVISION", "IMAGE", "STATUS", "AGE"]
