"""What a Range header asks for, as RFC 9110 §14 defines it. Pure."""

import re
from dataclasses import dataclass

_RANGE = re.compile(
    r"bytes=[ \t]*(?:(?P<first>[0-9]{1,18})-(?P<last>[0-9]{0,18})|-(?P<tail>[0-9]{1,18}))[ \t]*"
)


@dataclass(frozen=True, slots=True)
class Span:
    """A run of a blob's bytes.

    Attributes:
        start: the first byte, from 0.
        length: how many bytes.
        size: how many the whole blob has.
    """

    start: int
    length: int
    size: int

    @property
    def content_range(self) -> str:
        """The value of the Content-Range header."""
        return f"bytes {self.start}-{self.start + self.length - 1}/{self.size}"


class UnsatisfiableError(Exception):
    """No byte of the blob lies in the range."""


def parse_range(header: str | None, size: int) -> Span | None:
    """The one range that a header asks for, or None for the whole blob.

    Several ranges at once, other units and what cannot be read are answered with the whole, as
    the RFC allows.

    Raises:
        UnsatisfiableError: no byte of the blob lies in the range.
    """
    found = _RANGE.fullmatch(header) if header else None
    if found is None:
        return None
    if found["tail"] is not None:
        start, end = max(size - int(found["tail"]), 0), size
    else:
        start = int(found["first"])
        last = int(found["last"]) if found["last"] else size - 1
        if found["last"] and last < start:
            return None
        end = min(last + 1, size)
    if start >= end:
        raise UnsatisfiableError
    return Span(start, end - start, size)


def etag_matches(header: str | None, etag: str) -> bool:
    """Whether an If-None-Match header names an entity tag, weak or strong, or any at all."""
    if header is None:
        return False
    named = (part.strip().removeprefix("W/") for part in header.split(","))
    return any(part in {"*", etag} for part in named)
