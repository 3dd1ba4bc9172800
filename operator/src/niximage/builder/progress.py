"""What is said while a build runs: plain lines, one per thing done, with sizes and times."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

Say = Callable[[str], None]
"""Takes one line for people to read."""

_STEP: Final = 1000


def silent(line: str) -> None:
    """Says nothing."""


@contextmanager
def timed(say: Say, what: str) -> Iterator[None]:
    """Say how long something took, once it is done; what fails tells for itself."""
    start = time.monotonic()
    yield
    say(f"{what} in {time.monotonic() - start:.1f} s")


def size(count: int) -> str:
    """A number of bytes for people: `2.0 MB`."""
    number = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if number < _STEP:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= _STEP
    return f"{number:.1f} TB"
