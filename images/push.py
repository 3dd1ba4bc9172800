"""Bringing an image to the registry that a cluster's nodes pull from."""

from __future__ import annotations

import re

from console import ClusterError, run, step
from folders import ROOT
from packages import DebianPackage, install
from recipes import Image

SKOPEO = DebianPackage("skopeo", "skopeo")


def push(image: Image, target: str) -> str:
    """Copy an image's archive to a registry, with the login of docker, podman or skopeo.

    Args:
        image: which.
        target: `HOST/NAME[:TAG]`; without a tag it gets the project's version, as the chart has it.

    Returns:
        The whole name.
    """
    if "/" not in target:
        raise ClusterError(f"{target} names no registry: write HOST/NAME, as nodes pull it")
    name = target if ":" in target.rpartition("/")[2] else f"{target}:{_version()}"
    install([SKOPEO])
    # nodes, too, talk plain HTTP to a registry on loopback
    is_local = name.startswith(("127.0.0.1:", "localhost:"))
    flags = ["--quiet", *(["--dest-tls-verify=false"] if is_local else [])]
    with step(f"pushing {name}"):
        # what is copied was made here; Debian's skopeo alone comes without any policy
        command = ["skopeo", "--insecure-policy", "copy", *flags]
        run([*command, f"oci-archive:{image.archive}", f"docker://{name}"])
    return name


def _version() -> str:
    found = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert found is not None
    return found[1]
