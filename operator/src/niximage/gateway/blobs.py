"""Sending blobs: from memory, from local files, from the bucket's own servers, or through us."""

from contextlib import aclosing
from pathlib import Path
from typing import Final

from aiohttp import hdrs, web

from niximage.errors import Reason, Retryable
from niximage.gateway.backend import SMALL, Backend
from niximage.gateway.problems import Problem
from niximage.gateway.protocol import Replayable
from niximage.gateway.ranges import Span, UnsatisfiableError, parse_range
from niximage.gateway.send_file import send_file

_OCTETS: Final = "application/octet-stream"


class Blobs:
    """Sends what the repository was found to have."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def answer(
        self, request: web.BaseRequest, digest: str, size: int, headers: dict[str, str]
    ) -> web.StreamResponse:
        """Send a blob, or the part of it that was asked for.

        Args:
            request: a GET or a HEAD.
            digest: the blob's.
            size: its bytes.
            headers: what the response carries besides.

        Raises:
            Problem: no byte of it lies in the range.
            Retryable: the bucket cannot be read now.
        """
        headers = {**headers, hdrs.ACCEPT_RANGES: "bytes"}
        span = _span(request, headers[hdrs.ETAG], size)
        if span is None and size <= SMALL:
            content = await self._backend.small_blob(digest)
            if content is not None:
                return Replayable(body=content, content_type=_OCTETS, headers=headers)
        if request.method == hdrs.METH_GET and self._backend.local_path(digest) is None:
            url = await self._backend.signed_url(digest)
            if url is not None:
                # The URL ends; whoever keeps the answer must not keep it longer.
                return web.Response(
                    status=307, headers={hdrs.LOCATION: url, hdrs.CACHE_CONTROL: "no-store"}
                )
        response = web.StreamResponse(status=200 if span is None else 206, headers=headers)
        if span is not None:
            response.headers[hdrs.CONTENT_RANGE] = span.content_range
        span = span or Span(0, size, size)
        response.content_type = _OCTETS
        response.content_length = span.length
        await self._send(request, response, digest, span)
        return response

    async def _send(
        self, request: web.BaseRequest, response: web.StreamResponse, digest: str, span: Span
    ) -> None:
        """Send the headers, then the bytes: on all processors where the blob is a local file."""
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
        self, request: web.BaseRequest, response: web.StreamResponse, path: Path, span: Span
    ) -> int:
        with await self._backend.open(path) as file:
            await response.prepare(request)
            if request.transport is None:
                raise ConnectionResetError("the client has gone")
            return await send_file(
                request.transport, file, span.start, span.length, self._backend.senders
            )

    async def _send_stream(
        self, request: web.BaseRequest, response: web.StreamResponse, digest: str, span: Span
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


def _span(request: web.BaseRequest, etag: str, size: int) -> Span | None:
    # Of a HEAD a range means nothing (RFC 9110 §14.2).
    if request.method != hdrs.METH_GET or request.headers.get(hdrs.IF_RANGE, etag) != etag:
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
