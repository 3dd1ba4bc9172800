"""What every module shares: the error, running a program, and telling people what goes on.

Progress goes to stderr, so that stdout holds only what a command was asked for
(`tools` prints a path, `status --json` a document).
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path


class ClusterError(Exception):
    """Something a person has to see: the text is the whole message, without a traceback."""


def say(text: str) -> None:
    """Write one line of progress."""
    print(text, file=sys.stderr, flush=True)


@contextmanager
def step(text: str) -> Iterator[None]:
    """Announce something that takes a while, and say afterwards how long it took."""
    say(f"==> {text} ...")
    started = time.monotonic()
    yield
    say(f"    {time.monotonic() - started:.1f} s")


def run(
    command: Sequence[str | Path],
    *,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
    stdin: str | None = None,
) -> str:
    """Run a program to its end and return its stdout.

    Raises ClusterError with the command and the last lines it wrote when it fails.
    """
    try:
        done = subprocess.run(
            [str(word) for word in command],
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            env=environment,
            cwd=folder,
            check=False,
        )
    except FileNotFoundError as error:
        raise ClusterError(f"the program {command[0]} is not installed") from error
    if done.returncode != 0:
        words = " ".join(str(word) for word in command)
        output = last_lines(done.stderr + done.stdout)
        raise ClusterError(f"this failed with exit code {done.returncode}: {words}\n{output}")
    return done.stdout


def last_lines(text: str, count: int = 20) -> str:
    """The end of a program's output, indented, for an error message."""
    return "\n".join(f"    {line}" for line in text.strip().splitlines()[-count:])
