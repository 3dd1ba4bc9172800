"""Work that is killed for real, before and after each of its writes: nothing of it runs on."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path

from niximage.bucket import ObjectStore
from support.stores import WRITES, Hooked

TESTS = Path(__file__).parents[1]


def kill_everywhere(
    store: ObjectStore,
    work: Callable[[ObjectStore], object],
    check: Callable[[], None],
    *,
    begin: Callable[[], object] = lambda: None,
) -> int:
    """Do some work over and over, in processes that die one write later each time.

    Args:
        store: the bucket; each write has a before and an after to die at.
        work: what to do with it.
        check: looks at the bucket after each death.
        begin: comes before each start.

    Returns:
        How many died, before one did all of it.
    """
    for step in count():
        begin()
        child = os.fork()
        if child == 0:
            left = step

            def die(verb: str, _key: str) -> None:
                nonlocal left
                left -= verb in WRITES
                if left < 0:
                    os.kill(os.getpid(), signal.SIGKILL)

            work(Hooked(store, die, die))
            os._exit(0)
        status = os.waitpid(child, 0)[1]
        check()
        if status == 0:
            return step
        assert os.WTERMSIG(status) == signal.SIGKILL
    raise AssertionError


def said_apart(program: str, folder: Path) -> str:
    """What a Python program says of a folder, its first argument.

    In a process of its own: one with threads, as pytest's, must not fork.
    """
    done = subprocess.run(
        [sys.executable, "-c", program, folder],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
        cwd=TESTS,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
