"""How far a step of a build Job is, in its log: lines for people, and lines for the operator.

The operator has no other way to know, for the pod has no token: it reads the end of the log a
few times a minute and shows the last structured line in `status.currentBuild.progress`.
"""

import json
import threading
import time
from collections.abc import Callable
from typing import Final

from niximage.builder.progress import Stage, Watcher
from niximage.errors import plain_text

EVERY: Final = 3.0  # seconds between two structured lines of one stage
_MESSAGE: Final = 200  # bytes


def _print(line: str) -> None:
    print(line, flush=True)  # noqa: T201 (a container's log)


class Narrator(Watcher):
    """Prints what is said, and now and then how far it is."""

    def __init__(
        self, out: Callable[[str], None] = _print, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Nothing was said.

        Args:
            out: takes a line.
            clock: seconds that only grow.
        """
        super().__init__(out)
        self._clock = clock
        self._lock = threading.Lock()
        self._stage: Stage = "evaluate"
        self._done = 0
        self._total = 0
        self._told: tuple[Stage | None, float] = (None, 0.0)

    def began(self, stage: Stage) -> None:
        """A stage begins, or a further part of it."""
        with self._lock:
            if stage != self._stage:
                self._stage, self._done, self._total = stage, 0, 0
            self._tell("")

    def realising(self, done: int, expected: int, what: str) -> None:
        """So many of so many derivations are built; this one is begun."""
        with self._lock:
            self._done, self._total = done, expected
            self._tell(what)

    def layers_found(self, missing: int, total: int) -> None:
        """So many of the image's own layers must be packed."""
        with self._lock:
            self._stage, self._done, self._total = "pack", 0, missing
            self._tell(f"{total - missing} of {total} layers are there")

    def packed(self, layer: str, tar_size: int) -> None:  # noqa: ARG002 (as any watcher)
        """A layer is packed."""
        with self._lock:
            self._done += 1
            self._tell(layer)

    def _tell(self, message: str) -> None:
        """Print a structured line, unless one of this stage was printed just now."""
        stage, at = self._told
        now = self._clock()
        if stage == self._stage and now - at < EVERY:
            return
        self._told = (self._stage, now)
        line = {
            "niximage": "progress",
            "phase": self._stage,
            "done": self._done,
            "total": self._total,
            "message": plain_text(message, _MESSAGE),
        }
        self._say(json.dumps(line))
