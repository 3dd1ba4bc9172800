"""How long a binary cache is waited for, known before anything speaks HTTP."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to try.

    Attributes:
        attempts: how often one file is asked for while nothing comes of it.
        pause: seconds before the second attempt, on average; doubled before each further one.
        longest_pause: seconds, also where a server asks for more.
        answer: seconds for a small file, and for a stream to begin or go on.
        slowest: bytes per second that a stream must keep up over its whole length, while it is
            waited for.
        grace: seconds that it may take besides.
    """

    attempts: int = 5
    pause: float = 0.3
    longest_pause: float = 10.0
    answer: float = 30.0
    slowest: float = 16 << 10
    grace: float = 120.0
