"""The program `niximage` as users run it, with a cache of its own."""

import json
import os
import pty
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TIMEOUT = 100.0  # seconds of one run


@dataclass(frozen=True)
class Niximage:
    """The program, a package set in a folder, and where it may write.

    Attributes:
        home: an empty folder of this test's own.
        package_set: the demo package set's files.
    """

    home: Path
    package_set: Path

    @property
    def environment(self) -> dict[str, str]:
        kept = {key: value for key, value in os.environ.items() if not key.startswith("NIXIMAGE_")}
        return {
            **kept,
            "XDG_CACHE_HOME": str(self.home / "cache"),
            "NIXIMAGE_SUBSTITUTERS": "",
            "COLUMNS": "100",
        }

    @property
    def bucket(self) -> Path:
        """The folder of the default bucket."""
        return self.home / "cache" / "niximage" / "bucket"

    def run(self, *arguments: str | Path) -> "subprocess.CompletedProcess[str]":
        """What a run says; its exit code is the caller's to look at."""
        return subprocess.run(
            [sys.executable, "-m", "niximage", *arguments],
            cwd=self.home,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )

    def build(self, *arguments: str | Path) -> "subprocess.CompletedProcess[str]":
        """`niximage build` from the package set."""
        return self.run("build", "--source", self.package_set, *arguments)

    def document(self, *arguments: str | Path) -> dict[str, Any]:
        """The document of `niximage build --json`."""
        done = self.build("--json", *arguments)
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def on_terminal(self, *arguments: str | Path) -> tuple[str, str]:
        """A run whose standard error is a terminal: its standard output, and what that showed."""
        master, slave = pty.openpty()
        shown = bytearray()
        try:
            process = subprocess.Popen(
                [sys.executable, "-m", "niximage", *arguments],
                cwd=self.home,
                env={**self.environment, "TERM": "xterm"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=slave,
            )
        finally:
            os.close(slave)
        with process:
            try:
                while data := os.read(master, 65536):
                    shown += data
            except OSError:
                pass  # how Linux tells that the other end was closed
            finally:
                os.close(master)
            output, _ = process.communicate(timeout=TIMEOUT)
        assert process.returncode == 0, shown
        return output.decode(), shown.decode()
