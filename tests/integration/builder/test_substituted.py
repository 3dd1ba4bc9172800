"""Images of outputs that binary caches have: planned from narinfos, packed from NARs."""

import hashlib
import re
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest

from integration.builder.cached import Cached
from integration.builder.images import Folder
from integration.nix.caches import (
    CacheServer,
    Fault,
    copy_to_cache,
    narinfo_file,
    register,
    rewrite,
)
from niximage.bucket import keys
from niximage.errors import Reason, Retryable, Terminal
from niximage.nix.evaluate import evaluate
from niximage.nix.programs import NixStore

FOREIGN = "aarch64-linux"

pytestmark = pytest.mark.usefixtures("empty_store")


def nar_of(cache: Path, path: str) -> str:
    """Where a cache has the NAR of a store path."""
    text = narinfo_file(cache, path).read_text()
    return text.partition("URL: ")[2].partition("\n")[0]


def damage(nar: Path) -> None:
    data = bytearray(nar.read_bytes())
    data[len(data) // 2] ^= 1
    nar.write_bytes(data)


def test_an_image_from_nars_is_the_one_from_the_store(
    cached: Cached, server: CacheServer, bucket: Folder
) -> None:
    said: list[str] = []
    result = cached.build(bucket, "program", nix=cached.nix(server.url), say=said.append)
    assert result.digest == cached.digests["program",]
    assert cached.here() == set()
    assert server.nar_bytes == cached.nar_size(server, "program", "library")
    assert "1 of 1 outputs for linux/amd64 are in binary caches" in said


def test_a_folder_is_a_cache_too(cached: Cached, server: CacheServer, bucket: Folder) -> None:
    result = cached.build(bucket, "program", nix=cached.nix(server.folder.as_uri()))
    assert result.digest == cached.digests["program",]
    assert cached.here() == set()


def test_a_rebuild_that_changes_nothing_asks_for_nothing(
    cached: Cached, server: CacheServer, bucket: Folder
) -> None:
    nix = cached.nix(server.url)
    first = cached.build(bucket, "program", nix=nix)
    server.asked.clear()
    assert cached.build(bucket, "program", nix=nix).digest == first.digest
    assert server.asked == []


def test_an_image_that_shares_paths_fetches_only_the_others(
    cached: Cached, server: CacheServer, bucket: Folder
) -> None:
    nix = cached.nix(server.url)
    cached.build(bucket, "program", nix=nix)
    server.sent.clear()
    second = cached.build(bucket, "program", "other", nix=nix)
    assert server.nar_bytes == cached.nar_size(server, "other")
    assert second.reused_layers >= 1
    assert cached.here() == set()


def test_a_package_that_was_only_a_dependency_is_linked_without_fetching_it(
    cached: Cached, server: CacheServer, bucket: Folder
) -> None:
    nix = cached.nix(server.url)
    cached.build(bucket, "program", nix=nix)
    server.sent.clear()
    second = cached.build(bucket, "library", nix=nix)
    assert server.nar_bytes == 0
    assert second.digest == cached.digests["library",]


def test_names_that_are_lost_are_read_from_the_nar_again(
    cached: Cached, server: CacheServer, bucket: Folder
) -> None:
    nix = cached.nix(server.url)
    cached.build(bucket, "program", nix=nix)
    for file in (bucket.path / "niximage" / "v1" / "names").rglob("*"):
        if file.is_file():
            file.write_bytes(b"damaged")
    server.sent.clear()
    second = cached.build(bucket, "library", nix=nix)
    assert server.nar_bytes == cached.nar_size(server, "library")
    assert second.digest == cached.digests["library",]


def test_what_the_cache_lacks_is_built_and_the_rest_still_comes_as_nar(
    cached: Cached, tmp_path: Path, bucket: Folder
) -> None:
    said: list[str] = []
    with cached.serving(tmp_path / "cache", without=("own", "part")) as server:
        result = cached.build(bucket, "own", "program", nix=cached.nix(server.url), say=said.append)
    assert result.digest == cached.digests["own", "program"]
    assert cached.here() == {"own", "part", "library"}  # the library is what `own` is built with
    assert "1 of 2 outputs for linux/amd64 are in binary caches" in said
    assert any("2 of 4 store paths are in binary caches" in line for line in said)


def test_an_output_whose_reference_is_missing_is_built(
    cached: Cached, tmp_path: Path, bucket: Folder
) -> None:
    with cached.serving(tmp_path / "cache", without=("part",)) as server:
        result = cached.build(bucket, "own", "program", nix=cached.nix(server.url))
    assert result.digest == cached.digests["own", "program"]
    assert "part" in cached.here()


def test_a_nar_of_other_content_makes_no_layer(
    cached: Cached, server: CacheServer, bucket: Folder
) -> None:
    for nar in (server.folder / "nar").iterdir():
        damage(nar)
    with pytest.raises((Terminal, Retryable)) as caught:
        cached.build(bucket, "program", nix=cached.nix(server.url))
    assert caught.value.reason in {Reason.HASH_MISMATCH, Reason.SOURCE_UNAVAILABLE}
    assert [path for path in bucket.path.rglob("*") if path.is_file()] == []


def test_another_path_s_nar_makes_no_layer(
    cached: Cached, server: CacheServer, bucket: Folder
) -> None:
    """The cache's word on the file is unsigned: all of it may lie, and consistently."""
    text = narinfo_file(server.folder, cached.paths["other"]).read_text()
    lines = dict(line.split(": ", 1) for line in text.splitlines())
    rewrite(
        server.folder,
        cached.paths["program"],
        **{name: lines[name] for name in ("URL", "FileHash", "FileSize")},
    )
    with pytest.raises((Terminal, Retryable), match=r"more than|ends|hash"):
        cached.build(bucket, "program", nix=cached.nix(server.url))
    index = [path for path in bucket.path.rglob("*") if path.is_file() and "layers" in path.parts]
    assert all("program" not in path.read_text() for path in index)
    assert not list((bucket.path / "docker").rglob("_manifests"))


def test_a_layer_that_fails_does_not_wait_for_one_that_hangs(
    cached: Cached, server: CacheServer, bucket: Folder
) -> None:
    library = nar_of(server.folder, cached.paths["library"])
    server.faults.append(Fault(re.escape(library), hang=True, times=None))
    damage(server.folder / nar_of(server.folder, cached.paths["program"]))
    start = time.monotonic()
    with pytest.raises((Terminal, Retryable)) as caught:
        cached.build(bucket, "program", nix=cached.nix(server.url))
    assert cached.paths["program"] in caught.value.message
    assert time.monotonic() - start < 20  # one answer is waited for longer than that


def test_layers_of_signed_content_are_shared_by_namespaces(
    cached: Cached, server: CacheServer, bucket: Folder
) -> None:
    nix = cached.nix(server.url)
    cached.build(bucket, "program", nix=nix, namespace="one")
    server.sent.clear()
    cached.build(bucket, "program", nix=nix, namespace="two")
    assert server.nar_bytes == 0
    layers = bucket.path / keys.OWN / "layers"
    assert len(list((layers / keys.VERIFIED).iterdir())) >= 1
    # What is left to each namespace is its root.
    assert [len(list((layers / name).iterdir())) for name in ("one", "two")] == [1, 1]


def test_known_packages_in_a_new_image_need_no_nix(
    cached: Cached, server: CacheServer, bucket: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    nix = cached.nix(server.url)
    cached.build(bucket, "program", "other", nix=nix)
    said: list[str] = []
    monkeypatch.setenv("PATH", "")
    result = cached.build(bucket, "program", nix=nix, say=said.append)
    assert result.digest == cached.digests["program",]
    assert said[0] == "1 packages were evaluated before, and binary caches have them"


def test_known_packages_that_a_cache_lost_are_evaluated_again(
    cached: Cached, server: CacheServer, bucket: Folder
) -> None:
    nix = cached.nix(server.url)
    cached.build(bucket, "program", "other", nix=nix)
    narinfo_file(server.folder, cached.paths["program"]).unlink()
    said: list[str] = []
    result = cached.build(bucket, "program", nix=nix, say=said.append)
    assert result.digest == cached.digests["program",]
    assert "0 of 1 outputs for linux/amd64 are in binary caches" in said
    assert "program" in cached.here()


def test_what_may_not_be_built_is_named(cached: Cached, tmp_path: Path, bucket: Folder) -> None:
    with cached.serving(tmp_path / "cache", without=("own", "part")) as server:
        nix = replace(cached.nix(server.url), local_builds=False)
        with pytest.raises(Terminal) as caught:
            cached.build(bucket, "own", "program", nix=nix)
        assert cached.build(bucket, "program", nix=nix).digest == cached.digests["program",]
    error = caught.value
    assert error.reason is Reason.LOCAL_BUILD_REQUIRED
    assert error.message.startswith(
        "1 package for linux/amd64 is in no trusted binary cache, "
        "and local builds are forbidden:\nown: own-1.0.drv"
    )
    assert error.derivation.endswith("-own-1.0.drv")
    assert cached.here() == set()


def test_what_a_cache_has_unsigned_is_named_with_the_reason(
    cached: Cached, server: CacheServer, bucket: Folder
) -> None:
    key = "other-1:" + "A" * 43 + "="
    nix = NixStore(substituters=(server.url,), trusted_public_keys=(key,), local_builds=False)
    with pytest.raises(Terminal, match="it is signed by test-1, by no trusted key"):
        cached.build(bucket, "program", nix=nix)


def test_a_foreign_platform_s_image_is_made_of_nars(
    cached: Cached, bucket: Folder, tmp_path: Path
) -> None:
    cache, path = foreign_cache(cached, tmp_path)
    nix = cached.nix(cache.as_uri())
    result = cached.build(bucket, "program", nix=nix, platforms=["linux/arm64"])
    config = bucket.config(result.digest)
    assert (config["architecture"], config["os"]) == ("arm64", "linux")
    assert not Path(path).exists()
    with pytest.raises(Terminal) as caught:
        cached.build(bucket, "program", "other", nix=nix, platforms=["linux/arm64"])
    assert caught.value.reason is Reason.LOCAL_BUILD_REQUIRED
    assert f"this machine cannot build for {FOREIGN}:\nother: other-1.0.drv" in str(caught.value)


def foreign_cache(cached: Cached, folder: Path) -> tuple[Path, str]:
    """A cache with the program of a platform that is not this machine's, and its path."""
    store = NixStore()
    (package,) = evaluate(
        cached.source, ["program"], attribute=None, system=FOREIGN, store=store, timeout=60
    )
    path = package.outputs["out"]
    program = Path(path) / "bin" / "program"
    program.parent.mkdir(parents=True)
    program.write_bytes(b"\x7fELF of another machine")
    program.chmod(0o555)
    nar = subprocess.run(
        ["nix-store", "--dump", path], check=True, capture_output=True, timeout=30
    ).stdout
    register(path, hashlib.sha256(nar).hexdigest(), len(nar))
    cache = copy_to_cache(folder / "foreign", [path], key=cached.key)
    subprocess.run(["nix-store", "--delete", path], check=True, capture_output=True, timeout=30)
    return cache, path
