"""What is said while a build runs: plain lines, one per thing done, with sizes and times.

Whoever wants to know more than lines is a `Watcher`: it is a `Say`, so it goes wherever one
does, and is told of stages, counts and bytes besides.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Final, Literal

from niximage.image.descriptor import Descriptor
from niximage.image.entries import FileEntry

Say = Callable[[str], None]
"""Takes one line for people to read."""

Stage = Literal["evaluate", "realise", "plan", "pack", "publish"]
"""A part of a build; fetching the source belongs to `evaluate`, a base to `plan`."""

STAGES: Final[tuple[Stage, ...]] = ("evaluate", "realise", "plan", "pack", "publish")

_STEP: Final = 1000


def silent(line: str) -> None:
    """Says nothing."""


class Watcher:
    """Sees a build go on; by itself it hands on lines and nothing else.

    Its methods are called from the threads that do the work: they return at once.
    """

    def __init__(self, say: Say = silent) -> None:
        self._say = say

    def __call__(self, line: str) -> None:
        """Take one line."""
        self._say(line)

    def began(self, stage: Stage) -> None:
        """A stage begins."""

    def ended(self, stage: Stage, seconds: float) -> None:
        """A stage, or a part of it, came to its end."""

    def realising(self, done: int, expected: int, what: str) -> None:
        """So many of so many derivations are built; this one is begun."""

    def closure_found(self, paths: int, size: int) -> None:
        """The image has so many store paths, with NARs of so many bytes."""

    def fetchable(self, size: int) -> None:
        """Binary caches have so many bytes of the closure."""

    def fetched(self, count: int) -> None:
        """So many bytes more came from binary caches."""

    def layers_found(self, missing: int, total: int) -> None:
        """So many of the image's own layers must be packed."""

    def packing(self, layer: str, count: int) -> None:
        """So many bytes more of a layer, named by its comment, are being packed."""

    def packed(self, layer: str, tar_size: int) -> None:
        """A layer is packed, from so many bytes."""

    def uploading(self, blob: Descriptor) -> None:
        """A blob goes into the bucket."""

    def uploaded(self, blob: Descriptor, *, written: bool) -> None:
        """A blob is in the bucket; whether it had to be written there."""


def watcher(say: Say) -> Watcher:
    """The watcher that a `Say` is, or one that takes only lines."""
    return say if isinstance(say, Watcher) else Watcher(say)


@contextmanager
def timed(say: Say, what: str = "", *, stage: Stage | None = None) -> Iterator[None]:
    """Say how long something took, once it is done; what fails tells for itself.

    Args:
        say: takes the line, and as a watcher the stage.
        what: what is done, in words; nothing is said without.
        stage: the stage that it is a part of.
    """
    start = time.monotonic()
    if stage is not None:
        watcher(say).began(stage)
    yield
    seconds = time.monotonic() - start
    if stage is not None:
        watcher(say).ended(stage, seconds)
    if what:
        say(f"{what} in {seconds:.1f} s")


def watched(entries: Iterable[FileEntry], say: Say, layer: str) -> Iterator[FileEntry]:
    """Entries on their way into a layer; a watcher is told of their bytes as they pass."""
    watching = watcher(say)
    count = 0
    for entry in entries:
        count += entry.size
        if count >= _TOLD:
            watching.packing(layer, count)
            count = 0
        yield entry
    if count:
        watching.packing(layer, count)


_TOLD: Final = 1 << 20  # bytes between two words about a layer of small files


def size(count: int) -> str:
    """A number of bytes for people: `2.0 MB`."""
    number = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if number < _STEP:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= _STEP
    return f"{number:.1f} TB"
