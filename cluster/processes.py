"""Processes that outlive the command that started them, and how they are found again.

Every component carries the instance's state folder in its environment, and hands it on to
its children (containerd's shims). That mark is the proof that a process is ours: a process
id alone may have been given to somebody else since it was written down, and a name proves
nothing on a machine with two instances.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

from console import ClusterError
from packages import SYSTEM_PATH

_MARK = "NIXIMAGE_CLUSTER_STATE"
_PROXY_VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")


def start(
    command: Sequence[str | Path],
    *,
    state: Path,
    log: Path,
    environment: Mapping[str, str],
    uses_proxy: bool = False,
) -> int:
    """Start a component detached from this terminal and return its process id.

    Only a component that talks to the outside gets
    the proxy settings: the API server would send its calls to kubelet and webhooks there.
    """
    environment = {
        **environment,
        "PATH": SYSTEM_PATH,
        "HOME": os.environ.get("HOME", "/root"),
        _MARK: str(state),
    }
    if uses_proxy:
        names = [*_PROXY_VARIABLES, *map(str.lower, _PROXY_VARIABLES), "SSL_CERT_FILE"]
        environment |= {name: os.environ[name] for name in names if name in os.environ}
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        process = subprocess.Popen(
            [str(word) for word in command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment,
            cwd="/",
            start_new_session=True,
        )
    # for an instant after its start, a process shows no environment at all
    while not is_running(process.pid, state) and not is_zombie(process.pid):
        time.sleep(0.001)
    return process.pid


def is_running(pid: int, state: Path) -> bool:
    """Whether this process lives and belongs to the instance in this state folder."""
    return _mark_of(pid) == str(state)


def marked(state: Path) -> list[int]:
    """All living processes of the instance, also those that no file mentions."""
    pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    return [pid for pid in pids if is_running(pid, state)]


def kill_until_none(find: Callable[[], Iterable[int]], *, what: str, seconds: float = 20) -> None:
    """Kill what `find` returns, again and again, until it returns nothing.

    `find` is asked twice in each round: what it names both before and after a handle to the
    process was opened cannot be a later process that got the same id.
    Raises ClusterError when something will not go.
    """
    deadline = time.monotonic() + seconds
    while pids := set(find()):
        if time.monotonic() > deadline:
            raise ClusterError(f"{what}: these processes do not end: {sorted(pids)}")
        with ExitStack() as handles:
            opened = {pid: handle for pid in pids if (handle := _handle(pid, handles)) is not None}
            for pid in opened.keys() & set(find()):
                with suppress(ProcessLookupError):
                    signal.pidfd_send_signal(opened[pid], signal.SIGKILL)
        time.sleep(0.02)


def is_zombie(pid: int) -> bool:
    """Whether a process has ended and only waits for its parent, or is gone altogether."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return True
    return status.rpartition(")")[2].split()[0] in "ZX"


def _handle(pid: int, handles: ExitStack) -> int | None:
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return None
    handles.callback(os.close, handle)
    return handle


def _mark_of(pid: int) -> str | None:
    try:
        variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return None  # gone, or not ours to look at
    prefix = f"{_MARK}=".encode()
    return next((os.fsdecode(v[len(prefix) :]) for v in variables if v.startswith(prefix)), None)
