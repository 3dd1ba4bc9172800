"""`niximage build` and `plan` with a binary cache: what is downloaded, and what is refused."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from integration.cli.program import Niximage
from integration.conftest import free_port
from integration.nix.caches import SigningKey, copy_to_cache
from integration.nix.demo import SYSTEM
from niximage.errors import EXIT_RETRYABLE, EXIT_TERMINAL
from niximage.nix.evaluate import evaluate
from niximage.nix.programs import NixStore
from niximage.nix.realise import realise


@dataclass(frozen=True)
class Filled:
    """A binary cache that has the shell and what it refers to."""

    url: str
    key: str
    size: int

    @property
    def options(self) -> tuple[str, ...]:
        return ("--substituters", self.url, "--trusted-public-keys", self.key)


@pytest.fixture
def filled(package_set: Path, tmp_path: Path) -> Filled:
    nix = NixStore()
    found = evaluate(package_set, ["shell"], attribute=None, system=SYSTEM, store=nix, timeout=60)
    realise(found, store=nix, timeout=60, roots=tmp_path)
    key = SigningKey.make(tmp_path)
    cache = copy_to_cache(tmp_path / "cache", list(found[0].outputs.values()), key=key)
    size = sum(nar.stat().st_size for nar in (cache / "nar").iterdir())
    return Filled(cache.as_uri(), key.public, size)


def test_the_document_tells_what_was_downloaded_and_what_was_not(
    niximage: Niximage, filled: Filled
) -> None:
    arguments = ("-p", "shell", *filled.options, "-o", "oci:image")
    first = niximage.document(*arguments)["bytes"]
    assert (first["downloaded"], first["skipped"]) == (filled.size, 0)
    second = niximage.document("-p", "hello", *arguments)["bytes"]
    assert (second["downloaded"], second["skipped"]) == (0, filled.size)


def test_a_plan_of_what_a_cache_has_downloads_nothing(niximage: Niximage, filled: Filled) -> None:
    forbidden = ("--local-builds", "Forbidden")
    arguments: tuple[str | Path, ...] = (
        "--source",
        niximage.package_set,
        "-p",
        "shell",
        *filled.options,
        *forbidden,
    )
    planned = json.loads(niximage.run("plan", "--json", *arguments).stdout)
    (platform,) = planned["platforms"]
    assert [layer["kind"] for layer in platform["layers"]] == ["store", "root"]
    assert platform["layers"][-1]["size"] is None
    table = niximage.run("plan", *arguments)
    assert table.stdout.splitlines()[-1].split()[:3] == ["2", "?", "0"]
    assert [path for path in niximage.bucket.rglob("*") if path.is_file()] == []


def test_without_a_network_it_says_how_to_do_without_caches(niximage: Niximage) -> None:
    nowhere = f"http://127.0.0.1:{free_port()}"
    done = niximage.build("-p", "shell", "-o", "oci:image", "--substituters", nowhere)
    assert done.returncode == EXIT_RETRYABLE
    first, hint = done.stderr.splitlines()[-2:]
    assert first.startswith(f"niximage: SubstituterUnavailable: {nowhere}/")
    assert hint.endswith('add --substituters "".')
    done = niximage.build("-p", "shell", "-o", "oci:image", "--substituters", "")
    assert done.returncode == 0, done.stderr


def test_what_may_not_be_built_here_is_named(niximage: Niximage, filled: Filled) -> None:
    done = niximage.build(
        *("-p", "hello", *filled.options, "--local-builds", "Forbidden", "-o", "oci:image")
    )
    assert done.returncode == EXIT_TERMINAL
    assert "hello: hello-2.12.drv" in done.stderr
