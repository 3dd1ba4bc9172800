"""Helm, with a time limit on everything."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from programs import output_of


@dataclass(frozen=True)
class Helm:
    """A cluster's releases, through its kubeconfig."""

    program: Path | str
    kubeconfig: Path

    def __call__(
        self, *arguments: str | Path, seconds: float = 120, stdin: str | None = None
    ) -> str:
        """Run helm and return what it printed."""
        command = [self.program, "--kubeconfig", self.kubeconfig, *arguments]
        return output_of(command, seconds=seconds, stdin=stdin)
