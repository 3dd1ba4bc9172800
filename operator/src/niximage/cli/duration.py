"""Durations among the options, written and bounded as those of the API."""

import pydantic

from niximage.api.base import Duration, seconds
from niximage.errors import Reason, Terminal


def length_of(duration: str, option: str) -> float:
    """The seconds that an option gives.

    Args:
        duration: what a user wrote.
        option: where, for the message.

    Raises:
        Terminal: it is no duration, or one of nothing.
    """
    try:
        length = seconds(pydantic.TypeAdapter(Duration).validate_python(duration))
    except pydantic.ValidationError:
        length = 0.0
    if length > 0:
        return length
    raise Terminal(
        Reason.INVALID_SPEC,
        f"{option} {duration[:100]!r} is no duration",
        hint="Write it as 90s, 10m or 1h30m",
    )
