"""What is in an image: names, ways, changes, and the images that users name."""

import asyncio
import base64
import json
from pathlib import Path

import aiohttp
import pytest
from aiohttp.base_protocol import BaseProtocol

from niximage.api.build import BuiltPackage
from niximage.bucket.manifest import Manifest
from niximage.cli.contents.diff import Change, changed, changes, pull, totals
from niximage.cli.contents.graph import chains, closure_size, find_paths, needed_by
from niximage.cli.contents.locate import Reference, choose_platform, parse_image
from niximage.cli.contents.login import bearer, credentials, token_of
from niximage.cli.contents.registry import RegistryReader, begin
from niximage.cli.contents.tree import by_package, by_path
from niximage.cli.contents.why import explained
from niximage.cli.tables import plain
from niximage.errors import Retryable, Terminal
from niximage.image.closure_document import ClosureDocument
from niximage.image.descriptor import CONFIG, INDEX, LAYER_ZSTD, MANIFEST, Descriptor
from unit.image.closures import closure, store_path

DIGEST = "sha256:" + "ab" * 32
NAMES = {
    "glibc-2.40-36": (30_000_000, []),
    "zlib-1.3.1": (100_000, ["glibc-2.40-36"]),
    "openssl-3.4.0": (6_000_000, ["glibc-2.40-36"]),
    "curl-8.11.0": (200_000, ["openssl-3.4.0", "zlib-1.3.1"]),
    "curl-8.11.0-bin": (300_000, ["curl-8.11.0"]),
    "hello-2.12.1": (60_000, ["glibc-2.40-36"]),
}
CLOSURE = closure(NAMES)
GLIBC, CURL_BIN, HELLO = (
    store_path(n) for n in ("glibc-2.40-36", "curl-8.11.0-bin", "hello-2.12.1")
)
ROOTS = {"curl": (CURL_BIN,), "hello": (HELLO,)}


def document(names: dict[str, tuple[int, list[str]]] | None = None) -> ClosureDocument:
    packages = [
        BuiltPackage(attribute="curl", outputs={"bin": CURL_BIN}),
        BuiltPackage(attribute="hello", outputs={"out": HELLO}),
    ]
    found = closure({**NAMES, **(names or {})})
    return ClosureDocument.of(found, packages, system="x86_64-linux", layers={GLIBC: 3})


def test_the_shortest_way_from_each_package_is_found() -> None:
    hello, curl = chains(CLOSURE, ROOTS, GLIBC)
    assert (hello.package, [path[44:] for path in hello.paths]) == (
        "hello",
        ["hello-2.12.1", "glibc-2.40-36"],
    )
    assert [path[44:].partition("-")[0] for path in curl.paths][:2] == ["curl", "curl"]
    assert len(curl.paths) == 4
    assert chains(CLOSURE, ROOTS, HELLO)[0].paths == (HELLO,)
    assert [way.package for way in chains(CLOSURE, ROOTS, store_path("zlib-1.3.1"))] == ["curl"]


@pytest.mark.parametrize(
    "wanted", [GLIBC, f"{GLIBC}/lib/libc.so.6", GLIBC[11:], "glibc-2.40-36", "glibc"]
)
def test_a_path_is_found_by_whatever_a_user_knows_of_it(wanted: str) -> None:
    assert find_paths(CLOSURE, wanted) == [GLIBC]


def test_all_outputs_of_a_name_are_found_and_near_names_of_what_is_not_there() -> None:
    assert {path[44:] for path in find_paths(CLOSURE, "curl")} == {"curl-8.11.0", "curl-8.11.0-bin"}
    with pytest.raises(Terminal, match="nothing called opensl") as told:
        find_paths(CLOSURE, "opensl")
    assert told.value.hint == "Did you mean openssl?"


def test_sizes_and_users_of_paths_are_counted_over_all_steps() -> None:
    assert closure_size(CLOSURE, [HELLO]) == 30_060_000
    needed = needed_by(CLOSURE, ROOTS)
    assert needed[GLIBC] == ["curl", "hello"]
    assert needed[store_path("zlib-1.3.1")] == ["curl"]


def test_the_tree_begins_with_the_largest_package_and_follows_each_path_once() -> None:
    lines = [line.strip(" │├└─") for line in plain(by_package(document(), depth=9)).splitlines()]
    assert lines == [
        "curl  36.6 MB with all that it needs",
        "curl-8.11.0-bin  300.0 kB",
        "curl-8.11.0  200.0 kB",
        "openssl-3.4.0  6.0 MB",
        "glibc-2.40-36  30.0 MB",
        "zlib-1.3.1  100.0 kB",
        "glibc-2.40-36  30.0 MB",
        "hello  30.1 MB with all that it needs",
        "hello-2.12.1  60.0 kB",
        "glibc-2.40-36  30.0 MB",
    ]
    shallow = plain(by_package(document(), depth=0))
    assert "curl-8.11.0-bin  300.0 kB  … 4 more" in shallow


def test_the_flat_list_begins_with_the_largest_path() -> None:
    lines = plain(by_path(document())).splitlines()
    assert lines[0].split() == ["SIZE", "LAYER", "NAME", "NEEDED", "BY"]
    assert lines[1].split() == ["30.0", "MB", "4", "glibc-2.40-36", "curl,", "hello"]


def test_why_shows_the_shortest_way_and_who_else_needs_it() -> None:
    ways = chains(CLOSURE, ROOTS, GLIBC)
    text = plain(*explained(document(), GLIBC, ways, everyone=False))
    assert f"{GLIBC}  30.0 MB, in layer 4\nhello\n└── hello-2.12.1\n    └── glibc" in text
    assert "needed by curl, too" in text
    everyone = plain(*explained(document(), GLIBC, ways, everyone=True))
    assert "needed by" not in everyone
    assert "curl\n└── curl-8.11.0-bin" in everyone


def test_a_diff_tells_versions_rebuilds_and_what_a_pull_costs() -> None:
    before, after = document(), document({"jq-1.7": (50_000, []), "zlib-1.3.1": (150_000, [])})
    after_paths = [p for p in after.paths if "openssl" not in p.name] + [
        p.model_copy(update={"name": p.name.replace("3.4.0", "3.4.1"), "nar_size": 7_000_000})
        for p in after.paths
        if "openssl" in p.name
    ]
    rebuilt = [
        p.model_copy(update={"name": "0" * 32 + p.name[32:]}) if "hello" in p.name else p
        for p in after_paths
    ]
    assert changes(before.paths, rebuilt) == [
        Change("hello", ("2.12.1",), ("2.12.1",), 0),
        Change("jq", (), ("1.7",), 50_000),
        Change("openssl", ("3.4.0",), ("3.4.1",), 1_000_000),
    ]
    lines = plain(*changed(changes(before.paths, rebuilt))).splitlines()
    assert [line.split() for line in lines[2:]] == [
        ["rebuilt", "hello", "2.12.1", "2.12.1", "0"],
        ["added", "jq", "-", "1.7", "+50.0", "kB"],
        ["changed", "openssl", "3.4.0", "3.4.1", "+1.0", "MB"],
    ]
    assert changes(before.paths, before.paths) == []
    config = Descriptor.of(CONFIG, b"{}")
    shared, old, new = (Descriptor.of(LAYER_ZSTD, bytes(n)) for n in (100, 200, 300))
    cost = pull(Manifest(config, (shared, old)), Manifest(config, (shared, new)))
    assert "an update pulls 1 of 2 layers, 300 B" in plain(*totals(before, after, cost))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("web", Reference(name="web")),
        ("web.v1", Reference(name="web.v1")),
        (f"web@{DIGEST}", Reference(name="web", digest=DIGEST)),
        ("web:prod", Reference(name="web", tag="prod")),
        (f"team/web@{DIGEST}", Reference(repository="team/web", digest=DIGEST)),
        (
            f"127.0.0.1:5000/team/web@{DIGEST}",
            Reference("127.0.0.1:5000", "team/web", digest=DIGEST),
        ),
        ("localhost/team/web:a", Reference("localhost", "team/web", tag="a")),
        (f"ex.org/team/web:a@{DIGEST}", Reference("ex.org", "team/web", tag="a", digest=DIGEST)),
    ],
)
def test_images_are_named_as_everywhere(text: str, expected: Reference) -> None:
    assert parse_image(text) == expected


@pytest.mark.parametrize(
    "text", ["", "Web", "web@sha256:12", "a b", "team/", "team/web:", "@", "/x"]
)
def test_what_names_no_image_is_told(text: str) -> None:
    with pytest.raises(Terminal, match="names no image"):
        parse_image(text)


def test_a_platform_of_an_index_is_chosen() -> None:
    members = [
        {**Descriptor.of(MANIFEST, name).to_json(), "platform": platform}
        for name, platform in (
            (b"one", {"os": "linux", "architecture": "amd64"}),
            (b"two", {"os": "linux", "architecture": "arm", "variant": "v7"}),
        )
    ]
    index = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": members}).encode()
    assert choose_platform(index, "linux/arm/v7") == Descriptor.of(MANIFEST, b"two").digest
    with pytest.raises(Terminal, match="not for linux/s390x") as told:
        choose_platform(index, "linux/s390x")
    assert told.value.hint == "Choose with --platform: linux/amd64, linux/arm/v7"


def test_a_challenge_tells_where_tokens_are() -> None:
    challenge = 'Bearer realm="https://r/token",service="r",scope="repository:a/b:pull"'
    assert bearer(challenge) == (
        "https://r/token",
        {"service": "r", "scope": "repository:a/b:pull"},
    )
    assert bearer('Basic realm="x"') is None
    assert bearer('Bearer realm="file:///etc/passwd"') is None


@pytest.mark.parametrize(
    ("answer", "token"),
    [
        (b'{"token": "a.b"}', "a.b"),
        (b'{"token": "", "access_token": "c"}', "c"),
        (b'{"token": "a\\r\\nX-Evil: 1"}', None),
        (b'{"token": ["a"]}', None),
        (b'{"token": "\xc3\xa9"}', None),
        (b"[]", None),
        (b"{}", None),
        (b"[" * 100_000, None),
    ],
)
def test_a_token_is_what_a_header_can_hold(answer: bytes, token: str | None) -> None:
    assert token_of(answer) == token


async def test_an_answer_that_comes_in_pieces_is_read_whole() -> None:
    loop = asyncio.get_running_loop()
    protocol = BaseProtocol(loop)
    protocol.connection_made(asyncio.Transport())
    content = aiohttp.StreamReader(protocol, 1024, loop=loop)
    content.feed_data(b'{"token":')

    def go_on() -> None:
        content.feed_data(b' "a"}')
        content.feed_eof()

    loop.call_soon(go_on)
    assert await begin(content, 100) == b'{"token": "a"}'


async def test_no_password_goes_to_a_token_server_without_tls() -> None:
    reader = RegistryReader("https://registry.example")
    async with reader.opened():
        with pytest.raises(Retryable, match="without TLS"):
            await reader._log_in("a/b", 'Bearer realm="http://registry.example/token"')


def test_credentials_are_those_of_docker_login(tmp_path: Path) -> None:
    auth = base64.b64encode(b"me:secret:1").decode()
    (tmp_path / "config.json").write_text(json.dumps({"auths": {"r:5000": {"auth": auth}, "x": 1}}))
    environment = {"DOCKER_CONFIG": str(tmp_path)}
    assert credentials("r:5000", environment) == ("me", "secret:1")
    assert credentials("x", environment) is None
    assert credentials("other", environment) is None
    (tmp_path / "auth.json").write_text("{")
    assert credentials("r:5000", {"REGISTRY_AUTH_FILE": str(tmp_path / "auth.json")}) is None
