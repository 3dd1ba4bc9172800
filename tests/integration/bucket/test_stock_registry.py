"""Debian's docker-registry, which knows nothing of us, serves what we attach and collect."""

import json
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from integration.debian_registry import debian_registry, public_folder
from integration.tiny import tiny_image
from niximage.bucket import ObjectStore, hold, open_store
from niximage.bucket.artifacts import attach
from niximage.bucket.collect import collect

REPOSITORY = "team-a/hello"
IMAGE = tiny_image(b"hello\n", b"world\n")


@dataclass(frozen=True)
class Stock:
    """A bucket, and the registry that serves it."""

    store: ObjectStore
    url: str

    @property
    def reference(self) -> str:
        return f"docker://{self.url.removeprefix('http://')}/{REPOSITORY}"


@pytest.fixture
def stock(tmp_path: Path, unprivileged: dict[str, Any]) -> Iterator[Stock]:
    with public_folder() as folder:
        bucket = folder / "bucket"
        bucket.mkdir()
        bucket.chmod(0o755)
        with debian_registry(bucket, unprivileged, folder) as url:
            yield Stock(open_store(bucket.as_uri()), url)


def skopeo(*arguments: str) -> bytes:
    done = subprocess.run(["skopeo", *arguments], capture_output=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def test_artifacts_are_found_by_their_tag(stock: Stock, tmp_path: Path) -> None:
    IMAGE.publish(stock.store, REPOSITORY)
    file = tmp_path / "sbom"
    file.write_bytes(b"all that is in it")
    kind = "application/spdx+json"
    added = attach(
        stock.store, REPOSITORY, IMAGE.digest, [file], artifact_type=kind, file_type=kind
    )
    tag = IMAGE.digest.replace(":", "-")
    index = json.loads(skopeo("inspect", "--raw", "--tls-verify=false", f"{stock.reference}:{tag}"))
    assert index["manifests"] == [added.to_json()]
    manifest = skopeo(
        *("inspect", "--raw", "--tls-verify=false"),
        f"{stock.reference}@{added.descriptor.digest}",
    )
    blob = json.loads(manifest)["layers"][0]["digest"]
    with urllib.request.urlopen(f"{stock.url}/v2/{REPOSITORY}/blobs/{blob}", timeout=10) as answer:
        assert answer.read() == file.read_bytes()


def test_what_a_collection_left_is_pulled(
    stock: Stock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tiny_image(b"gone")
    IMAGE.publish(stock.store, REPOSITORY, "ab" * 32)
    gone.publish(stock.store, REPOSITORY, "cd" * 32)
    monkeypatch.setattr(hold, "now", lambda: time.time() + 2 * 86400)
    assert collect(stock.store, [IMAGE.digest], grace=86400).total.manifests == 1
    source = f"{stock.reference}@{IMAGE.digest}"
    skopeo("copy", "--src-tls-verify=false", source, f"dir:{tmp_path / 'copy'}")
    assert (tmp_path / "copy" / "manifest.json").read_bytes() == IMAGE.manifest
    tags = skopeo("list-tags", "--tls-verify=false", stock.reference)
    assert json.loads(tags)["Tags"] == ["ab" * 32]
