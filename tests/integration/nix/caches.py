"""Binary caches that the real Nix made, and an HTTP server that serves them badly on demand."""

import contextlib
import http.server
import re
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from niximage.nix.programs import NixStore, run

KEY_NAME = "test-1"


@dataclass(frozen=True)
class SigningKey:
    """A key of `nix-store --generate-binary-cache-key`."""

    secret: Path
    public: str

    @classmethod
    def make(cls, folder: Path, name: str = KEY_NAME) -> "SigningKey":
        folder.mkdir(parents=True, exist_ok=True)
        secret, public = folder / f"{name}.secret", folder / f"{name}.public"
        subprocess.run(
            ["nix-store", "--generate-binary-cache-key", name, secret, public],
            check=True,
            timeout=30,
        )
        return cls(secret, public.read_text().strip())


def copy_to_cache(
    folder: Path,
    paths: Sequence[str],
    *,
    key: SigningKey | None,
    compression: str = "zstd",
) -> Path:
    """Make a binary cache of the closure of store paths, with `nix copy`."""
    url = f"file://{folder}?compression={compression}"
    if key is not None:
        url += f"&secret-key={key.secret}"
    finished = run("nix", ["copy", "--to", url, *paths], store=NixStore(), timeout=120)
    assert finished.code == 0, finished.stderr
    return folder


def register(path: str, nar_hash: str, nar_size: int, references: Sequence[str] = ()) -> None:
    """Have the store's database vouch for a path, as whoever may write to it can."""
    fields = [path, nar_hash, str(nar_size), "", str(len(references)), *references]
    text = "".join(f"{field}\n" for field in fields)
    subprocess.run(["nix-store", "--load-db"], input=text.encode(), check=True, timeout=30)


def file_size(folder: Path, path: str) -> int:
    """Bytes of a store path's NAR as a cache has it."""
    text = narinfo_file(folder, path).read_text()
    return int(text.partition("FileSize: ")[2].partition("\n")[0])


def narinfo_file(folder: Path, path: str) -> Path:
    """The narinfo of a store path in a cache's folder."""
    return folder / f"{path[11:43]}.narinfo"


def rewrite(folder: Path, path: str, **fields: str) -> None:
    """Change lines of a narinfo."""
    file = narinfo_file(folder, path)
    text = file.read_text()
    for name, value in fields.items():
        text, count = re.subn(rf"(?m)^{name}: .*$", f"{name}: {value}", text)
        assert count == 1
    file.write_text(text)


@dataclass
class Fault:
    """What goes wrong with files whose name matches, how many times.

    Attributes:
        pattern: of names.
        status: the answer's status instead, or 0.
        cut: bytes after which the connection is cut, or None.
        hang: whether nothing is ever answered.
        trickle: seconds between single bytes.
        headers: what to add to the answer.
        times: how often; None for always.
    """

    pattern: str
    status: int = 0
    cut: int | None = None
    hang: bool = False
    trickle: float = 0.0
    headers: dict[str, str] = field(default_factory=dict)
    times: int | None = 1


@dataclass
class CacheServer:
    """A running server of a folder.

    Attributes:
        url: where.
        faults: what goes wrong, the first that matches.
        asked: the names that were asked for, in order.
        sent: bytes of content that were sent, by name.
        most: how many requests waited for an answer at the same time, at most.
        delay: seconds before each answer.
        ranges: whether parts of files are served.
    """

    folder: Path
    url: str = ""
    faults: list[Fault] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    sent: dict[str, int] = field(default_factory=dict)
    most: int = 0
    connections: int = 0
    delay: float = 0.0
    ranges: bool = True
    active: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    ended: threading.Event = field(default_factory=threading.Event)

    def fault(self, name: str) -> Fault | None:
        with self.lock:
            for fault in self.faults:
                if re.search(fault.pattern, name) and fault.times != 0:
                    if fault.times is not None:
                        fault.times -= 1
                    return fault
        return None

    @property
    def nar_bytes(self) -> int:
        """Bytes of NARs that were sent."""
        return sum(count for name, count in self.sent.items() if name.startswith("nar/"))


@contextlib.contextmanager
def serving(
    folder: Path, *, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1"
) -> Iterator[CacheServer]:
    """Serve a folder at an address of this machine, on loopback by default."""
    state = CacheServer(folder)

    server = _Server(state, host)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    scheme = "http" if tls is None else "https"
    state.url = f"{scheme}://{host}:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield state
    finally:
        state.ended.set()
        server.shutdown()
        thread.join()
        server.server_close()


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def __init__(self, state: CacheServer, host: str) -> None:
        super().__init__((host, 0), _Handler)
        self.state = state

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients go away when they like."""


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "_Server"

    @property
    def state(self) -> CacheServer:
        return self.server.state

    disable_nagle_algorithm = True

    def setup(self) -> None:
        super().setup()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
        with self.state.lock:
            self.state.connections += 1

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (its name there)
        """Say nothing."""

    def do_GET(self) -> None:
        name = self.path.removeprefix("/")
        with self.state.lock:
            self.state.asked.append(name)
            self.state.active += 1
            self.state.most = max(self.state.most, self.state.active)
        if self.state.delay:
            time.sleep(self.state.delay)
        # Before the answer: whoever has it may ask again at once.
        with self.state.lock:
            self.state.active -= 1
        self.answer(name)

    def answer(self, name: str) -> None:
        fault = self.state.fault(name) or Fault("")
        if fault.hang:
            self.state.ended.wait(30)
            self.close_connection = True
            return
        file = self.state.folder / name
        status = fault.status or (200 if file.is_file() else 404)
        body = file.read_bytes() if status == 200 else b""
        found = re.fullmatch(r"bytes=([0-9]+)-", self.headers.get("Range", ""))
        total, start = len(body), 0
        if found and status == 200 and self.state.ranges:
            status, start = 206, int(found[1])
            body = body[start:]
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        for header, value in fault.headers.items():
            self.send_header(header, value)
        self.end_headers()
        self.send(name, body, fault)

    def send(self, name: str, body: bytes, fault: Fault) -> None:
        if fault.trickle:
            for byte in body:
                if self.state.ended.wait(fault.trickle):
                    return
                self.wfile.write(bytes([byte]))
                self.wfile.flush()
            return
        if fault.cut is not None:
            body = body[: fault.cut]
            self.close_connection = True
        self.wfile.write(body)
        with self.state.lock:
            self.state.sent[name] = self.state.sent.get(name, 0) + len(body)
