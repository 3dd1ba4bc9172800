"""Files of binary caches, wherever these are: small ones whole, NARs as they arrive."""

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol, Self
from urllib.parse import unquote, urlsplit

from niximage.errors import Reason, Terminal
from niximage.nix.folder_cache import CHUNK, FolderCache
from niximage.nix.patience import Patience

if TYPE_CHECKING:  # a fifth of a second that builds without caches have no use for
    import aiohttp

REQUESTS: Final = 64  # for small files at once, over all caches
CONNECTIONS: Final = 128  # at once: those, and NARs on their way

_USER_AGENT: Final = "niximage"


class Transport(Protocol):
    """Reads files of one binary cache; in the event loop."""

    @property
    def url(self) -> str:
        """What to call the cache in messages."""
        ...

    async def read(self, name: str, limit: int) -> bytes | None:
        """A small file, or None if it is not there.

        Raises:
            ValueError: it is larger than `limit` bytes.
            Unreachable: nobody answers.
            Retryable: it cannot be read now.
            Terminal: the cache wants credentials.
        """
        ...

    def stream(self, name: str, limit: int) -> AsyncGenerator[bytes, None]:
        """A file's bytes in pieces.

        Raises:
            Retryable: it is not there, cannot be read now, or has more than `limit` bytes.
            Terminal: the cache wants credentials.
        """
        ...


class Session:
    """The connections that the caches of a build share; used as an async context manager."""

    def __init__(self, patience: Patience | None = None) -> None:
        self.patience = patience or Patience()
        self._client: aiohttp.ClientSession | None = None  # from the first URL of HTTP on
        self._turns = asyncio.Semaphore(REQUESTS)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._client is not None:
            await self._client.close()

    def open(self, url: str) -> Transport:
        """The cache of a URL: `https://`, `http://` or `file://`; nothing is asked of it yet.

        To be called in the event loop.

        Raises:
            Terminal: the URL is none of these.
        """
        try:
            parts = urlsplit(url)
            host = parts.hostname
            _ = parts.port
        except ValueError as error:
            raise bad_url(url, str(error)) from None
        if parts.query or parts.fragment or "@" in parts.netloc:
            raise bad_url(url, "it has credentials, a query or a fragment")
        path = unquote(parts.path)
        match parts.scheme:
            case "https" | "http" if host:
                return self._http_cache(url.rstrip("/"))
            case "file" if parts.netloc in {"", "localhost"} and path.startswith("/"):
                if "\0" in path or ".." in path.split("/"):
                    raise bad_url(url, "its path holds '..' or NUL")
                return FolderCache(url.rstrip("/"), Path(path))
            case _:
                raise bad_url(url, "it is neither https://, http:// nor file:///folder")

    def _http_cache(self, url: str) -> Transport:
        import aiohttp

        from niximage.nix.http_cache import HttpCache

        self._client = self._client or aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=CONNECTIONS, ttl_dns_cache=300),
            headers={"User-Agent": _USER_AGENT, "Accept-Encoding": "identity"},
            auto_decompress=False,  # a NAR's bytes are hashed as they are
            read_bufsize=CHUNK,
            trust_env=True,
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=self.patience.answer, sock_read=self.patience.answer
            ),
        )
        return HttpCache(url, self._client, self.patience, self._turns)


def bad_url(url: str, why: str) -> Terminal:
    """The error of a URL that is no binary cache's."""
    return Terminal(
        Reason.INVALID_SPEC,
        f"{url[:256]!r} is no binary cache: {why}",
        hint="Write https://host, perhaps with a path and ?priority=N, or file:///folder",
    )
