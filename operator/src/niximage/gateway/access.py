"""One line of JSON per request, by the logging module."""

import json
import logging
from typing import Any

from aiohttp import web
from aiohttp.abc import AbstractAccessLogger

LOGGER = logging.getLogger("niximage.gateway.access")

_HEADER_LIMIT = 256  # characters of what a client says about itself


class JsonAccessLogger(AbstractAccessLogger):
    """Writes what was asked, what was answered, and how long it took."""

    @property
    def enabled(self) -> bool:
        """Whether anybody reads the lines."""
        return LOGGER.isEnabledFor(logging.INFO)

    def log(self, request: web.BaseRequest, response: web.StreamResponse, time: float) -> None:
        """Write the line of one request; `time` is in seconds."""
        line: dict[str, Any] = {
            "method": request.method,
            "path": request.path_qs[:2048],
            "status": response.status,
            "bytes": _body_length(request, response),
            "seconds": round(time, 6),
            "remote": request.remote,
            "userAgent": request.headers.get("User-Agent", "")[:_HEADER_LIMIT],
        }
        if spans := request.headers.get("Range"):
            line["range"] = spans[:_HEADER_LIMIT]
        LOGGER.info(json.dumps(line))


def _body_length(request: web.BaseRequest, response: web.StreamResponse) -> int:
    """Bytes of the body as announced: what sendfile sent, aiohttp has not counted."""
    if request.method == "HEAD" or response.status == 304:  # noqa: PLR2004 (Not Modified)
        return 0
    return response.content_length or 0
