"""Errors as OCI distribution-spec writes them: a status and a small JSON document."""

import json
from typing import Any

from aiohttp import web

_JSON = "application/json"


class Problem(Exception):  # noqa: N818 (an answer to a client, not a failure of ours)
    """An answer that is not what was asked for.

    Attributes:
        status: the HTTP status.
        code: the spec's word for it, for example `MANIFEST_UNKNOWN`.
        message: one line for people.
        detail: what it is about, any JSON.
        headers: what else the response carries.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        detail: Any = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.detail = detail
        self.headers = headers or {}

    def to_json(self) -> dict[str, Any]:
        """The document that clients read."""
        return {
            "errors": [
                {"code": self.code, "message": self.message, "detail": self.detail or {}},
            ]
        }

    def to_response(self) -> web.Response:
        """The response that tells of it."""
        return web.Response(
            status=self.status,
            body=json.dumps(self.to_json()).encode(),
            content_type=_JSON,
            headers=self.headers,
        )
