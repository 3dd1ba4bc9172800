"""A Git server for tests: one repository over plain HTTP, which notes what it is asked."""

import functools
import http.server
import os
import subprocess
import threading
from pathlib import Path
from typing import Any


class GitServer:
    """A Git repository with the branch nixos-26.05, over plain HTTP."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._bare = folder / "set.git"
        self._server: http.server.ThreadingHTTPServer | None = None
        self._port = 0
        self.asked: list[str] = []  # the paths of requests
        self._git("init", "-q", "--bare", "-b", "nixos-26.05", str(self._bare))
        self.commit("first")
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}/set.git"

    def commit(self, message: str) -> str:
        """Move the branch by one commit; returns its name."""
        git = functools.partial(self._git, "--git-dir", str(self._bare))
        tree = git("hash-object", "-t", "tree", "-w", "--stdin")
        commit = git("commit-tree", tree, "-m", message)
        git("update-ref", "refs/heads/nixos-26.05", commit)
        git("update-server-info")
        return commit

    def _git(self, *args: str) -> str:
        who = {"GIT_AUTHOR_NAME": "t", "GIT_AUTHOR_EMAIL": "t@example.org"}
        who |= {k.replace("AUTHOR", "COMMITTER"): v for k, v in who.items()}
        done = subprocess.run(
            ["git", *args],
            input="",
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
            env={**os.environ, **who},
        )
        return done.stdout.strip()

    def start(self) -> None:
        """Answer, at the same port as before."""
        handler = functools.partial(_Noting, self.asked, directory=str(self._folder))
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", self._port), handler)
        self._port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        """Refuse connections."""
        assert self._server is not None
        self._server.shutdown()
        self._server.server_close()


class _Noting(http.server.SimpleHTTPRequestHandler):
    def __init__(self, asked: list[str], *args: Any, **options: Any) -> None:
        self._asked = asked
        super().__init__(*args, **options)

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Note what was asked."""
        self._asked.append(self.path)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (the base class's name)
        """Say nothing."""
