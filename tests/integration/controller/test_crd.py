"""The CRDs on a real API server: defaults, columns, what cannot change, what was stored before."""

from typing import Any

import pytest

from support.kubernetes import Cluster, nix_build_class, nix_image


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
    assert wide == [*narrow[:-1], "PLATFORMS", "IMAGE", "STATUS", "AGE"]


def test_kubectl_shows_the_classes_and_which_is_the_default(cluster: Cluster) -> None:
    body = nix_build_class("standard", maxBuilds=7)
    body["metadata"]["annotations"] = {"niximage.dev/is-default-class": "true"}
    cluster.do("create", "-f", "-", given=body)
    try:
        header, row = cluster.do("get", "nixbc").splitlines()
        assert header.split() == ["NAME", "DEFAULT", "BUILDS", "AGE"]
        assert row.split()[:3] == ["standard", "true", "7"]
    finally:
        cluster.do("delete", "nixbc", "standard")
