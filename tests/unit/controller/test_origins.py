"""What the operator reads a Secret for, and what it says when it may not."""

from collections.abc import Mapping
from typing import Any

import pytest

from niximage.api.build import PinnedSource
from niximage.api.source import Source
from niximage.controller.cluster.connection import NotAllowed, NotThere
from niximage.controller.sources.due import Question
from niximage.controller.sources.origins import Origins, not_granted
from niximage.errors import NixImageError, Reason, Retryable

URL = "https://127.0.0.1:1/set.git"
REFUSAL = (
    'the API server answers 403: secrets "keys" is forbidden: User '
    '"system:serviceaccount:niximage-system:niximage-operator" cannot get resource "secrets"'
)


def question(**ref: str) -> Question:
    git = {"url": URL, "ref": ref, "secretRef": {"name": "keys"}, "path": "nix", "attr": "pkgs"}
    return Question(Source.model_validate({"git": git}), "team-a", "https://x")


class Cluster:
    """Gives no Secret, or a useless one, and counts who asks."""

    def __init__(self, answer: NixImageError | Mapping[str, Any], *kinds: str) -> None:
        self.answer = answer
        self.kinds = kinds
        self.asked: list[tuple[str, str]] = []

    async def get_flux(self, namespace: str, plural: str, name: str) -> dict[str, Any]:
        self.asked.append((namespace, f"{plural}/{name}"))
        if isinstance(self.answer, NixImageError):
            raise self.answer
        return dict(self.answer)

    async def kinds_of_flux(self) -> frozenset[str]:
        return frozenset(self.kinds)

    async def get_secret(self, namespace: str, name: str) -> Mapping[str, bytes]:
        self.asked.append((namespace, name))
        if isinstance(self.answer, NixImageError):
            raise self.answer
        return self.answer


async def ask(cluster: Cluster, about: Question) -> tuple[PinnedSource | NixImageError, list[str]]:
    told: list[str] = []
    origins = Origins(cluster, told=told.append)
    try:
        return await origins.pin(about), told
    except NixImageError as error:
        return error, told


async def test_a_pinned_commit_needs_no_secret_and_no_server() -> None:
    cluster = Cluster(NotAllowed(Reason.CLUSTER_UNAVAILABLE, REFUSAL))
    pinned, told = await ask(cluster, question(commit="a" * 40))
    assert isinstance(pinned, PinnedSource)
    assert (pinned.revision, pinned.path, pinned.attr) == ("a" * 40, "nix", "pkgs")
    assert cluster.asked == []
    assert told == ["Succeeded"]


async def test_a_secret_that_is_not_granted_is_told_with_what_to_do() -> None:
    cluster = Cluster(NotAllowed(Reason.CLUSTER_UNAVAILABLE, REFUSAL))
    error, told = await ask(cluster, question(branch="main"))
    assert cluster.asked == [("team-a", "keys")]
    assert isinstance(error, Retryable), "a grant changes no spec"
    assert error.reason is Reason.CREDENTIALS_NOT_GRANTED
    assert "refs/heads/main" in error.message
    assert "Pin source.git.ref.commit" in error.hint
    assert (
        "kubectl create role read-keys -n team-a --verb=get --resource=secrets "
        "--resource-name=keys" in error.hint
    )
    assert "--serviceaccount=niximage-system:niximage-operator" in error.hint
    assert told == ["CredentialsNotGranted"]


@pytest.mark.parametrize(
    ("refusal", "option"),
    [
        ('User "kubernetes-admin" cannot get', "--user=kubernetes-admin"),
        ('User "system:serviceaccount:ops:nix" cannot get', "--serviceaccount=ops:nix"),
        ("no words", "--serviceaccount=niximage-system:niximage-operator"),
    ],
)
def test_the_grant_is_for_whoever_was_refused(refusal: str, option: str) -> None:
    assert not_granted(question(tag="v1"), "keys", refusal).hint.endswith(option)


async def test_a_secret_that_is_not_there_is_waited_for() -> None:
    error, _ = await ask(Cluster(NotThere(Reason.CLUSTER_UNAVAILABLE, "404")), question(tag="v1"))
    assert isinstance(error, Retryable)
    assert error.reason is Reason.CREDENTIALS_MISSING
    assert "the Secret team-a/keys" in error.message


async def test_a_secret_without_the_keys_is_told_with_those_it_has() -> None:
    cluster = Cluster({"username": b"me", "unrelated": b"x"})
    error, _ = await ask(cluster, question(branch="main"))
    assert isinstance(error, Retryable)
    assert error.reason is Reason.CREDENTIALS_MISSING
    assert "it has username" in error.message
    assert "unrelated" not in error.message


FLUX = Question(
    Source.model_validate({"sourceRef": {"kind": "GitRepository", "name": "podinfo"}}),
    "team-a",
    "https://x",
)
GONE = NotThere(Reason.CLUSTER_UNAVAILABLE, "404")


@pytest.mark.parametrize(
    ("cluster", "reason", "words"),
    [
        (
            Cluster(GONE, "gitrepositories"),
            Reason.REFERENCE_NOT_FOUND,
            "there is no GitRepository/podinfo in the namespace team-a",
        ),
        (
            Cluster(GONE, "buckets"),
            Reason.SOURCE_UNAVAILABLE,
            "the cluster has no GitRepository of source.toolkit.fluxcd.io/v1. Install Flux",
        ),
        (
            Cluster(NotAllowed(Reason.CLUSTER_UNAVAILABLE, "403"), "gitrepositories"),
            Reason.CREDENTIALS_NOT_GRANTED,
            "the operator may not get gitrepositories.source.toolkit.fluxcd.io",
        ),
        (
            Cluster(Retryable(Reason.CLUSTER_UNAVAILABLE, "the API server does not answer")),
            Reason.CLUSTER_UNAVAILABLE,
            "does not answer",
        ),
    ],
    ids=["no object", "no Flux", "no right", "no answer"],
)
async def test_why_an_object_of_flux_cannot_be_read(
    cluster: Cluster, reason: Reason, words: str
) -> None:
    error, told = await ask(cluster, FLUX)
    assert cluster.asked == [("team-a", "gitrepositories/podinfo")]
    assert isinstance(error, Retryable)
    assert error.reason is reason
    assert words in str(error)
    assert told == [reason]
