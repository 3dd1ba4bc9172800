"""A really built image, served by a registry and pulled by a client that others wrote."""

import hashlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from integration.builder.images import Folder
from integration.debian_registry import debian_registry, public_folder
from integration.nix.demo import Demo

PACKAGES = ("hello", "cowsay", "shell", "cacert", "manual", "dataset", "tools.upper")


@pytest.fixture
def public_bucket() -> Iterator[Folder]:
    """An empty bucket that another user can read."""
    with public_folder() as folder:
        opened = Folder.open(folder / "bucket")
        opened.path.chmod(0o755)
        yield opened
        opened.store.close()


def pulled(reference: str, folder: Path) -> dict[str, bytes]:
    """The files of an image as skopeo pulls it: the manifest, and blobs by their hex digest."""
    copy = ["skopeo", "copy", "--quiet", "--src-tls-verify=false"]
    done = subprocess.run(
        [*copy, f"docker://{reference}", f"dir:{folder}"],
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr.decode()
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.name != "version"}


@pytest.mark.parametrize("compression", ["zstd", "gzip"])
def test_debians_registry_and_skopeo_bring_a_built_image_whole(
    demo: Demo,
    public_bucket: Folder,
    unprivileged: dict[str, Any],
    tmp_path: Path,
    compression: str,
) -> None:
    built = public_bucket.build(demo, *PACKAGES, compression=compression, nix_database=True)
    registry = debian_registry(public_bucket.path, unprivileged, public_bucket.path.parent)
    with registry as url:
        files = pulled(f"{urlsplit(url).netloc}/{built.repository}@{built.digest}", tmp_path / "it")
    manifest = files.pop("manifest.json")
    assert f"sha256:{hashlib.sha256(manifest).hexdigest()}" == built.digest
    document = json.loads(manifest)
    blobs = {
        blob["digest"].removeprefix("sha256:"): blob["size"]
        for blob in [document["config"], *document["layers"]]
    }
    assert len(document["layers"]) > 2  # small packages share a layer
    assert {layer["mediaType"].rpartition("+")[2] for layer in document["layers"]} == {compression}
    assert {name: len(content) for name, content in files.items()} == blobs
    assert {hashlib.sha256(content).hexdigest() for content in files.values()} == set(blobs)
