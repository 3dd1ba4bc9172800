"""Running other programs: with a time limit each, and their own words when they fail."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from console import ClusterError, last_lines

ROOT = Path(__file__).resolve().parent.parent


def output_of(command: Sequence[str | Path], *, seconds: float, stdin: str | None = None) -> str:
    """Run a program to its end and return what it printed.

    Raises ClusterError when it fails, and when it takes longer than this.
    """
    words = " ".join(str(word) for word in command)
    try:
        done = subprocess.run(
            [str(word) for word in command],
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
    except FileNotFoundError:
        raise ClusterError(f"the program {command[0]} is not installed") from None
    except subprocess.TimeoutExpired:
        raise ClusterError(f"this has not ended in {seconds:.0f} s: {words}") from None
    if done.returncode != 0:
        output = last_lines(done.stderr + done.stdout)
        raise ClusterError(f"this failed with exit code {done.returncode}: {words}\n{output}")
    return done.stdout


def ours(folder: str, *arguments: str | Path, may_fail: bool = False) -> str:
    """Run `python3 FOLDER …` of this project; people see its progress, the caller its output."""
    command = [sys.executable, str(ROOT / folder), *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0 and not may_fail:
        raise ClusterError(
            f"python3 {folder} {' '.join(map(str, arguments))} failed, as told above"
        )
    return done.stdout
