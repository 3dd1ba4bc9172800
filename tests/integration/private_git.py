"""Private repositories behind a real HTTP server that asks for credentials, and a real sshd."""

import base64
import getpass
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from integration.conftest import end, free_port, wait_until
from integration.source.conftest import Server, SmartHandler
from niximage.source.credentials import Credentials

SSHD = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin") or "/usr/sbin/sshd"
USERNAME = "reader"
PASSWORD = "pa:ss/w@rd %41\\"
TOKEN = "glpat-0123456789.abc_~+/="

BASIC = {"username": USERNAME, "password": PASSWORD}
BEARER = {"bearerToken": TOKEN}


@dataclass
class Asked:
    """What an HTTP server was asked: each request with its Authorization."""

    requests: list[tuple[str, str]] = field(default_factory=list)


@contextmanager
def private_http(
    root: Path, asked: Asked | None = None, *, host: str = "127.0.0.1"
) -> Iterator[str]:
    """The URL of a server of the repositories in a folder, for those who know BASIC or BEARER."""
    pair = base64.b64encode(f"{USERNAME}:{PASSWORD}".encode()).decode()
    allowed = {f"Basic {pair}", f"Bearer {TOKEN}"}

    class Handler(SmartHandler):
        def _guarded(self) -> None:
            given = self.headers.get("Authorization", "")
            if asked is not None:
                asked.requests.append((self.path, given))
            if given in allowed:
                self._serve()
                return
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="private"')
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_GET = do_POST = _guarded  # noqa: N815 (named by http.server)

    Handler.root = root
    server = Server(Handler, host)
    try:
        yield server.url
    finally:
        server.stop()


@dataclass(frozen=True)
class Ssh:
    """An sshd on loopback, and the keys that open it.

    Attributes:
        url: where it is, as the start of a repository's URL.
        identity: the private key of somebody who may come in.
        sealed: the same, with the passphrase PASSWORD.
        known_hosts: its own key, as clients keep it.
    """

    url: str
    identity: bytes
    sealed: bytes
    known_hosts: bytes

    def keys(self, **changed: bytes) -> dict[str, bytes]:
        """A Secret's values."""
        return {"identity": self.identity, "known_hosts": self.known_hosts, **changed}


@contextmanager
def private_ssh(folder: Path, *, host: str = "127.0.0.1") -> Iterator[Ssh]:
    """An sshd that runs as whoever runs the tests, with keys of its own."""
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # sshd wants it of root
    make_key(folder / "host")
    make_key(folder / "user")
    shutil.copy(folder / "user", folder / "sealed")
    subprocess.run(
        ["ssh-keygen", "-q", "-p", "-P", "", "-N", PASSWORD, "-f", folder / "sealed"],
        check=True,
        timeout=30,
        stdout=subprocess.DEVNULL,
    )
    port = free_port()
    config = folder / "sshd_config"
    config.write_text(
        f"""\
ListenAddress {host}:{port}
HostKey {folder}/host
AuthorizedKeysFile {folder}/user.pub
PidFile none
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin yes
StrictModes no
UsePAM no
"""
    )
    log = folder / "sshd.log"
    with log.open("wb") as output:
        process = subprocess.Popen([SSHD, "-D", "-e", "-f", config], stdout=output, stderr=output)
    try:
        wait_until("sshd", lambda: "listening on" in log.read_text(), process)
        public = (folder / "host.pub").read_text()
        yield Ssh(
            url=f"ssh://{getpass.getuser()}@{host}:{port}",
            identity=(folder / "user").read_bytes(),
            sealed=(folder / "sealed").read_bytes(),
            known_hosts=f"[{host}]:{port} {public}".encode(),
        )
    finally:
        end(process)


def make_key(path: Path) -> None:
    """A new pair of keys, without passphrase."""
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", path],
        check=True,
        timeout=30,
    )


def credentials(values: dict[str, str] | dict[str, bytes]) -> Credentials:
    """The keys of a Secret."""
    raw = {k: v.encode() if isinstance(v, str) else v for k, v in values.items()}
    return Credentials("the Secret team-a/packages", raw)
