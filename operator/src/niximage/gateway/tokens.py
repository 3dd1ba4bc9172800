"""Tokens of our own, as docker's token protocol wants them: what somebody may pull, signed.

https://distribution.github.io/distribution/spec/auth/jwt/
"""

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import jwt

from niximage.bucket import keys

SERVICE: Final = "niximage"
LIFETIME: Final = 300  # seconds; docker's clients take at least 60 for granted
KEY_SIZE: Final = 32  # bytes
SCOPES_LIMIT: Final = 100

_ALGORITHM: Final = "HS256"
_SCOPE = re.compile(r"repository(?:\([a-z0-9]+\))?:(?P<name>[^:]+):(?P<actions>[a-z*,]+)")


@dataclass(frozen=True, slots=True)
class Claims:
    """What a token says.

    Attributes:
        user: who it was made for.
        repositories: what may be pulled with it.
        expires: when it ends, in seconds since 1970.
    """

    user: str
    repositories: frozenset[str]
    expires: float


class Tokens:
    """Makes tokens, and reads them again.

    Args:
        key: the secret that signs; the same for all gateways that serve one host name.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key

    def make(self, user: str, repositories: Sequence[str]) -> dict[str, Any]:
        """The answer to a token request: a token for some repositories, and how long it holds."""
        now = int(time.time())
        claims = {
            "iss": SERVICE,
            "aud": SERVICE,
            "sub": user,
            "iat": now,
            "exp": now + LIFETIME,
            "access": [
                {"type": "repository", "name": name, "actions": ["pull"]} for name in repositories
            ],
        }
        token = jwt.encode(claims, self._key, algorithm=_ALGORITHM)
        return {
            "token": token,
            "access_token": token,
            "expires_in": LIFETIME,
            "issued_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now)),
        }

    def read(self, token: str) -> Claims | None:
        """What a token of ours says, or None if it is not ours, or has ended."""
        try:
            claims = jwt.decode(
                token,
                self._key,
                algorithms=[_ALGORITHM],
                audience=SERVICE,
                issuer=SERVICE,
                options={"require": ["exp", "sub"]},
            )
            names = frozenset(str(each["name"]) for each in claims["access"])
            return Claims(str(claims["sub"]), names, float(claims["exp"]))
        except (jwt.InvalidTokenError, KeyError, TypeError, ValueError, RecursionError):
            return None


def wanted_repositories(scopes: Sequence[str]) -> list[str]:
    """The repositories that scopes ask to pull from, each once. Pure.

    What cannot be pulled is left out, as docker's protocol wants it: the token then says less.
    """
    found: dict[str, None] = {}
    for scope in " ".join(scopes).split()[:SCOPES_LIMIT]:
        match = _SCOPE.fullmatch(scope)
        if match is None or not keys.is_repository(match["name"]):
            continue
        if {"pull", "*"} & set(match["actions"].split(",")):
            found[match["name"]] = None
    return list(found)
