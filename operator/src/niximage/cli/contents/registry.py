"""Images read from a registry over HTTP: the gateway, or any that serves the same bucket."""

from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager
from typing import Final, Self
from urllib.parse import urlsplit

import aiohttp

from niximage.bucket import keys
from niximage.bucket.manifest import MANIFEST_LIMIT
from niximage.bucket.referrers import Referrer, read_referrers
from niximage.cli.contents.login import bearer, credentials, token_of
from niximage.errors import NixImageError, Reason, Retryable, Terminal, plain_text
from niximage.image.descriptor import INDEX, MANIFEST, digest_of
from niximage.nix.background import BackgroundLoop

TIMEOUT: Final = 30.0  # seconds without a byte
CHUNK: Final = 1 << 20
ACCEPT: Final = (
    f"{MANIFEST}, {INDEX}, application/vnd.docker.distribution.manifest.v2+json, "
    "application/vnd.docker.distribution.manifest.list.v2+json"
)
_OK: Final = 200
_TOKEN_LIMIT: Final = 1 << 16


class RegistryReader:
    """Reads the images of a registry; used as a context manager.

    Args:
        url: `https://host`, or `http://host:port`.
    """

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        self.loop = BackgroundLoop(self.opened())
        self._client: aiohttp.ClientSession | None = None
        self._tokens: dict[str, str] = {}

    @property
    def url(self) -> str:
        """See `ImageReader`."""
        return self._url

    def __enter__(self) -> Self:
        self.loop.__enter__()
        return self

    def __exit__(self, *raised: object) -> None:
        self.loop.__exit__(*raised)

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """What requests go through; in the loop."""
        async with _session() as self._client:
            yield

    def tag(self, repository: str, tag: str) -> str | None:
        """See `ImageReader`."""
        content = self._read(repository, f"manifests/{tag}", ACCEPT)
        return None if content is None else digest_of(content)

    def manifest(self, repository: str, digest: str) -> bytes | None:
        """See `ImageReader`."""
        content = self._read(repository, f"manifests/{digest}", ACCEPT)
        if content is not None and digest_of(content) != digest:
            raise Retryable(
                Reason.RESULT_INVALID,
                f"{self._url} answers {digest} with something else",
                hint="Do not trust this registry, or whoever is between",
            )
        return content

    def referrers(self, repository: str, subject: str) -> list[Referrer]:
        """See `ImageReader`; registries without the API have the index under a tag."""
        content = self._read(repository, f"referrers/{subject}", INDEX)
        if content is None:
            content = self._read(repository, f"manifests/{keys.referrers_tag(subject)}", INDEX)
        return [] if content is None else read_referrers(content)

    def blob(self, repository: str, digest: str) -> Iterator[bytes]:
        """See `ImageReader`."""
        pieces = self.pieces(repository, f"blobs/{digest}")
        try:
            while (piece := self.loop.call(_next(pieces))) is not None:
                yield piece
        finally:
            self.loop.call(pieces.aclose())

    def _read(self, repository: str, rest: str, accept: str) -> bytes | None:
        return self.loop.call(self._small(repository, rest, accept))

    async def _small(self, repository: str, rest: str, accept: str) -> bytes | None:
        content = bytearray()
        try:
            async with aclosing(self.pieces(repository, rest, accept)) as pieces:
                async for piece in pieces:
                    content += piece
                    if len(content) > MANIFEST_LIMIT:
                        raise _odd(self._url, f"a manifest of more than {MANIFEST_LIMIT} bytes")
        except NoSuchThingError:
            return None
        return bytes(content)

    async def pieces(
        self, repository: str, rest: str, accept: str = "*/*"
    ) -> AsyncGenerator[bytes, None]:
        """What the registry answers below `/v2/<repository>/`; in the loop."""
        assert self._client is not None
        url = f"{self._url}/v2/{repository}/{rest}"
        headers = {"Accept": accept, **self._authorization(repository)}
        try:
            response = await self._client.get(url, headers=headers)
            if response.status == 401:  # noqa: PLR2004 (HTTP's own number)
                challenge = response.headers.get("WWW-Authenticate", "")
                response.release()
                await self._log_in(repository, challenge)
                headers |= self._authorization(repository)
                response = await self._client.get(url, headers=headers)
            async with response:
                if response.status != _OK:
                    raise await _refused(url, response)
                async for piece in response.content.iter_chunked(CHUNK):
                    yield piece
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _silent(self._url, error) from None

    def _authorization(self, repository: str) -> Mapping[str, str]:
        known = self._tokens.get(repository)
        return {"Authorization": known} if known else {}

    async def _log_in(self, repository: str, challenge: str) -> None:
        """Get what a registry asks for, with the user's credentials if there are any."""
        assert self._client is not None
        known = credentials(urlsplit(self._url).netloc)
        basic = aiohttp.encode_basic_auth(*known) if known else ""
        asked = bearer(challenge)
        if asked is None:
            self._tokens[repository] = basic
            return
        realm, query = asked
        if self._url.startswith("https:") and not realm.startswith("https:"):
            raise _odd(self._url, "a token server that is asked without TLS")
        query.setdefault("scope", f"repository:{repository}:pull")
        headers = {"Authorization": basic} if basic else {}
        async with self._client.get(realm, params=query, headers=headers) as response:
            if response.status != _OK:
                raise await _refused(realm, response)
            token = token_of(await begin(response.content, _TOKEN_LIMIT))
        if token is None:
            raise _odd(self._url, "no token")
        self._tokens[repository] = f"Bearer {token}"


class NoSuchThingError(Retryable):
    """The registry knows no such thing."""


async def _next(pieces: AsyncGenerator[bytes, None]) -> bytes | None:
    return await anext(pieces, None)


async def begin(content: aiohttp.StreamReader, limit: int) -> bytes:
    """The first bytes of a body, all of it if it is no longer; a read alone gives what is there."""
    found = bytearray()
    async for piece in content.iter_any():
        found += piece
        if len(found) >= limit:
            break
    return bytes(found[:limit])


def _session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        auto_decompress=False,  # digests are of the bytes as they are
        trust_env=True,
        headers={"User-Agent": "niximage", "Accept-Encoding": "identity"},
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=TIMEOUT, sock_read=TIMEOUT),
    )


async def _refused(url: str, response: aiohttp.ClientResponse) -> NixImageError:
    text = (await begin(response.content, _TOKEN_LIMIT)).decode("utf-8", "replace")
    message = f"{url} answers {response.status}: {plain_text(text, 300)}"
    match response.status:
        case 404:
            return NoSuchThingError(Reason.REFERENCE_NOT_FOUND, message)
        case 401 | 403:
            return Terminal(
                Reason.AUTHENTICATION_FAILED,
                message,
                hint=f"Log in: docker login {urlsplit(url).netloc}",
            )
        case _:
            return Retryable(Reason.BUCKET_UNAVAILABLE, message, hint="Try again")


def _silent(url: str, error: Exception) -> Retryable:
    what = str(error) or type(error).__name__
    return Retryable(
        Reason.BUCKET_UNAVAILABLE,
        f"the registry {url} does not answer: {plain_text(what, 300)}",
        hint="Add --through-cluster to go by way of the API server, or name a registry that can be "
        "reached from here with --registry, or the bucket itself with --bucket",
    )


def _odd(url: str, what: str) -> Retryable:
    return Retryable(Reason.RESULT_INVALID, f"the registry {url} answers with {what}")
