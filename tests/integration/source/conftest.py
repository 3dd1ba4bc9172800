"""Real git repositories behind real HTTP servers on loopback."""

import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

_ENVIRONMENT = {
    "PATH": os.environ["PATH"],
    "HOME": "/nonexistent",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "a",
    "GIT_AUTHOR_EMAIL": "a@example.com",
    "GIT_COMMITTER_NAME": "a",
    "GIT_COMMITTER_EMAIL": "a@example.com",
}


@dataclass(frozen=True)
class Repository:
    """A bare repository and a working tree that pushes to it."""

    bare: Path
    tree: Path

    def git(self, *arguments: str) -> str:
        """Run git in the working tree."""
        done = subprocess.run(
            ["git", "-c", "init.defaultBranch=main", *arguments],
            cwd=self.tree,
            env=_ENVIRONMENT,
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def commit(self, message: str, **files: str) -> str:
        """Commit files, `__` standing for `/`, and push everything; the commit."""
        for name, content in files.items():
            path = self.tree / name.replace("__", "/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "-m", message)
        return self.push()

    def push(self) -> str:
        """Push all refs; the commit at HEAD."""
        self.git("push", "--quiet", "--mirror", "--force", str(self.bare))
        subprocess.run(["git", "update-server-info"], cwd=self.bare, check=True, env=_ENVIRONMENT)
        return self.git("rev-parse", "HEAD")


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """A repository with one commit on `main`, below a folder that servers serve."""
    bare, tree = tmp_path / "served" / "packages.git", tmp_path / "tree"
    bare.mkdir(parents=True)
    tree.mkdir()
    made = Repository(bare, tree)
    subprocess.run(
        ["git", "-c", "init.defaultBranch=main", "init", "--quiet", "--bare", bare],
        check=True,
        env=_ENVIRONMENT,
    )
    made.git("init", "--quiet")
    made.commit("first", **{"default.nix": "{ }", "nix__set.nix": "{ }"})
    return made


class SmartHandler(BaseHTTPRequestHandler):
    """`git http-backend` behind HTTP."""

    root: Path

    def _serve(self) -> None:
        path, _, query = self.path.partition("?")
        length = int(self.headers.get("Content-Length", 0))
        done = subprocess.run(
            ["git", "http-backend"],
            input=self.rfile.read(length),
            env={
                **_ENVIRONMENT,
                "GIT_PROJECT_ROOT": str(self.root),
                "GIT_HTTP_EXPORT_ALL": "1",
                "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
                "PATH_INFO": path,
                "QUERY_STRING": query,
                "REQUEST_METHOD": self.command,
                "CONTENT_TYPE": self.headers.get("Content-Type", ""),
                "CONTENT_LENGTH": str(length),
                "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
                "REMOTE_ADDR": "127.0.0.1",
            },
            capture_output=True,
            check=False,
            timeout=30,
        )
        head, _, body = done.stdout.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if line)
        self.send_response(int(headers.pop("Status", "200").split()[0]))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = _serve  # noqa: N815 (named by http.server)

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002 (so named above)
        pass


class DumbHandler(SimpleHTTPRequestHandler):
    """Files, and nothing that knows git."""

    root: Path

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, directory=str(self.root), **named)

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002 (so named above)
        pass


@dataclass
class Script:
    """What a server answers to everything, and what it was asked."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)


class Server:
    """An HTTP server in a thread of its own."""

    def __init__(self, handler: type[BaseHTTPRequestHandler], host: str = "127.0.0.1") -> None:
        self._server = ThreadingHTTPServer((host, 0), handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}
        )
        self._thread.start()
        self.url = f"http://{host}:{self._server.server_port}"

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    server = Server(handler)
    yield server.url
    server.stop()


@pytest.fixture
def smart(repository: Repository) -> Iterator[str]:
    """The repository's URL at a server that speaks git's own protocol."""
    handler = type("Handler", (SmartHandler,), {"root": repository.bare.parent})
    for url in _serving(handler):
        yield f"{url}/{repository.bare.name}"


@pytest.fixture
def dumb(repository: Repository) -> Iterator[str]:
    """The repository's URL at a server that only serves files."""
    handler = type("Handler", (DumbHandler,), {"root": repository.bare.parent})
    for url in _serving(handler):
        yield f"{url}/{repository.bare.name}"


@pytest.fixture(params=["smart", "dumb"])
def url(request: pytest.FixtureRequest) -> str:
    """The repository's URL at each kind of server."""
    return str(request.getfixturevalue(request.param))


@pytest.fixture
def script() -> Script:
    """What the scripted server answers; changed by tests."""
    return Script()


@pytest.fixture
def scripted(script: Script) -> Iterator[str]:
    """The URL of a server that answers everything alike."""

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            script.asked.append(f"{self.command} {self.path}")
            self.send_response(script.status)
            for name, value in script.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(script.body)))
            self.end_headers()
            self.wfile.write(script.body)

        do_GET = do_POST = _answer  # noqa: N815 (named by http.server)

        def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002 (so named above)
            pass

    yield from _serving(Handler)


@pytest.fixture
def hanging() -> Iterator[str]:
    """The URL of a server that takes connections and never says a word."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(16)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/packages.git"
