"""A user with kubectl, helm and the documentation in hand."""

import json
import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from e2e.conftest import PROJECT, Node
from support.kubernetes import Json


class Shell:
    """What a user has in hand: a folder, and kubectl and helm for this cluster."""

    def __init__(self, node: Node, folder: Path, **environment: str) -> None:
        self.folder = folder
        self._environment = {
            **os.environ,
            "KUBECONFIG": str(node.cluster.kubeconfig),
            "PATH": f"{node.cluster.programs}:{os.environ['PATH']}",
            **environment,
        }

    def __call__(self, script: str, given: Json | None = None) -> str:
        """Run a script, which must succeed; what it printed."""
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=self.folder,
            env=self._environment,
            input=json.dumps(given) if given is not None else None,
            capture_output=True,
            text=True,
            timeout=280,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@dataclass(frozen=True)
class Page:
    """The commands and values of a chapter, for this cluster's addresses and folders."""

    commands: list[str]
    values: str

    @classmethod
    def of(cls, page: str, chapter: str, here: dict[str, str]) -> "Page":
        text = (PROJECT / "docs" / page).read_text()
        (part,) = re.findall(rf"^## {chapter}\n(.*?)^## ", text, re.MULTILINE | re.DOTALL)
        for documented, real in here.items():
            part = part.replace(documented, real)
        blocks = dict.fromkeys(("console", "yaml"), "")
        for language, block in re.findall(
            r"^ *```(\w+)\n(.*?)^ *```$", part, re.MULTILINE | re.DOTALL
        ):
            blocks[language] += re.sub(r"^    ", "", block, flags=re.MULTILINE)
        commands = [line.removeprefix("$ ") for line in blocks["console"].splitlines()]
        return cls(commands, blocks["yaml"])

    def named(self, *starts: str) -> str:
        """The commands that begin so, as one script."""
        found = [c for c in self.commands if c.startswith(starts)]
        assert len(found) >= len(starts)
        return "\n".join(found)
