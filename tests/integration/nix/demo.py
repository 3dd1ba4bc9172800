"""The demo package set as tests use it: a repository, and a folder with its files."""

import secrets
import subprocess
from dataclasses import dataclass
from pathlib import Path

from niximage.api.build import PinnedSource
from niximage.source.fetch import fetch

PROJECT = Path(__file__).parents[3]
SYSTEM = "x86_64-linux"


@dataclass(frozen=True)
class Demo:
    """A bare repository of the demo package set."""

    path: Path

    @classmethod
    def make(cls, path: Path) -> "Demo":
        """A new one, of an edition that no store has seen: what shows it is really built."""
        demo = cls(path)
        demo.move(f"test-{secrets.token_hex(6)}")
        return demo

    def move(self, edition: str, branch: str = "nixos-26.05") -> str:
        """Give a branch a commit with another edition; returns the commit."""
        return make_repository("--edition", edition, self.path, branch).split()[0]

    @property
    def source(self) -> PinnedSource:
        """The set at its branch, pinned."""
        commit = subprocess.run(
            ["git", "-C", self.path, "rev-parse", "refs/heads/nixos-26.05"],
            check=True,
            capture_output=True,
            text=True,
            timeout=30,
        ).stdout.strip()
        return PinnedSource(url=self.path.as_uri(), ref="refs/heads/nixos-26.05", revision=commit)

    def check_out(self, folder: Path) -> Path:
        """The set's files in a folder."""
        return fetch(self.source, folder, timeout=60, allow_file=True).path


def make_repository(*arguments: str | Path) -> str:
    """Run nix/demo/make-repository; returns what it printed."""
    return subprocess.run(
        [PROJECT / "nix" / "demo" / "make-repository", *arguments],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    ).stdout
