"""Who asks, and what they may pull: what every way of authentication answers."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from niximage.gateway.memo import Memo

YES_LIFETIME: Final = 60.0  # seconds that a grant is remembered
NO_LIFETIME: Final = 10.0  # seconds that a refusal is: it may have been put right
ENTRIES: Final = 10_000
CREDENTIAL_LIMIT: Final = 8192  # bytes of a password or token that is looked at


@dataclass(frozen=True, slots=True)
class Identity:
    """Somebody who showed that they are who they say.

    Attributes:
        name: the user's name, for Kubernetes `system:serviceaccount:<namespace>:<name>`.
        groups: what else they are, as Kubernetes tells it.
        uid: Kubernetes' own name for them.
    """

    name: str
    groups: tuple[str, ...] = ()
    uid: str = ""


class Authority(Protocol):
    """One way to know people."""

    @property
    def takes_tokens(self) -> bool:
        """Whether a bearer token that is not ours may be a credential of this kind."""
        ...

    async def identify(self, user: str, password: str) -> Identity | None:
        """Who this is, or None if the credentials are wrong.

        Raises:
            Retryable: it cannot be told now.
        """
        ...

    async def may_pull(self, identity: Identity, repository: str) -> bool:
        """Whether they may read a repository.

        Raises:
            Retryable: it cannot be told now.
        """
        ...


class RememberingAuthority:
    """Another authority's answers, remembered for a short while, in a bounded number.

    Passwords are kept as digests only.
    """

    def __init__(self, authority: Authority, checked: Callable[[str], None]) -> None:
        """Takes what is asked, and what counts the answers: `accepted` or `refused`."""
        self._authority = authority
        self._checked = checked
        self._people: Memo[Identity | _Nobody] = Memo(
            ENTRIES, lifetime=lambda who: NO_LIFETIME if isinstance(who, _Nobody) else YES_LIFETIME
        )
        self._grants: Memo[bool] = Memo(
            ENTRIES, lifetime=lambda granted: YES_LIFETIME if granted else NO_LIFETIME
        )

    @property
    def takes_tokens(self) -> bool:
        """Whether a bearer token that is not ours may be a credential of this kind."""
        return self._authority.takes_tokens

    async def identify(self, user: str, password: str) -> Identity | None:
        """Who this is, or None if the credentials are wrong."""
        if len(user) + len(password) > CREDENTIAL_LIMIT or not password:
            return None
        key = hashlib.sha256(f"{user}\0{password}".encode()).digest()

        async def ask() -> Identity | _Nobody:
            who = await self._authority.identify(user, password)
            self._checked("refused" if who is None else "accepted")
            return who or _Nobody()

        found = await self._people.get(key, ask)
        return None if isinstance(found, _Nobody) else found

    async def may_pull(self, identity: Identity, repository: str) -> bool:
        """Whether they may read a repository."""
        return await self._grants.get(
            (identity, repository), lambda: self._authority.may_pull(identity, repository)
        )


class _Nobody:
    """The answer to wrong credentials: `None` would not be remembered."""
