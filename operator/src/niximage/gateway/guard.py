"""Who is let through: Basic credentials, or the tokens of docker's protocol.

https://distribution.github.io/distribution/spec/auth/token/ — a client that comes without is
told where tokens are made (401 with a challenge), gets one for its credentials at `/token`,
and comes back with it. Clients that send their credentials at once are let through as well.
"""

import asyncio
import base64
import binascii
import json
import re
import time
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl

from aiohttp import hdrs, web

from niximage.gateway.authority import YES_LIFETIME, Authority, Identity
from niximage.gateway.facts import facts
from niximage.gateway.problems import Problem
from niximage.gateway.tokens import SERVICE, Tokens, wanted_repositories

FORM_LIMIT: Final = 32 << 10  # bytes of a token request's body
FORM_TIMEOUT: Final = 10.0  # seconds for it to come
FIELDS_LIMIT: Final = 100  # of it

_HOST = re.compile(r"[A-Za-z0-9.\-_:\[\]]{1,255}")


@dataclass(frozen=True, slots=True)
class Admission:
    """That a request may go on.

    Attributes:
        user: who asks.
        until: the time of `time.monotonic` at which the question must be asked anew.
    """

    user: str
    until: float


class Guard:
    """Lets requests through, and makes tokens.

    Args:
        authority: who knows people.
        tokens: the gateway's own.
        url: what clients call this gateway, `https://host`; "" takes it from each request.
    """

    def __init__(self, authority: Authority, tokens: Tokens, url: str = "") -> None:
        self._authority = authority
        self._tokens = tokens
        self._url = url.rstrip("/")

    async def admit(self, request: web.BaseRequest, repository: str | None) -> Admission:
        """Look whether a request may read a repository, or just be here.

        Raises:
            Problem: 401 with a challenge, or 403.
            Retryable: it cannot be told now.
        """
        scheme, _, credential = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
        match scheme.lower():
            case "bearer" if claims := self._tokens.read(credential.strip()):
                if repository is not None and repository not in claims.repositories:
                    raise self._challenge(request, repository, "insufficient_scope")
                return Admission(claims.user, time.monotonic() + claims.expires - time.time())
            case "bearer" if self._authority.takes_tokens and credential.isascii():
                who = await self._authority.identify("", credential.strip())
            case "bearer":
                raise self._challenge(request, repository, "invalid_token")
            case "basic":
                who = await self._authority.identify(*_user_and_password(credential))
            case _:
                raise self._challenge(request, repository)
        if who is None:
            raise self._challenge(request, repository, "invalid_token")
        if repository is not None and not await self._authority.may_pull(who, repository):
            raise Problem(
                403, "DENIED", f"{who.name} may not pull from {repository}", {"name": repository}
            )
        return Admission(who.name, time.monotonic() + YES_LIFETIME)

    async def token(self, request: web.BaseRequest) -> web.Response:
        """Answer a token request: GET with Basic credentials, or POST with a form.

        Raises:
            Problem: 401 for wrong credentials, 400 for what is no such request.
            Retryable: it cannot be told now.
        """
        if request.method == hdrs.METH_POST:
            user, password, scopes = await _form(request)
        else:
            scheme, _, credential = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
            if scheme.lower() != "basic":
                raise _wrong("credentials are needed")
            user, password = _user_and_password(credential)
            scopes = request.query.getall("scope", [])
        who = await self._authority.identify(user, password)
        if who is None:
            raise _wrong("the credentials are wrong")
        granted = await self._granted(who, wanted_repositories(scopes))
        facts(request).user = who.name
        return web.Response(
            body=json.dumps(self._tokens.make(who.name, granted)).encode(),
            content_type="application/json",
            headers={hdrs.CACHE_CONTROL: "no-store"},
        )

    async def _granted(self, who: Identity, wanted: list[str]) -> list[str]:
        return [name for name in wanted if await self._authority.may_pull(who, name)]

    def _challenge(
        self, request: web.BaseRequest, repository: str | None, error: str = ""
    ) -> Problem:
        fields = {"realm": f"{self._url or _own_url(request)}/token", "service": SERVICE}
        if repository is not None:
            fields["scope"] = f"repository:{repository}:pull"
        if error:
            fields["error"] = error
        return Problem(
            401,
            "UNAUTHORIZED",
            "credentials are needed" if not error else "these credentials do not suffice",
            headers={
                hdrs.WWW_AUTHENTICATE: "Bearer "
                + ",".join(f'{name}="{value}"' for name, value in fields.items())
            },
        )


def _own_url(request: web.BaseRequest) -> str:
    """What the client called us; a proxy that ends TLS says so in X-Forwarded-Proto."""
    host = request.headers.get(hdrs.HOST, "")
    if _HOST.fullmatch(host) is None:
        raise Problem(400, "UNSUPPORTED", "the Host header names no host")
    forwarded = request.headers.get(hdrs.X_FORWARDED_PROTO, "")
    scheme = forwarded if forwarded in {"http", "https"} else request.scheme
    return f"{scheme}://{host}"


def _user_and_password(credential: str) -> tuple[str, str]:
    try:
        decoded = base64.b64decode(credential.strip(), validate=True).decode()
    except (binascii.Error, ValueError):
        raise _wrong("the Authorization header is not base64 of UTF-8") from None
    user, _, password = decoded.partition(":")
    return user, password


async def _form(request: web.BaseRequest) -> tuple[str, str, list[str]]:
    """User, password and scopes of a POST, as OAuth 2.0 writes them."""
    if request.content_type != "application/x-www-form-urlencoded":
        raise Problem(415, "UNSUPPORTED", "a token request is a URL-encoded form")
    try:
        async with asyncio.timeout(FORM_TIMEOUT):
            body = await _body(request)
        texts = dict(parse_qsl(body.decode(), max_num_fields=FIELDS_LIMIT))
    except TimeoutError:
        raise Problem(408, "UNSUPPORTED", "the form did not come in time") from None
    except (ValueError, web.RequestPayloadError):
        raise Problem(400, "UNSUPPORTED", "the body is no URL-encoded form of UTF-8") from None
    if texts.get("grant_type") != "password":
        raise Problem(400, "UNSUPPORTED", "the grant_type must be password: nothing is refreshed")
    return texts.get("username", ""), texts.get("password", ""), [texts.get("scope", "")]


async def _body(request: web.BaseRequest) -> bytes:
    """The whole of a small body, whether or not it says before how large it is."""
    body = bytearray()
    async for piece in request.content.iter_any():
        body += piece
        if len(body) > FORM_LIMIT:
            raise Problem(413, "SIZE_INVALID", f"a form of at most {FORM_LIMIT} bytes is read")
    return bytes(body)


def _wrong(why: str) -> Problem:
    return Problem(
        401,
        "UNAUTHORIZED",
        why,
        headers={hdrs.WWW_AUTHENTICATE: f'Basic realm="{SERVICE}", charset="UTF-8"'},
    )
