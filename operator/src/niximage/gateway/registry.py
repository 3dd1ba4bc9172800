"""The handlers: one per endpoint of the distribution-spec's read side."""

import asyncio
import json
from contextlib import aclosing
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

from aiohttp import hdrs, web

from niximage.bucket.manifest import media_type
from niximage.errors import Reason, Retryable
from niximage.gateway import routes
from niximage.gateway.backend import Backend, page
from niximage.gateway.problems import Problem
from niximage.gateway.ranges import Span, UnsatisfiableError, etag_matches, parse_range
from niximage.image.descriptor import INDEX

METHODS: Final = ("GET", "HEAD")
PAGE_LIMIT: Final = 10_000  # names in one answer to tags/list

_DIGEST_HEADER: Final = "Docker-Content-Digest"
_FOR_EVER: Final = "max-age=31536000, immutable"  # what a digest names never changes
_ALWAYS_ASK: Final = "no-cache"
_OCTETS: Final = "application/octet-stream"


class Registry:
    """Answers requests below `/v2` from a bucket."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer one request.

        Raises:
            Problem: what was asked for is not there, or makes no sense.
            Retryable: the bucket cannot be read now.
        """
        if request.method not in METHODS:
            raise Problem(
                405,
                "UNSUPPORTED",
                "this registry is read-only: images come from NixImage objects",
                headers={hdrs.ALLOW: ", ".join(METHODS)},
            )
        match routes.route(request.path):
            case routes.Base():
                return _json({})
            case routes.ManifestByDigest(repository, digest):
                return await self._manifest(request, repository, digest, _FOR_EVER)
            case routes.ManifestByTag(repository, tag):
                found = await self._backend.tag(repository, tag)
                if found is None:
                    raise await self._unknown(repository, "MANIFEST_UNKNOWN", {"tag": tag})
                return await self._manifest(request, repository, found, _ALWAYS_ASK)
            case routes.Blob(repository, digest):
                return await self._blob(request, repository, digest)
            case routes.Tags(repository):
                return await self._tags(request, repository)
            case routes.Referrers():
                # None are stored yet, and the spec wants an empty index where there are none.
                return _json({"schemaVersion": 2, "mediaType": INDEX, "manifests": []}, INDEX)

    async def _manifest(
        self, request: web.Request, repository: str, digest: str, caching: str
    ) -> web.StreamResponse:
        content = await self._backend.manifest(repository, digest)
        if content is None:
            raise await self._unknown(repository, "MANIFEST_UNKNOWN", {"digest": digest})
        headers = _identity(digest, caching)
        if etag_matches(request.headers.get(hdrs.IF_NONE_MATCH), headers[hdrs.ETAG]):
            return web.Response(status=304, headers=headers)
        return web.Response(body=content, content_type=media_type(content), headers=headers)

    async def _blob(self, request: web.Request, repository: str, digest: str) -> web.StreamResponse:
        size = await self._backend.blob_size(repository, digest)
        if size is None:
            raise await self._unknown(repository, "BLOB_UNKNOWN", {"digest": digest})
        headers = {**_identity(digest, _FOR_EVER), hdrs.ACCEPT_RANGES: "bytes"}
        if etag_matches(request.headers.get(hdrs.IF_NONE_MATCH), headers[hdrs.ETAG]):
            return web.Response(status=304, headers=headers)
        span = _span(request, headers[hdrs.ETAG], size)
        whole = span is None
        span = span or Span(0, size, size)
        response = web.StreamResponse(status=200 if whole else 206, headers=headers)
        response.content_type = _OCTETS
        response.content_length = span.length
        if not whole:
            response.headers[hdrs.CONTENT_RANGE] = span.content_range
        await self._send(request, response, digest, span)
        return response

    async def _send(
        self, request: web.Request, response: web.StreamResponse, digest: str, span: Span
    ) -> None:
        """Send the headers, then the bytes: by the kernel where the blob is a local file."""
        path = self._backend.local_path(digest)
        if request.method == hdrs.METH_HEAD or span.length == 0:
            await response.prepare(request)
            sent = span.length
        elif path is not None:
            sent = await self._send_file(request, response, path, span)
        else:
            sent = await self._send_stream(request, response, digest, span)
        if sent != span.length:
            raise Retryable(
                Reason.BUCKET_UNAVAILABLE, f"{digest} ended after {sent} of {span.length} bytes"
            )
        await response.write_eof()

    async def _send_file(
        self, request: web.Request, response: web.StreamResponse, path: Path, span: Span
    ) -> int:
        with await self._backend.open(path) as file:
            await response.prepare(request)
            if request.transport is None:
                raise ConnectionResetError("the client has gone")
            loop = asyncio.get_running_loop()
            return await loop.sendfile(request.transport, file, span.start, span.length)

    async def _send_stream(
        self, request: web.Request, response: web.StreamResponse, digest: str, span: Span
    ) -> int:
        sent = 0
        async with aclosing(self._backend.stream(digest, span.start, span.length)) as chunks:
            async for chunk in chunks:
                # Only now: a bucket that fails at once can still be answered with 503.
                if sent == 0:
                    await response.prepare(request)
                await response.write(chunk)
                sent += len(chunk)
        return sent

    async def _tags(self, request: web.Request, repository: str) -> web.Response:
        limit, last = _limit(request.query.get("n")), request.query.get("last")
        names = await self._backend.tags(repository)
        if not names and not await self._backend.has_repository(repository):
            raise _name_unknown(repository)
        shown, more = page(names, last=last, limit=limit)
        response = _json({"name": repository, "tags": shown})
        if more and shown:
            query = urlencode({"n": limit, "last": shown[-1]})
            response.headers[hdrs.LINK] = f'</v2/{repository}/tags/list?{query}>; rel="next"'
        return response

    async def _unknown(self, repository: str, code: str, detail: dict[str, str]) -> Problem:
        if not await self._backend.has_repository(repository):
            return _name_unknown(repository)
        what = "blob" if code == "BLOB_UNKNOWN" else "manifest"
        return Problem(404, code, f"{repository} has no such {what}", detail)


def _name_unknown(repository: str) -> Problem:
    return Problem(
        404, "NAME_UNKNOWN", "nothing was published to this repository", {"name": repository}
    )


def _identity(digest: str, caching: str) -> dict[str, str]:
    return {
        _DIGEST_HEADER: digest,
        hdrs.ETAG: f'"{digest}"',
        hdrs.CACHE_CONTROL: caching,
    }


def _span(request: web.Request, etag: str, size: int) -> Span | None:
    if request.headers.get(hdrs.IF_RANGE, etag) != etag:
        return None
    try:
        return parse_range(request.headers.get(hdrs.RANGE), size)
    except UnsatisfiableError:
        raise Problem(
            416,
            "SIZE_INVALID",
            f"the blob has {size} bytes, and none of them in the range",
            headers={hdrs.CONTENT_RANGE: f"bytes */{size}"},
        ) from None


def _limit(text: str | None) -> int:
    if text is None:
        return PAGE_LIMIT
    if not (text.isascii() and text.isdigit() and len(text) <= 18):  # noqa: PLR2004 (64 bits)
        raise Problem(400, "PAGINATION_NUMBER_INVALID", "n is a number, 0 or more", {"n": text})
    return min(int(text), PAGE_LIMIT)


def _json(document: dict[str, Any], content_type: str = "application/json") -> web.Response:
    return web.Response(body=json.dumps(document).encode(), content_type=content_type)
