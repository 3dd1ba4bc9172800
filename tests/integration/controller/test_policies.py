"""The admission policies of examples/policies, on a real API server."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.kubernetes import Cluster, eventually, nix_image

POLICIES = Path(__file__).parents[3] / "examples" / "policies"
COMMIT = "a" * 40
HASH = f"sha256-{'A' * 43}="
FLUX: dict[str, Any] = {"source": {"sourceRef": {"kind": "GitRepository", "name": "set"}}}
DIGEST = f"sha256:{'b' * 64}"


def git(url: str, **ref: str) -> dict[str, Any]:
    return {"source": {"git": {"url": url, "ref": ref or {"branch": "main"}}}}


PASSED: dict[str, list[dict[str, Any]]] = {
    "allowed-hosts": [
        {},
        git("https://github.com/team/set.git"),
        git("ssh://git@git.example.org:2222/team/set"),
        {"base": {"image": f"docker.io/library/debian@{DIGEST}"}},
        {"base": {"niximage": {"name": "other"}}},
        FLUX,
    ],
    "pinned-sources": [
        {"source": {"nixpkgs": {"revision": COMMIT, "narHash": HASH}}},
        git("https://anywhere.example.org/set.git", commit=COMMIT),
        git("https://x.example.org/set.git", commit=COMMIT)
        | {"base": {"image": f"docker.io/library/debian@{DIGEST}"}},
    ],
}
REFUSED: dict[str, list[tuple[dict[str, Any], str]]] = {
    "allowed-hosts": [
        (git("https://evil.example.com/set.git"), "is on none of the hosts github.com"),
        (git("https://github.com@evil.example.com/set.git"), "spec.source.git.url"),
        (git("https://github.com.evil.example.com/set.git"), "spec.source.git.url"),
        (git("https://evil.example.com/github.com/set.git"), "spec.source.git.url"),
        (git("http://169.254.169.254/latest"), "spec.source.git.url"),
        ({"base": {"image": f"evil.example.com/debian@{DIGEST}"}}, "spec.base.image"),
        ({"base": {"image": f"docker.io:5000/debian@{DIGEST}"}}, "in none of the registries"),
    ],
    "pinned-sources": [
        ({}, "spec.source follows something that moves"),
        ({"source": {"nixpkgs": {"revision": COMMIT}}}, "nixpkgs.narHash"),
        (git("https://github.com/team/set.git", tag="v1"), "git.ref.commit"),
        (FLUX, "spec.source follows something that moves"),
        (
            git("https://github.com/team/set.git", commit=COMMIT)
            | {"base": {"niximage": {"name": "other"}}},
            "spec.base follows another NixImage",
        ),
    ],
}


@pytest.fixture(params=sorted(PASSED))
def policy(request: pytest.FixtureRequest, cluster: Cluster, namespace: str) -> Iterator[str]:
    """A policy that is in force in the test's namespace, and nowhere else."""
    name: str = request.param
    documents = list(yaml.safe_load_all((POLICIES / f"{name}.yaml").read_text()))
    binding = documents[1]["spec"]
    selector = binding.setdefault("matchResources", {}).setdefault("namespaceSelector", {})
    for label, value in selector.get("matchLabels", {}).items():
        cluster.do("label", "namespace", namespace, f"{label}={value}")
    own = {"kubernetes.io/metadata.name": namespace}
    selector["matchLabels"] = {**selector.get("matchLabels", {}), **own}
    for document in documents:
        cluster.do("apply", "-f", "-", given=document)
    spec, words = REFUSED[name][0]

    def in_force() -> bool:
        return words in refusal(cluster, namespace, spec)

    eventually("the policy is in force", in_force)
    yield name
    for document in reversed(documents):
        cluster.do("delete", "-f", "-", given=document)


def refusal(cluster: Cluster, namespace: str, spec: dict[str, Any]) -> str:
    """What the API server has against a spec; "" if nothing."""
    image = nix_image(namespace, "tried", **spec)
    return cluster.run("create", "--dry-run=server", "-f", "-", given=image).stderr


def test_a_policy_refuses_what_it_is_for_and_nothing_else(
    policy: str, cluster: Cluster, namespace: str
) -> None:
    for spec, words in REFUSED[policy]:
        assert words in refusal(cluster, namespace, spec), spec
    for spec in PASSED[policy]:
        assert refusal(cluster, namespace, spec) == "", spec


def test_every_policy_is_tried() -> None:
    assert {file.stem for file in POLICIES.glob("*.yaml")} == PASSED.keys() == REFUSED.keys()
