"""Private repositories before a real API server: what is granted is read, and nothing else."""

import base64
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.controller.conftest import Operator
from integration.controller.test_operations import restricted
from integration.private_git import BASIC, private_http
from support.kubernetes import Json, conditions, nix_image


@pytest.fixture
def private(operator: Operator, tmp_path: Path) -> Iterator[str]:
    """The operator's repository behind a password."""
    with private_http(tmp_path) as url:
        yield f"{url}/set.git"


@pytest.fixture
def limited(operator: Operator, namespace: str, tmp_path: Path) -> Operator:
    """The operator with a Role in one namespace, that grants no Secret."""
    operator.stop()
    operator.kubeconfig = restricted(operator.cluster, namespace, tmp_path)
    operator.environment["NIXIMAGE_NAMESPACES"] = namespace
    operator.start()
    return operator


def source(url: str, **ref: str) -> Json:
    return {"git": {"url": url, "ref": ref, "secretRef": {"name": "keys"}}}


def secret(namespace: str, **values: str) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "keys", "namespace": namespace},
        "data": {k: base64.b64encode(v.encode()).decode() for k, v in values.items()},
    }


def test_a_branch_waits_for_the_grant_that_its_condition_asks_for(
    limited: Operator, namespace: str, private: str
) -> None:
    cluster = limited.cluster
    cluster.do("create", "-f", "-", given=secret(namespace, **BASIC))
    image = nix_image(namespace, source=source(private, branch="nixos-26.05"))
    cluster.do("create", "-f", "-", given=image)
    found = limited.image_with(namespace, "SourceResolved", "False/CredentialsNotGranted")
    assert conditions(found)["Reconciling"] == "True/ProgressingWithRetry"
    words = found["status"]["failure"]["message"]
    assert f"refs/heads/nixos-26.05 of {private} takes the Secret keys" in words
    # What it says to do is done to the letter.
    grant = re.search(r"kubectl (create role .*) && kubectl (create rolebinding .*)", words)
    assert grant is not None, words
    for command in grant.groups():
        cluster.do(*command.split())
    job = limited.job(namespace)
    steps = [c["name"] for c in job["spec"]["template"]["spec"]["initContainers"]]
    assert steps == ["fetch", "build"]
    assert BASIC["password"] not in str(limited.image(namespace, lambda _: True))
    assert BASIC["password"] not in limited.log.read_text()


def test_a_pinned_commit_needs_no_grant(limited: Operator, namespace: str, private: str) -> None:
    commit = limited.git.commit("pinned")
    limited.cluster.do(
        "create", "-f", "-", given=nix_image(namespace, source=source(private, commit=commit))
    )
    job = limited.job(namespace)
    volumes = {v["name"]: v for v in job["spec"]["template"]["spec"]["volumes"]}
    assert volumes["credentials"]["secret"]["secretName"] == "keys"
    image = limited.image_with(namespace, "SourceResolved", "True/Succeeded")
    assert image["status"]["source"]["revision"] == commit


def test_a_secret_that_is_mended_is_tried_again(
    operator: Operator, namespace: str, private: str
) -> None:
    image = nix_image(namespace, source=source(private, branch="nixos-26.05"))
    operator.cluster.do("create", "-f", "-", given=image)
    operator.image_with(namespace, "Ready", "False/CredentialsMissing")
    operator.cluster.do("create", "-f", "-", given=secret(namespace, username="me"))
    operator.image(
        namespace, lambda i: "it has username" in i["status"].get("failure", {})["message"]
    )
    wrong = secret(namespace, **{**BASIC, "password": "no"})
    operator.cluster.do("apply", "-f", "-", given=wrong)
    operator.image_with(namespace, "Ready", "False/AuthenticationFailed")
    operator.cluster.do("apply", "-f", "-", given=secret(namespace, **BASIC))
    operator.job(namespace)
