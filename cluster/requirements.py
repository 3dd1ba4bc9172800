"""What a machine must have that nobody installs for it: looked at before anything else is done.

All that is missing is told at once, so that nobody waits for minutes to hear of the next thing.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import binaries
import packages
from cache import cache_folder
from console import ClusterError
from packages import DebianPackage

# Of a first build: modules, Go's own cache, which is as large again, programs and images.
_DISK_TO_BUILD = 10 << 30
_MEMORY_TO_BUILD = 3 << 30  # the linker holds a whole program, and two are linked side by side
_DISK_TO_RUN = 2 << 30  # with less, kubelet evicts
_MEMORY_TO_RUN = 1 << 30


def check(wanted: Sequence[DebianPackage], programs: Collection[str], *, pods: bool) -> None:
    """Raise ClusterError with all that is in the way of packages, programs and pods."""
    found = list(_obstacles(wanted, programs, pods=pods))
    if found:
        lines = "\n".join(f"  - {each}" for each in found)
        raise ClusterError(f"this machine lacks something; nothing was changed on it:\n{lines}")


def _obstacles(
    wanted: Sequence[DebianPackage], programs: Collection[str], *, pods: bool
) -> Iterator[str]:
    if sys.version_info < (3, 11):  # noqa: UP036 - nothing has looked at it before
        yield f"Python is too old ({sys.version.split()[0]}): version 3.11 or newer is needed"
    if pods and os.geteuid() != 0:
        yield "root is needed to run pods: try with sudo (a --mode control-plane needs none)"
    elif obstacle := packages.obstacle_to(wanted):
        yield obstacle
    builds = bool(binaries.lacking(programs))
    if builds and (obstacle := binaries.obstacle()):
        yield obstacle
    disk = _DISK_TO_BUILD if builds else _DISK_TO_RUN
    free = shutil.disk_usage(cache_folder()).free
    if free < disk:
        yield f"too little disk: {_gib(disk)} are needed in {cache_folder()}, {_gib(free)} are free"
    memory = _MEMORY_TO_BUILD if builds else _MEMORY_TO_RUN
    available = _available_memory()
    if available < memory:
        yield f"too little memory: {_gib(memory)} are needed, {_gib(available)} are free"


def _available_memory() -> int:
    """Bytes that programs can get, those of swap included."""
    text = Path("/proc/meminfo").read_text()
    found = re.findall(r"^(?:MemAvailable|SwapFree): +(\d+) kB", text, re.MULTILINE)
    return sum(map(int, found)) * 1024


def _gib(size: int) -> str:
    return f"{size / (1 << 30):.1f} GiB"
