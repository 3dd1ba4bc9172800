"""What TokenReviews tell, and what SubjectAccessReviews are asked."""

from typing import Any

import pytest

from niximage.errors import Reason, Retryable
from niximage.gateway.authority import Identity, RememberingAuthority
from niximage.gateway.service_accounts import (
    ServiceAccountAuthority,
    access_review,
    identity,
    namespace_of,
)

WEB = Identity("system:serviceaccount:team-a:web", ("system:serviceaccounts",), "u1")


def status(**changes: Any) -> dict[str, Any]:
    user = {"username": WEB.name, "uid": WEB.uid, "groups": list(WEB.groups)}
    return {"authenticated": True, "user": user, **changes}


@pytest.mark.parametrize(
    ("told", "audience", "who"),
    [
        (status(), "", WEB),
        (status(audiences=["niximage", "x"]), "niximage", WEB),
        (status(), "niximage", None),
        (status(audiences=["x"]), "niximage", None),
        (status(authenticated=False), "", None),
        (status(authenticated="true"), "", None),
        (status(user={}), "", None),
        (status(user=None), "", None),
        ({"error": "no"}, "", None),
        ({}, "", None),
    ],
)
def test_whom_a_token_review_names(
    told: dict[str, Any], audience: str, who: Identity | None
) -> None:
    assert identity(told, audience) == who


@pytest.mark.parametrize(
    ("name", "namespace"),
    [
        (WEB.name, "team-a"),
        ("system:serviceaccount:team-a", None),
        ("system:serviceaccount::web", None),
        ("system:serviceaccount:team-a:", None),
        ("system:node:team-a:web", None),
        ("alice", None),
    ],
)
def test_the_namespace_of_a_user(name: str, namespace: str | None) -> None:
    assert namespace_of(Identity(name)) == namespace


def test_the_review_asks_for_a_pull_by_name() -> None:
    assert access_review(WEB, "team-b", "api") == {
        "user": WEB.name,
        "groups": ["system:serviceaccounts"],
        "uid": "u1",
        "resourceAttributes": {
            "group": "niximage.dev",
            "resource": "niximages",
            "subresource": "pull",
            "verb": "get",
            "namespace": "team-b",
            "name": "api",
        },
    }


class Server:
    """An API server that knows one token and grants one repository."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.down = False

    async def review_token(self, token: str, audience: str) -> dict[str, Any]:
        self._note(f"token {token}")
        return status() if token == "right" else {}

    async def review_access(self, spec: dict[str, Any]) -> bool:
        wanted = spec["resourceAttributes"]
        self._note(f"access {wanted['namespace']}/{wanted['name']}")
        return bool(wanted["namespace"] == "team-b" and wanted["name"] == "api")

    def _note(self, what: str) -> None:
        self.asked.append(what)
        if self.down:
            raise Retryable(Reason.CLUSTER_UNAVAILABLE, "no answer")


async def test_an_own_namespace_needs_no_rule_and_others_do() -> None:
    server = Server()
    authority = ServiceAccountAuthority(server)
    assert await authority.may_pull(WEB, "team-a/anything/at/all")
    assert server.asked == []
    assert await authority.may_pull(WEB, "team-b/api")
    assert not await authority.may_pull(WEB, "team-b/web")
    assert not await authority.may_pull(WEB, "team-a")
    assert not await authority.may_pull(Identity("alice"), "team-a/web")
    assert server.asked == ["access team-b/api", "access team-b/web", "access team-a/web"]


async def test_answers_are_remembered_and_failures_are_not() -> None:
    server, counted = Server(), list[str]()
    authority = RememberingAuthority(ServiceAccountAuthority(server), counted.append)
    server.down = True
    with pytest.raises(Retryable):
        await authority.identify("", "right")
    server.down = False
    for _ in range(3):
        assert await authority.identify("", "right") == WEB
        assert await authority.identify("", "wrong") is None
        assert not await authority.may_pull(WEB, "team-b/web")
    assert server.asked == ["token right", "token right", "token wrong", "access team-b/web"]
    assert counted == ["accepted", "refused"]
    assert await authority.identify("", "") is None
    assert await authority.identify("", "x" * 9000) is None
    assert len(server.asked) == 4
