"""What is learned of a request on its way, for metrics and log."""

import time
from dataclasses import dataclass, field
from typing import Final

from aiohttp import web


@dataclass(slots=True)
class Facts:
    """One request's.

    Attributes:
        began: when it came, by `time.monotonic`.
        kind: what was asked for: `manifestbydigest`, `blob`, `token`, `probe`.
        user: who asked, where that is known.
    """

    began: float = field(default_factory=time.monotonic)
    kind: str = "other"
    user: str = ""


_KEY: Final = web.RequestKey("facts", Facts)


def facts(request: web.BaseRequest) -> Facts:
    """A request's facts; the first call begins them."""
    found = request.get(_KEY)
    if found is None:
        found = Facts()
        request[_KEY] = found
    return found
