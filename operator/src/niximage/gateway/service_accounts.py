"""Kubernetes' own users: tokens of ServiceAccounts as passwords, RBAC as the rules.

A ServiceAccount may pull what its own namespace owns. For anything else RBAC decides: whoever
may `get` the `niximages/pull` of a name in a namespace may pull that repository, and so may
users who are no ServiceAccounts.
"""

from typing import Any, Final, Protocol

from niximage.api.base import GROUP
from niximage.api.image import PLURAL
from niximage.gateway.authority import Identity

SUBRESOURCE: Final = "pull"

_PREFIX: Final = "system:serviceaccount:"

Json = dict[str, Any]


class Reviewer(Protocol):
    """What is asked of an API server. Both raise Retryable when it does not answer."""

    async def review_token(self, token: str, audience: str) -> Json:
        """The status of a TokenReview."""
        ...

    async def review_access(self, spec: Json) -> bool:
        """Whether a SubjectAccessReview of this spec allows."""
        ...


class ServiceAccountAuthority:
    """Knows whom the API server knows.

    Args:
        reviewer: the API server.
        audience: whom tokens must be made for; "" for the API server's own audience.
    """

    takes_tokens = True

    def __init__(self, reviewer: Reviewer, audience: str = "") -> None:
        self._reviewer = reviewer
        self._audience = audience

    async def identify(self, user: str, password: str) -> Identity | None:  # noqa: ARG002 (the token names the user)
        """Whose token this is, or None if it is none that holds; the user's name is not read."""
        return identity(await self._reviewer.review_token(password, self._audience), self._audience)

    async def may_pull(self, identity: Identity, repository: str) -> bool:
        """Whether the repository is their namespace's, or RBAC grants it."""
        namespace, _, name = repository.partition("/")
        if not name:
            return False  # no NixImage's
        if namespace == namespace_of(identity):
            return True
        return await self._reviewer.review_access(access_review(identity, namespace, name))


def identity(status: Json, audience: str) -> Identity | None:
    """Who the status of a TokenReview names, or None. Pure."""
    user = status.get("user") or {}
    name = user.get("username")
    if status.get("authenticated") is not True or not isinstance(name, str) or not name:
        return None
    # A webhook that knows nothing of audiences leaves them out.
    if audience and audience not in (status.get("audiences") or ()):
        return None
    groups = tuple(group for group in user.get("groups") or () if isinstance(group, str))
    return Identity(name, groups, str(user.get("uid") or ""))


def namespace_of(identity: Identity) -> str | None:
    """The namespace of a ServiceAccount, or None for any other user. Pure."""
    if not identity.name.startswith(_PREFIX):
        return None
    namespace, _, name = identity.name.removeprefix(_PREFIX).partition(":")
    return namespace if namespace and name else None


def access_review(identity: Identity, namespace: str, name: str) -> Json:
    """The spec of the SubjectAccessReview that asks for a pull. Pure."""
    return {
        "user": identity.name,
        "groups": list(identity.groups),
        "uid": identity.uid,
        "resourceAttributes": {
            "group": GROUP,
            "resource": PLURAL,
            "subresource": SUBRESOURCE,
            "verb": "get",
            "namespace": namespace,
            "name": name,
        },
    }
