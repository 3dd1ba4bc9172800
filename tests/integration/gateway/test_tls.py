"""TLS by files that may change while connections are open."""

import hashlib
import http.client
import ssl
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from cryptography import x509

from integration.gateway.certificates import write_pair
from integration.gateway.conftest import running
from integration.tiny import tiny_image
from niximage.bucket.file import FileStore
from niximage.errors import Terminal
from niximage.gateway import Options
from niximage.gateway.tls import Certificate
from support.kubernetes import eventually

IMAGE = tiny_image(b"one", hashlib.shake_256(b"large").digest(3 << 20))
PATH = f"/v2/team/app/manifests/{IMAGE.digest}"


@dataclass(frozen=True)
class Secure:
    """A gateway that speaks TLS, and the folder with its certificate."""

    address: str
    folder: Path

    def connect(self) -> http.client.HTTPSConnection:
        context = ssl.create_default_context(cafile=str(self.folder / "tls.crt"))
        return http.client.HTTPSConnection(self.address, timeout=10, context=context)

    @property
    def name(self) -> str:
        """The common name of the certificate that new connections get."""
        host, _, port = self.address.rpartition(":")
        pem = ssl.get_server_certificate((host, int(port)), timeout=10)
        found = x509.load_pem_x509_certificate(pem.encode()).subject.rfc4514_string()
        return found.removeprefix("CN=")


@pytest.fixture
def secure(tmp_path: Path) -> Iterator[Secure]:
    store = FileStore(tmp_path / "bucket")
    IMAGE.publish(store, "team/app", "latest")
    certificate, key = write_pair(tmp_path, "first")
    with running(store, Options(port=0, certificate=certificate, key=key)) as client:
        assert client.url.startswith("https://")
        yield Secure(urlsplit(client.url).netloc, tmp_path)


def ask(connection: http.client.HTTPSConnection, path: str) -> bytes:
    connection.request("GET", path)
    return connection.getresponse().read()


def test_manifests_and_large_blobs_come_over_tls(secure: Secure) -> None:
    connection = secure.connect()
    for _ in range(3):
        assert ask(connection, PATH) == IMAGE.manifest
        for descriptor, content in IMAGE.blobs.items():
            assert ask(connection, f"/v2/team/app/blobs/{descriptor.digest}") == content
    connection.close()


def test_skopeo_pulls_over_tls(secure: Secure, tmp_path: Path) -> None:
    done = subprocess.run(
        ["skopeo", "inspect", "--raw", f"docker://{secure.address}/team/app:latest"],
        capture_output=True,
        check=False,
        timeout=60,
        env={"SSL_CERT_FILE": str(tmp_path / "tls.crt"), "PATH": "/usr/bin", "HOME": str(tmp_path)},
    )
    assert done.stdout == IMAGE.manifest, done.stderr.decode()


def test_a_changed_certificate_is_used_and_open_connections_stay(secure: Secure) -> None:
    before = secure.connect()
    assert ask(before, PATH) == IMAGE.manifest
    assert secure.name == "first"
    write_pair(secure.folder, "second")
    eventually("the new certificate", lambda: secure.name == "second", within=15)
    assert ask(before, PATH) == IMAGE.manifest
    after = secure.connect()
    assert ask(after, PATH) == IMAGE.manifest
    for connection in (before, after):
        connection.close()


def test_half_a_change_is_not_used(secure: Secure) -> None:
    whole = (secure.folder / "tls.key").read_bytes()
    (secure.folder / "tls.key").write_bytes(b"no key")
    with pytest.raises(Terminal, match="cannot use the certificate"):
        Certificate(secure.folder / "tls.crt", secure.folder / "tls.key", lambda _: None)
    assert secure.name == "first"
    (secure.folder / "tls.key").write_bytes(whole)
    write_pair(secure.folder, "third")
    eventually("the third certificate", lambda: secure.name == "third", within=15)


def test_the_end_of_the_certificate_is_told(secure: Secure) -> None:
    connection = secure.connect()
    text = ask(connection, "/metrics").decode()
    connection.close()
    (line,) = [line for line in text.splitlines() if line.startswith("niximage_gateway_certif")]
    pem = (secure.folder / "tls.crt").read_bytes()
    ends = x509.load_pem_x509_certificate(pem).not_valid_after_utc.timestamp()
    assert float(line.split()[1]) == ends


@pytest.mark.parametrize("missing", ["tls.crt", "tls.key"])
def test_a_file_that_is_not_there_is_told(tmp_path: Path, missing: str) -> None:
    certificate, key = write_pair(tmp_path, "it")
    (tmp_path / missing).unlink()
    with pytest.raises(Terminal, match="cannot use the certificate") as caught:
        Certificate(certificate, key, lambda _: None)
    assert "PEM" in caught.value.hint


def test_a_key_of_another_certificate_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    certificate, _ = write_pair(tmp_path, "it")
    _, key = write_pair(tmp_path / "other", "other")
    with pytest.raises(Terminal, match="cannot use the certificate"):
        Certificate(certificate, key, lambda _: None)
