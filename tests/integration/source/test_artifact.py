"""Artifacts of Flux come over HTTP, have their digest, and unpack to nothing but the folder."""

import gzip
import io
import tarfile
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from integration.conftest import free_port
from integration.source.conftest import Script, Server
from niximage.api.build import PinnedSource
from niximage.errors import NixImageError, Reason, Retryable, Terminal
from niximage.source import artifact as module
from niximage.source.artifact import fetch_artifact
from support.flux_objects import archive, digest_of

FILES = {"default.nix": "{ }", "nix/set.nix": "1", "./deep/er/x": "y"}


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other tries follow at once."""
    monkeypatch.setattr(module, "FIRST_WAIT", 0.01)


def pinned(url: str, data: bytes, **given: Any) -> PinnedSource:
    fields = {
        "kind": "artifact",
        "url": url,
        "ref": "GitRepository/x",
        "revision": "main@sha1:1",
        "digest": digest_of(data),
        **given,
    }
    return PinnedSource.model_validate(fields)


def failing(source: PinnedSource, folder: Path, timeout: float = 20) -> NixImageError:
    with pytest.raises(NixImageError) as caught:
        fetch_artifact(source, folder, timeout=timeout)
    assert caught.value.hint
    return caught.value


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


def test_files_links_and_modes_come_out(scripted: str, script: Script, tmp_path: Path) -> None:
    program = tarfile.TarInfo("run")
    program.mode = 0o755
    script.body = archive(FILES, program, link("nix/link", "../default.nix"))
    source = pinned(f"{scripted}/x.tar.gz", script.body, path="nix")
    fetched = fetch_artifact(source, tmp_path / "out", timeout=20)
    assert (fetched.path, fetched.time) == (tmp_path / "out" / "nix", 0)
    assert (fetched.path / "link").read_text() == "{ }"
    assert (tmp_path / "out/deep/er/x").read_text() == "y"
    assert (tmp_path / "out/run").stat().st_mode & 0o111
    assert not (tmp_path / "out/default.nix").stat().st_mode & 0o111
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out"], "nothing else is left"


def test_another_digest_is_not_believed(scripted: str, script: Script, tmp_path: Path) -> None:
    script.body = archive(FILES)
    error = failing(pinned(scripted, archive({"default.nix": "other"})), tmp_path / "out")
    assert isinstance(error, Retryable), "Flux may have replaced it just now"
    assert error.reason is Reason.HASH_MISMATCH
    assert list((tmp_path / "out").iterdir()) == [], "nothing was unpacked"


@pytest.mark.parametrize("status", [404, 410, 429, 500, 503, 302, 401])
def test_a_server_that_refuses_is_asked_again_and_then_told(
    scripted: str, script: Script, tmp_path: Path, status: int
) -> None:
    script.status = status
    script.headers = {"Location": "http://127.0.0.1:1/"}
    error = failing(pinned(f"{scripted}/x", b""), tmp_path / "out")
    assert isinstance(error, Retryable)
    assert error.reason is Reason.SOURCE_UNAVAILABLE
    assert f"the server answers {status}" in error.message
    assert script.asked == ["GET /x"] * module.TRIES


def test_a_server_that_recovers_is_enough(tmp_path: Path) -> None:
    data = archive(FILES)
    answers = [503, 503, 200]

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status = answers.pop(0)
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002 (so named above)
            pass

    server = Server(Handler)
    try:
        fetch_artifact(pinned(server.url, data), tmp_path / "out", timeout=20)
    finally:
        server.stop()
    assert answers == []


def test_a_port_that_nobody_listens_at(tmp_path: Path) -> None:
    error = failing(pinned(f"http://127.0.0.1:{free_port()}/x", b""), tmp_path / "out")
    assert isinstance(error, Retryable)
    assert "cannot be downloaded" in error.message


def test_a_hanging_server_ends_in_time(hanging: str, tmp_path: Path) -> None:
    began = time.monotonic()
    error = failing(pinned(hanging, b""), tmp_path / "out", timeout=0.5)
    assert isinstance(error, Retryable)
    assert "within 0.5 s" in error.message
    assert time.monotonic() - began < 5


def test_an_archive_that_is_too_large_is_cut(
    scripted: str, script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ARCHIVE_LIMIT", 1000)
    script.body = b"x" * 1001
    error = failing(pinned(scripted, script.body), tmp_path / "out")
    assert isinstance(error, Terminal)
    assert "it has more than" in error.message


def sparse(name: str, size: int) -> bytes:
    """A tar.gz whose one entry claims a size, with as many zeros."""
    buffer = io.BytesIO()
    member = tarfile.TarInfo(name)
    member.size = size
    with gzip.GzipFile(fileobj=buffer, mode="wb") as stream:
        stream.write(member.tobuf())
        for _ in range(0, size, 1 << 20):
            stream.write(b"\0" * (1 << 20))
    return buffer.getvalue()


HOSTILE: dict[str, bytes] = {
    "an absolute name": archive({"/etc/evil": "x"}),
    "a name above": archive({"../evil": "x"}),
    "a name above in disguise": archive({"a/../../evil": "x"}),
    "an absolute link": archive({}, link("out", "/etc")),
    "a link above": archive({}, link("a/out", "../../etc")),
    "a file through a link": archive({"a/x": ""}, link("l", "a"), tarfile.TarInfo("l/evil")),
    "a hard link above": archive({}, link("out", "../../etc/passwd", tarfile.LNKTYPE)),
    "a device": archive({}, link("null", "", tarfile.CHRTYPE)),
    "a fifo": archive({}, link("pipe", "", tarfile.FIFOTYPE)),
    "a name above through dots": archive({"a/./b/../../../evil": "x"}),
}
BROKEN: dict[str, bytes] = {
    "no gzip": b"hello",
    "nothing": b"",
    "no tar": gzip.compress(b"hello" * 1000),
    "half": archive(FILES)[:60],
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE)
def test_nothing_comes_to_lie_outside(
    scripted: str, script: Script, tmp_path: Path, data: bytes
) -> None:
    script.body = data
    out = tmp_path / "in" / "out"
    error = failing(pinned(scripted, data), out)
    assert isinstance(error, Terminal)
    assert error.reason is Reason.INVALID_SOURCE
    outside = [p for p in tmp_path.rglob("*") if not p.is_relative_to(out) and p != out.parent]
    assert outside == []
    assert not any(p.is_symlink() and not p.exists() for p in out.rglob("*"))


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN)
def test_what_is_no_archive_is_told(
    scripted: str, script: Script, tmp_path: Path, data: bytes
) -> None:
    script.body = data
    error = failing(pinned(scripted, data), tmp_path / "out")
    assert isinstance(error, Terminal)
    assert error.reason is Reason.INVALID_SOURCE
    assert "cannot be used" in error.message or "there is no" in error.message


@pytest.mark.parametrize(
    "data",
    [sparse("zeros", 64 << 20), archive({f"f{n}": "" for n in range(11)})],
    ids=["bytes", "files"],
)
def test_what_unpacks_to_too_much_is_cut(
    script: Script,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    data: bytes,
) -> None:
    scripted = str(request.getfixturevalue("scripted"))
    monkeypatch.setattr(module, "SIZE_LIMIT", 1 << 20)
    monkeypatch.setattr(module, "FILES_LIMIT", 10)
    script.body = data
    error = failing(pinned(scripted, data), tmp_path / "out")
    assert isinstance(error, Terminal)
    assert "it has more than" in error.message
    assert sum(p.stat().st_size for p in (tmp_path / "out").rglob("*")) <= 1 << 20


def test_a_header_of_gigabytes_is_not_read_into_memory(
    scripted: str, script: Script, tmp_path: Path
) -> None:
    """A PAX header may claim any length; with zeros behind it, gzip makes it small."""
    header = tarfile.TarInfo("pax")
    header.type, header.size = tarfile.XHDTYPE, 64 << 20
    script.body = gzip.compress(header.tobuf() + b"\0" * (64 << 20))
    error = failing(pinned(scripted, script.body), tmp_path / "out")
    assert isinstance(error, Terminal)
    assert "a header of" in error.message


def test_a_path_that_is_not_there_names_the_field(
    scripted: str, script: Script, tmp_path: Path
) -> None:
    script.body = archive(FILES)
    error = failing(pinned(scripted, script.body, path="no/such"), tmp_path / "out")
    assert "source.sourceRef.path" in error.hint
