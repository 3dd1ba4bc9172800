"""How long each step took: told while it runs, and as a table at the end."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from console import say


class Clock:
    """Times steps. One line tells when a step begins, one when it has ended."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._steps: list[tuple[str, float]] = []

    @contextmanager
    def step(self, text: str) -> Iterator[None]:
        """Announce something that takes a while, and remember how long it took."""
        say(f"\n=== {text}")
        began = time.monotonic()
        yield
        took = time.monotonic() - began
        self._steps.append((text, took))
        say(f"    done in {took:.1f} s")

    def print_table(self) -> None:
        """Print all steps, and the sum."""
        width = max(len(text) for text, _ in self._steps)
        print()
        for text, took in self._steps:
            print(f"{text:<{width}}  {took:6.1f} s")
        print(f"{'total':<{width}}  {time.monotonic() - self._began:6.1f} s", flush=True)
