"""Real binary caches, made by `nix copy`, served by an HTTP server that can fail."""

import hashlib
import os
import shutil
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from integration.gateway.certificates import write_pair
from integration.nix.caches import (
    CacheServer,
    Fault,
    SigningKey,
    copy_to_cache,
    narinfo_file,
    rewrite,
    serving,
)
from integration.nix.demo import SYSTEM
from niximage.errors import Reason, Retryable, Terminal
from niximage.image.closure import Closure
from niximage.nix.download import BUFFER
from niximage.nix.evaluate import evaluate
from niximage.nix.folder_cache import CHUNK
from niximage.nix.hashes import sri
from niximage.nix.narinfo import NARINFO_LIMIT
from niximage.nix.path_info import query_closure
from niximage.nix.patience import Patience
from niximage.nix.programs import NixStore
from niximage.nix.realise import realise
from niximage.nix.signature import TrustedKeys
from niximage.nix.substituters import Substituters
from niximage.nix.transport import REQUESTS

NIX = NixStore()
WALK = """
import sys
from niximage.errors import NixImageError
from niximage.nix.patience import Patience
from niximage.nix.signature import TrustedKeys
from niximage.nix.substituters import Substituters
url, key, path = sys.argv[1:]
with Substituters([url], TrustedKeys.parse([key]), patience=Patience(attempts=1)) as caches:
    try:
        print(*[each for each in caches.walk([path]).substitutes if each == path])
    except NixImageError as error:
        print(error)
"""
HASTY = Patience(attempts=3, pause=0.01, longest_pause=0.05, answer=1.0, grace=2.0, slowest=1e6)


class Built:
    """A closure in this machine's store, and binary caches that have it."""

    def __init__(self, source: Path, folder: Path) -> None:
        found = evaluate(
            source, ["hello", "cowsay"], attribute=None, system=SYSTEM, store=NIX, timeout=60
        )
        realise(found, store=NIX, timeout=120, roots=folder)
        self.roots = [path for package in found for path in package.outputs.values()]
        self.hello, self.cowsay = self.roots
        self.closure = query_closure(self.roots, store=NIX, timeout=60)
        self.key = SigningKey.make(folder)
        self.keys = TrustedKeys.parse([self.key.public])
        self.signed = copy_to_cache(folder / "signed", self.roots, key=self.key)
        self.unsigned = copy_to_cache(folder / "unsigned", self.roots, key=None)

    def shared(self) -> str:
        """A path that both packages refer to."""
        (path,) = (
            set(self.closure[self.hello].references)
            & set(self.closure[self.cowsay].references)
            & {path for path in self.closure.infos if path.endswith("greeting-data-1.0")}
        )
        return path


@pytest.fixture(scope="module")
def built(demo_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Built:
    return Built(demo_folder, tmp_path_factory.mktemp("caches"))


@pytest.fixture
def cache(built: Built, tmp_path: Path) -> Path:
    """A signed cache of this test's own."""
    return Path(shutil.copytree(built.signed, tmp_path / "cache"))


@pytest.fixture
def server(cache: Path) -> Iterator[CacheServer]:
    with serving(cache) as state:
        yield state


def opened(built: Built, *urls: str, patience: Patience = HASTY) -> Substituters:
    return Substituters(urls, built.keys, patience=patience)


@pytest.mark.parametrize("kind", ["http", "file"])
def test_the_closure_is_the_store_s_own(built: Built, server: CacheServer, kind: str) -> None:
    url = server.url if kind == "http" else server.folder.as_uri()
    with opened(built, url) as caches:
        walk = caches.walk(built.roots)
    assert Closure.of(walk.infos()) == built.closure
    assert (walk.absent, walk.refused, walk.incomplete(built.roots)) == (frozenset(), {}, [])
    assert {each.trusted_by for each in walk.substitutes.values()} == {"test-1"}


@pytest.mark.parametrize("compression", ["none", "xz", "zstd", "bzip2", "gzip"])
def test_every_compression_of_nix_is_understood(
    built: Built, tmp_path: Path, compression: str
) -> None:
    folder = copy_to_cache(tmp_path / "c", [built.hello], key=built.key, compression=compression)
    with opened(built, folder.as_uri()) as caches:
        found = caches.walk([built.hello]).substitutes[built.hello]
    assert found.nar.compression == compression


@pytest.mark.parametrize("kind", ["http", "file"])
def test_a_nar_arrives_as_its_narinfo_says(built: Built, server: CacheServer, kind: str) -> None:
    url = server.url if kind == "http" else server.folder.as_uri()
    with opened(built, url) as caches:
        for found in caches.walk(built.roots).substitutes.values():
            with closing(caches.open(found)) as download:
                data = b"".join(download)
            assert len(data) == found.nar.file_size == download.size
            assert sri(f"sha256:{hashlib.sha256(data).hexdigest()}") == found.nar.file_hash


def test_each_path_is_asked_for_once(built: Built, server: CacheServer) -> None:
    absent = "/nix/store/" + "0" * 32 + "-absent"
    with opened(built, server.url) as caches:
        for _ in range(3):
            walk = caches.walk([*built.roots, absent])
            assert walk.absent == {absent}
    names = [f"{path[11:43]}.narinfo" for path in [*built.closure.infos, absent]]
    assert sorted(server.asked) == sorted([*names, "nix-cache-info"])


def test_many_requests_are_in_flight_on_few_connections(built: Built, server: CacheServer) -> None:
    server.delay = 0.05
    paths = [f"/nix/store/{number:032d}-absent" for number in range(200)]
    with opened(built, server.url) as caches:
        assert caches.walk(paths).absent == set(paths)
    assert 32 <= server.most <= REQUESTS
    assert server.connections <= REQUESTS + 1


def test_caches_are_asked_by_priority(built: Built, server: CacheServer, tmp_path: Path) -> None:
    with serving(Path(shutil.copytree(server.folder, tmp_path / "second"))) as second:
        (second.folder / "nix-cache-info").write_text("StoreDir: /nix/store\nPriority: 10\n")
        with opened(built, server.url, second.url) as caches:
            caches.walk(built.roots)
        assert server.asked == ["nix-cache-info"]
        second.asked.clear()
        with opened(built, f"{server.url}?priority=5", second.url) as caches:
            caches.walk(built.roots)
        assert second.asked == ["nix-cache-info"]


def test_what_one_cache_lacks_another_may_have(
    built: Built, server: CacheServer, tmp_path: Path
) -> None:
    with serving(Path(shutil.copytree(server.folder, tmp_path / "second"))) as second:
        narinfo_file(server.folder, built.shared()).unlink()
        with opened(built, server.url, second.url) as caches:
            walk = caches.walk(built.roots)
            assert Closure.of(walk.infos()) == built.closure
        assert walk.substitutes[built.shared()].cache.url == second.url
        assert walk.substitutes[built.hello].cache.url == server.url


def test_what_nobody_has_makes_all_that_need_it_incomplete(built: Built, cache: Path) -> None:
    banner = next(path for path in built.closure.infos if "banner" in path)
    narinfo_file(cache, banner).unlink()
    with opened(built, cache.as_uri()) as caches:
        walk = caches.walk(built.roots)
        assert walk.absent == {banner}
        assert walk.incomplete(built.roots) == [built.cowsay]
        here = {banner: built.closure[banner]}
        second = caches.walk(built.roots, here)
    assert (second.local, second.absent) == (here, frozenset())
    assert Closure.of(second.infos()) == built.closure


def test_what_is_not_signed_is_not_there(built: Built) -> None:
    with opened(built, built.unsigned.as_uri()) as caches:
        walk = caches.walk([built.hello])
    assert walk.absent == {built.hello}
    assert "signed by nobody, by no trusted key" in walk.refused[built.hello]


def test_what_another_key_signed_is_not_there(built: Built, tmp_path: Path) -> None:
    other = SigningKey.make(tmp_path, "test-1")
    folder = copy_to_cache(tmp_path / "c", [built.hello], key=other)
    with opened(built, folder.as_uri()) as caches:
        walk = caches.walk([built.hello])
    assert walk.absent == {built.hello}
    assert "signed by test-1, by no trusted key" in walk.refused[built.hello]


def test_a_trusted_cache_behind_an_untrusted_one_is_found(built: Built, cache: Path) -> None:
    with opened(built, f"{built.unsigned.as_uri()}?priority=1", cache.as_uri()) as caches:
        walk = caches.walk([built.hello])
    assert walk.substitutes[built.hello].cache.url == cache.as_uri()


def test_a_path_that_is_its_content_s_address_needs_no_signature(
    built: Built, tmp_path: Path
) -> None:
    (tmp_path / "data").write_text("content of its own address\n")
    added = subprocess.run(
        ["nix-store", "--add", tmp_path / "data"],
        check=True,
        capture_output=True,
        text=True,
        timeout=30,
    ).stdout.strip()
    folder = copy_to_cache(tmp_path / "c", [added], key=None)
    with opened(built, folder.as_uri()) as caches:
        (found,) = caches.walk([added]).substitutes.values()
    assert found.trusted_by.startswith("fixed:r:sha256:")
    lie = "sha256:" + "1" * 52
    rewrite(folder, added, NarHash=lie, CA=f"fixed:r:{lie}")
    with opened(built, folder.as_uri()) as caches:
        assert caches.walk([added]).absent == {added}


@pytest.mark.parametrize(
    "fields",
    [
        {"NarHash": "sha256:" + "1" * 52},
        {"NarSize": "1"},
        {"References": ""},
        {"StorePath": "/nix/store/" + "1" * 32 + "-other"},
        {"URL": "../../../../etc/passwd"},
        {"URL": "http://127.0.0.1/elsewhere"},
        {"Compression": "rot13"},
        {"NarSize": "-1"},
    ],
)
def test_a_forged_narinfo_is_refused_with_the_reason(
    built: Built, cache: Path, fields: dict[str, str]
) -> None:
    rewrite(cache, built.hello, **fields)
    with opened(built, cache.as_uri()) as caches:
        walk = caches.walk([built.hello])
    assert walk.absent == {built.hello}
    assert cache.as_uri() in walk.refused[built.hello]


def test_another_path_s_narinfo_proves_nothing(built: Built, cache: Path) -> None:
    text = narinfo_file(cache, built.cowsay).read_text()
    narinfo_file(cache, built.hello).write_text(text)
    with opened(built, cache.as_uri()) as caches:
        walk = caches.walk([built.hello])
    assert "not about" in walk.refused[built.hello]


@pytest.mark.parametrize(
    "fault",
    [
        Fault("narinfo", status=503, times=2),
        Fault("narinfo", status=429, headers={"Retry-After": "1"}, times=2),
        Fault("narinfo", cut=20, times=2),
        Fault("narinfo", hang=True, times=1),
        Fault("cache-info", status=502, times=2),
    ],
    ids=["503", "429", "cut", "hang", "cache-info"],
)
def test_what_passes_is_waited_for(built: Built, server: CacheServer, fault: Fault) -> None:
    server.faults.append(fault)
    with opened(built, server.url) as caches:
        assert Closure.of(caches.walk(built.roots).infos()) == built.closure
    assert fault.times == 0


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        (Fault("narinfo", status=503, times=None), "HTTP 503"),
        (Fault("narinfo", status=418, times=None), "HTTP 418"),
        (Fault("narinfo", cut=20, times=None), "the connection was cut"),
        (Fault("narinfo", hang=True, times=None), "did not answer in time"),
        (Fault("narinfo", trickle=0.3, times=None), "did not answer in time"),
        (Fault("cache-info", status=500, times=None), "HTTP 500"),
        (Fault("narinfo", headers={"Content-Encoding": "br"}, times=None), "as br"),
    ],
    ids=["503", "418", "cut", "hang", "slow", "cache-info", "encoded"],
)
def test_what_does_not_pass_is_told_soon(
    built: Built, server: CacheServer, fault: Fault, why: str
) -> None:
    server.faults.append(fault)
    start = time.monotonic()
    with opened(built, server.url) as caches, pytest.raises(Retryable, match=why) as caught:
        caches.walk(built.roots)
    assert time.monotonic() - start < 8
    assert caught.value.reason is Reason.SUBSTITUTER_UNAVAILABLE
    assert server.url in caught.value.message
    assert caught.value.hint


def test_a_cache_that_fails_decides_nothing_that_another_knows(
    built: Built, server: CacheServer, tmp_path: Path
) -> None:
    server.faults.append(Fault("", status=503, times=None))
    second = Path(shutil.copytree(server.folder, tmp_path / "second")).as_uri()
    with opened(built, f"{server.url}?priority=1", second) as caches:
        assert Closure.of(caches.walk(built.roots).infos()) == built.closure
        with pytest.raises(Retryable, match="HTTP 503"):
            caches.walk(["/nix/store/" + "0" * 32 + "-absent"])


def test_a_narinfo_that_fails_leaves_the_rest_of_its_cache(
    built: Built, server: CacheServer, tmp_path: Path
) -> None:
    """What has a wrong answer to one question has the right ones to others."""
    second = Path(shutil.copytree(server.folder, tmp_path / "second")).as_uri()
    hash_part = built.shared()[11:43]
    server.faults.append(Fault(hash_part, status=500, times=None))
    with opened(built, server.url, second) as caches:
        walk = caches.walk(built.roots)
        assert Closure.of(walk.infos()) == built.closure
        of_second = {path for path, one in walk.substitutes.items() if one.cache.url == second}
        assert of_second == {built.shared()}
    # Where no other has it, what is not known is not absent.
    with opened(built, server.url) as caches, pytest.raises(Retryable, match="HTTP 500"):
        caches.walk(built.roots)


@pytest.mark.parametrize("kind", ["http", "file"])
def test_a_narinfo_of_any_size_is_a_miss_with_a_reason(
    built: Built, server: CacheServer, kind: str
) -> None:
    url = server.url if kind == "http" else server.folder.as_uri()
    with narinfo_file(server.folder, built.shared()).open("ab") as file:
        file.write(b"Note: x\n" * (NARINFO_LIMIT // 8))
    with opened(built, url) as caches:
        walk = caches.walk(built.roots)
    assert walk.absent == {built.shared()}
    assert walk.refused[built.shared()] == (
        f"the narinfo at {url} is malformed: it has more than {NARINFO_LIMIT} bytes"
    )


def test_a_cache_that_fails_again_and_again_is_asked_no_more(
    built: Built, server: CacheServer, tmp_path: Path
) -> None:
    second = Path(shutil.copytree(server.folder, tmp_path / "second")).as_uri()
    server.faults.append(Fault("narinfo", status=500, times=None))
    with opened(built, server.url, second) as caches:
        for path in built.closure.infos:
            caches.walk([path])
    asked = len(set(server.asked)) - 1
    assert asked < len(built.closure)


def test_from_https_no_redirect_leads_over_http(built: Built, cache: Path, tmp_path: Path) -> None:
    """Not even where it ends with HTTPS again: in between anyone may have chosen the end."""
    certificate, key = write_pair(tmp_path, "127.0.0.1")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    name = narinfo_file(cache, built.hello).name
    with serving(cache, tls=tls) as secure, serving(cache) as plain:
        command = [sys.executable, "-c", WALK, secure.url, built.key.public, built.hello]
        environment = {**os.environ, "SSL_CERT_FILE": str(certificate)}

        def walk() -> str:
            done = subprocess.run(
                command, env=environment, capture_output=True, text=True, timeout=60, check=True
            )
            return done.stdout

        assert walk() == f"{built.hello}\n"
        elsewhere = {"Location": f"{secure.url}/{name}?again"}
        secure.faults.append(
            Fault(rf"^{name}$", 302, headers={"Location": f"{plain.url}/{name}"}, times=None)
        )
        plain.faults.append(Fault("", 302, headers=elsewhere, times=None))
        assert "it redirects from HTTPS to HTTP" in walk()


def test_nobody_at_the_address_is_told(built: Built) -> None:
    with opened(built, "http://127.0.0.1:1") as caches, pytest.raises(Retryable, match=":1"):
        caches.walk(built.roots)


def test_credentials_are_not_guessed(built: Built, server: CacheServer) -> None:
    server.faults.append(Fault("narinfo", status=401, times=None))
    with opened(built, server.url) as caches, pytest.raises(Terminal) as caught:
        caches.walk(built.roots)
    assert caught.value.reason is Reason.AUTHENTICATION_FAILED


def test_what_is_no_cache_is_told(built: Built, tmp_path: Path) -> None:
    with opened(built, tmp_path.as_uri()) as caches, pytest.raises(Terminal) as caught:
        caches.walk(built.roots)
    assert "has no nix-cache-info" in caught.value.message


@pytest.mark.parametrize(
    "url",
    [
        "",
        "cache.nixos.org",
        "s3://bucket",
        "ssh://host",
        "https://",
        "https://user:password@host",
        "https://host?trusted=1",
        "https://host?priority=x",
        "https://host:x",
        "https://[",
        "file://host/x",
        "file:///a/../b",
        "file:///a%00",
    ],
)
def test_other_urls_are_refused(built: Built, url: str) -> None:
    with pytest.raises(Terminal, match="no binary cache"), opened(built, url):
        pass


def test_a_nar_that_is_cut_goes_on_where_it_was(built: Built, server: CacheServer) -> None:
    shell = next(path for path in built.closure.infos if "shell" in path)
    with opened(built, server.url) as caches:
        found = caches.walk(built.roots).substitutes[shell]
        server.faults.append(Fault("nar/", cut=100_000, times=8))
        with closing(caches.open(found)) as download:
            data = b"".join(download)
        assert sri(f"sha256:{hashlib.sha256(data).hexdigest()}") == found.nar.file_hash
        assert server.nar_bytes == found.nar.file_size


def test_a_server_without_ranges_starts_again(built: Built, server: CacheServer) -> None:
    shell = next(path for path in built.closure.infos if "shell" in path)
    server.ranges = False
    with opened(built, server.url) as caches:
        found = caches.walk(built.roots).substitutes[shell]
        server.faults += [Fault("nar/", cut=100_000), Fault("nar/", cut=300_000)]
        with closing(caches.open(found)) as download:
            data = b"".join(download)
    assert sri(f"sha256:{hashlib.sha256(data).hexdigest()}") == found.nar.file_hash


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        (Fault("nar/", status=503, times=None), "HTTP 503"),
        (Fault("nar/", status=404, times=None), "not there"),
        (Fault("nar/", cut=0, times=None), "cut"),
        (Fault("nar/", hang=True, times=None), "in time|imeout"),
        (Fault("nar/", trickle=0.001, times=None), "too slowly"),
    ],
    ids=["503", "404", "cut", "hang", "slow"],
)
def test_a_nar_that_does_not_come_is_told(
    built: Built, server: CacheServer, fault: Fault, why: str
) -> None:
    server.faults.append(fault)
    with opened(built, server.url) as caches:
        found = caches.walk(built.roots).substitutes[built.hello]
        for each in caches.walk(built.roots).substitutes.values():
            found = max(found, each, key=lambda one: one.nar.file_size)
        with pytest.raises(Retryable, match=why), closing(caches.open(found)) as download:
            list(download)


def test_a_nar_that_is_cut_after_each_byte_is_given_up(built: Built, server: CacheServer) -> None:
    server.faults.append(Fault("nar/", cut=1, times=None))
    patient = replace(HASTY, pause=0.5, longest_pause=1.0)
    with opened(built, server.url, patience=patient) as caches:
        found = caches.walk([built.hello]).substitutes[built.hello]
        with (
            pytest.raises(Retryable, match="too slowly"),
            closing(caches.open(found)) as download,
        ):
            list(download)
        assert download.size < 30  # some two seconds of pauses, a byte after each


def test_a_nar_longer_than_its_narinfo_says_is_cut_off(built: Built, server: CacheServer) -> None:
    rewrite(server.folder, built.hello, FileSize="10")
    with opened(built, server.url) as caches:
        found = caches.walk([built.hello]).substitutes[built.hello]
        with (
            pytest.raises(Retryable, match="more than 10 bytes"),
            closing(caches.open(found)) as download,
        ):
            list(download)


def test_what_waits_to_be_read_is_bounded(built: Built, server: CacheServer) -> None:
    big = server.folder / "nar" / "big"
    big.write_bytes(bytes(64 << 20))
    rewrite(server.folder, built.hello, URL="nar/big", FileSize=str(64 << 20))
    with opened(built, server.url) as caches:
        found = caches.walk([built.hello]).substitutes[built.hello]
        with closing(caches.open(found)) as download:
            total = 0
            for piece in download:
                total += len(piece)
                assert download.waiting < BUFFER + CHUNK
        assert total == 64 << 20


def test_a_slow_reader_is_not_the_cache_s_fault(built: Built, server: CacheServer) -> None:
    """A NAR that is fetched ahead waits for its turn, which may be long."""
    big = server.folder / "nar" / "big"
    big.write_bytes(bytes(32 << 20))
    rewrite(server.folder, built.hello, URL="nar/big", FileSize=str(32 << 20))
    hasty = replace(HASTY, grace=1.5, slowest=1e12)
    with opened(built, server.url, patience=hasty) as caches:
        found = caches.walk([built.hello]).substitutes[built.hello]
        with closing(caches.open(found)) as download:
            start = time.monotonic()
            for piece in download:
                while time.monotonic() - start < 3 * download.size / (32 << 20):
                    hashlib.pbkdf2_hmac("sha256", piece[:8], b"salt", 1000)
            assert time.monotonic() - start > hasty.grace


def test_ending_with_downloads_half_way_ends(built: Built, server: CacheServer) -> None:
    server.faults.append(Fault("nar/", hang=True, times=None))
    start = time.monotonic()
    with opened(built, server.url) as caches:
        for found in caches.walk(built.roots).substitutes.values():
            caches.open(found)
    assert time.monotonic() - start < 5
