"""kubectl, with a time limit on everything that waits."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from console import ClusterError
from programs import output_of

PAUSE_SECONDS = 0.2
Json = dict[str, Any]


@dataclass(frozen=True)
class Kubectl:
    """A cluster, through its kubeconfig."""

    program: Path | str
    kubeconfig: Path

    def __call__(
        self, *arguments: str | Path, seconds: float = 60, stdin: str | None = None
    ) -> str:
        """Run kubectl and return what it printed."""
        return output_of([*self._command, *arguments], seconds=seconds, stdin=stdin)

    @property
    def _command(self) -> list[str | Path]:
        return [self.program, "--kubeconfig", self.kubeconfig]

    def apply(self, manifests: str, *, namespace: str | None = None) -> None:
        """Apply YAML or JSON."""
        scope = ["--namespace", namespace] if namespace else []
        self("apply", *scope, "--filename", "-", stdin=manifests)

    def get(self, kind: str, *names: str, namespace: str | None = None) -> Json:
        """One object, or a List of them."""
        scope = ["--namespace", namespace] if namespace else ["--all-namespaces"]
        found: Json = json.loads(self("get", kind, *names, *scope, "--output=json"))
        return found

    def watch(self, kind: str, name: str, *, namespace: str, seconds: float) -> Generator[Json]:
        """An object as it is and each time it changes; close it when nothing more is wanted.

        Raises ClusterError when the caller still wants more after this many seconds.
        """
        deadline = time.monotonic() + seconds
        scope = ["--namespace", namespace, "--watch", "--output=jsonpath={@}{'\\n'}"]
        command = [str(word) for word in [*self._command, "get", kind, name, *scope]]
        while time.monotonic() < deadline:
            with subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            ) as process:
                assert process.stdout is not None
                assert process.stderr is not None
                timer = threading.Timer(deadline - time.monotonic(), process.kill)
                timer.start()
                try:
                    yield from map(json.loads, process.stdout)
                    problem = process.stderr.read()
                finally:
                    timer.cancel()
                    process.kill()
            if process.returncode > 0:
                raise ClusterError(f"{kind} {namespace}/{name} cannot be watched: {problem}")
            time.sleep(PAUSE_SECONDS)  # API servers end a watch now and then; it is begun again
        raise ClusterError(f"{kind} {namespace}/{name} is not done after {seconds:.0f} s")
