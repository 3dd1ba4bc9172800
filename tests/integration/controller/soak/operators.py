"""The operators of the soak, and what they did."""

import asyncio
import itertools
import os
import re
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from support.proxy import FaultProxy, Request


@dataclass
class Life:
    """One process of an operator, and when it wrote."""

    name: str
    first: float = float("inf")
    last: float = 0.0


@dataclass
class Replica:
    """An operator behind a proxy of its own, started again whenever it ends, as kubelet would."""

    name: str
    proxy: FaultProxy
    environment: dict[str, str]
    log: Path
    process: subprocess.Popen[bytes] | None = None
    lives: list[Life] = field(default_factory=list)
    ended: Counter[int] = field(default_factory=Counter)

    async def run(self) -> None:
        """Keep it running, for ever."""
        self.proxy.listener = self._wrote
        while True:
            self.start()
            assert self.process is not None
            self.ended[await asyncio.to_thread(self.process.wait)] += 1
            await asyncio.sleep(0.5)

    def start(self) -> None:
        self.lives.append(Life(f"{self.name}-{len(self.lives)}"))
        kubeconfig = self.proxy.kubeconfig(self.log.with_name(f"{self.name}.kubeconfig"))
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "niximage", "operator"],
                stdout=output,
                stderr=output,
                env={**os.environ, **self.environment, "KUBECONFIG": str(kubeconfig)},
            )

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()

    def _wrote(self, request: Request) -> None:
        """What an operator writes, except for the Lease, only who acts may write."""
        if request.is_write and "/leases" not in request.path:
            life = self.lives[-1]
            life.first = min(life.first, request.at)
            life.last = max(life.last, request.at)


def overlaps(lives: list[Life]) -> list[str]:
    """Who wrote while another did."""
    ordered = sorted(lives, key=lambda life: life.first)
    return [
        f"{before.name} and {after.name} acted at once: {before} {after}"
        for before, after in itertools.pairwise(ordered)
        if after.first < before.last
    ]


def traces(replicas: list[Replica]) -> list[str]:
    """Bugs that an operator met and survived."""
    texts = ((each.name, each.log.read_text(errors="replace")) for each in replicas)
    return [
        f"{name} met a bug: {text[max(found.start() - 500, 0) : found.start() + 3000]}"
        for name, text in texts
        for found in re.finditer("Traceback", text)
    ]
