"""What is seen of a build while it runs: lines, and on a terminal what happens right now.

Lines say what is done, and stay. On a terminal a few rows below them change: the stage, the
layers that are being packed with their bytes per second, what is being uploaded.
"""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from niximage.builder.progress import Say, Stage, Watcher, silent, size
from niximage.errors import plain_text
from niximage.image.descriptor import Descriptor

NAME_WIDTH: Final = 48  # characters of a layer's name in its row

_DOING: Final[dict[Stage, str]] = {
    "evaluate": "evaluating",
    "realise": "realising",
    "plan": "planning",
    "pack": "packing",
    "publish": "publishing",
}


class Account(Watcher):
    """Keeps count of a build.

    Attributes:
        seconds: how long each stage took.
        closure_size: bytes of the closure's NARs; None where it was not looked at.
        fetchable_size: bytes of the closure that binary caches have.
        fetched_size: bytes that came from them.
        packed_size: bytes of the tars that were packed.
        written: the blobs of layers that had to be uploaded, digest to size.
    """

    def __init__(self, say: Say = silent) -> None:
        super().__init__(say)
        self.seconds: dict[str, float] = {}
        self.closure_size: int | None = None
        self.fetchable_size = 0
        self.fetched_size = 0
        self.packed_size = 0
        self.written: dict[str, int] = {}
        self._lock = threading.Lock()

    def ended(self, stage: Stage, seconds: float) -> None:
        """See `Watcher`."""
        self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds

    def closure_found(self, paths: int, size: int) -> None:  # noqa: ARG002 (as the watcher has it)
        """See `Watcher`."""
        self.closure_size = (self.closure_size or 0) + size  # one for each platform

    def fetchable(self, size: int) -> None:
        """See `Watcher`."""
        self.fetchable_size += size

    def fetched(self, count: int) -> None:
        """See `Watcher`."""
        with self._lock:
            self.fetched_size += count

    def packed(self, layer: str, tar_size: int) -> None:  # noqa: ARG002 (as the watcher has it)
        """See `Watcher`."""
        with self._lock:
            self.packed_size += tar_size

    def uploaded(self, blob: Descriptor, *, written: bool) -> None:
        """See `Watcher`."""
        if written:
            with self._lock:
                self.written[blob.digest] = blob.size


class Live(Account):
    """Shows what happens right now, on a terminal."""

    def __init__(self, progress: Progress) -> None:
        super().__init__(lambda line: progress.console.print(escape(line), style="dim"))
        self._progress = progress
        self._stage = progress.add_task("starting", total=None, detail="")
        self._layers: dict[str, _Row] = {}
        self._uploads: dict[str, TaskID] = {}

    def began(self, stage: Stage) -> None:
        """See `Watcher`."""
        self._progress.update(self._stage, description=_DOING[stage], detail="")

    def realising(self, done: int, expected: int, what: str) -> None:
        """See `Watcher`."""
        detail = f"{done}/{expected} {plain_text(what, NAME_WIDTH)}" if expected else what
        self._progress.update(self._stage, detail=escape(detail))

    def layers_found(self, missing: int, total: int) -> None:
        """See `Watcher`."""
        detail = f"{missing} of {total} layers; {total - missing} reused"
        self._progress.update(self._stage, detail=detail)

    def packing(self, layer: str, count: int) -> None:
        """See `Watcher`."""
        row = self._layers.get(layer)
        if is_new := row is None:
            task = self._progress.add_task("  packing", total=None, detail="")
            row = self._layers[layer] = _Row(task)
        row.count += count
        rate = row.count / max(time.monotonic() - row.start, 0.1)
        detail = f"{size(row.count)} at {size(int(rate))}/s  {plain_text(layer, NAME_WIDTH)}"
        # A layer may be packed before the next turn of the display.
        self._progress.update(row.task, detail=escape(detail), refresh=is_new)

    def packed(self, layer: str, tar_size: int) -> None:
        """See `Watcher`."""
        super().packed(layer, tar_size)
        row = self._layers.pop(layer, None)
        if row is not None:
            self._progress.remove_task(row.task)

    def uploading(self, blob: Descriptor) -> None:
        """See `Watcher`."""
        detail = f"{size(blob.size)}  {blob.digest[:19]}"
        task = self._progress.add_task("  uploading", total=None, detail=detail)
        self._uploads[blob.digest] = task

    def uploaded(self, blob: Descriptor, *, written: bool) -> None:
        """See `Watcher`."""
        super().uploaded(blob, written=written)
        task = self._uploads.pop(blob.digest, None)
        if task is not None:
            self._progress.remove_task(task)


class _Row:
    """A layer's row: how many bytes went into it since it began."""

    def __init__(self, task: TaskID) -> None:
        self.task = task
        self.start = time.monotonic()
        self.count = 0


@contextmanager
def watching() -> Iterator[Account]:
    """Tell of a build on standard error: live on a terminal, else line by line."""
    if sys.stderr.isatty():
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description:<12}"),
            TextColumn("{task.fields[detail]}"),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
            yield Live(progress)
        return
    started = time.monotonic()
    lock = threading.Lock()

    def say(line: str) -> None:
        with lock:
            typer.echo(f"{time.monotonic() - started:6.1f} s  {line}", err=True)

    yield Account(say)
