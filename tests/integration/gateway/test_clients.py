"""Programs that others wrote read what we publish: skopeo, and Debian's docker-registry."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from integration.debian_registry import debian_registry, public_folder
from integration.gateway.conftest import Client
from integration.tiny import TinyImage, tiny_image
from niximage.bucket import ObjectStore, open_store

REPOSITORY = "team-a/hello"
IMAGE = tiny_image(b"hello\n", b"world\n")


def skopeo(*arguments: str) -> bytes:
    """What skopeo prints; a failure of it fails the test with its words."""
    done = subprocess.run(["skopeo", *arguments], capture_output=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def inspect(reference: str) -> Any:
    return json.loads(skopeo("inspect", "--tls-verify=false", f"docker://{reference}"))


def copied(reference: str, folder: Path) -> dict[str, bytes]:
    """The files of an image as skopeo copied it: the manifest, and blobs by their hex digest."""
    skopeo("copy", "--src-tls-verify=false", f"docker://{reference}", f"dir:{folder}")
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def is_whole(files: dict[str, bytes], image: TinyImage) -> bool:
    blobs = {d.digest.removeprefix("sha256:"): content for d, content in image.blobs.items()}
    return files["manifest.json"] == image.manifest and blobs.items() <= files.items()


@pytest.mark.parametrize("by", ["digest", "tag"])
def test_skopeo_reads_from_the_gateway(
    store: ObjectStore, gateway: Client, tmp_path: Path, by: str
) -> None:
    IMAGE.publish(store, REPOSITORY, "latest")
    suffix = f"@{IMAGE.digest}" if by == "digest" else ":latest"
    reference = f"{gateway.address}/{REPOSITORY}{suffix}"
    seen = inspect(reference)
    assert seen["Digest"] == IMAGE.digest
    assert seen["RepoTags"] == ["latest"]
    assert seen["Layers"] == [descriptor.digest for descriptor, _ in IMAGE.layers]
    assert is_whole(copied(reference, tmp_path / "copy"), IMAGE)


def test_skopeo_is_told_of_an_absent_image(gateway: Client) -> None:
    done = subprocess.run(
        ["skopeo", "inspect", "--tls-verify=false", f"docker://{gateway.address}/nobody/nothing"],
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert done.returncode != 0
    assert b"nothing was published to this repository" in done.stderr


@pytest.fixture
def public_bucket() -> Iterator[Path]:
    """An empty folder that another user can read."""
    with public_folder() as folder:
        bucket = folder / "bucket"
        bucket.mkdir()
        bucket.chmod(0o755)
        yield bucket


@pytest.fixture
def stock_registry(public_bucket: Path, unprivileged: dict[str, Any]) -> Iterator[Client]:
    """Debian's docker-registry over a folder, read-only, run by nobody."""
    with debian_registry(public_bucket, unprivileged, public_bucket.parent) as url:
        yield Client(url)


def test_a_stock_registry_serves_the_same_bucket(
    stock_registry: Client, public_bucket: Path, tmp_path: Path
) -> None:
    store = open_store(public_bucket.as_uri())
    IMAGE.publish(store, REPOSITORY, "latest")
    for number, suffix in enumerate((f"@{IMAGE.digest}", ":latest")):
        reference = f"{stock_registry.address}/{REPOSITORY}{suffix}"
        assert inspect(reference)["Digest"] == IMAGE.digest
        assert is_whole(copied(reference, tmp_path / str(number)), IMAGE)
    newer = tiny_image(b"newer\n")
    newer.publish(store, REPOSITORY, "latest")
    assert inspect(f"{stock_registry.address}/{REPOSITORY}:latest")["Digest"] == newer.digest


def test_gateway_and_stock_registry_say_the_same(
    stock_registry: Client, public_bucket: Path
) -> None:
    from integration.gateway.conftest import running

    store = open_store(public_bucket.as_uri())
    IMAGE.publish(store, REPOSITORY, "latest")
    layer = IMAGE.layers[0][0].digest
    accept = "application/vnd.oci.image.manifest.v1+json"
    with running(store) as gateway:
        for path in (
            "/v2/",
            f"/v2/{REPOSITORY}/manifests/latest",
            f"/v2/{REPOSITORY}/manifests/{IMAGE.digest}",
            f"/v2/{REPOSITORY}/manifests/absent",
            f"/v2/{REPOSITORY}/blobs/{layer}",
            f"/v2/{REPOSITORY}/blobs/sha256:{'0' * 64}",
            f"/v2/{REPOSITORY}/tags/list",
        ):
            ours = gateway.ask(path, Accept=accept)
            theirs = stock_registry.ask(path, Accept=accept)
            assert ours.status == theirs.status, path
            names = ("Docker-Content-Digest", "Docker-Distribution-Api-Version", "ETag")
            for name in names:
                assert ours.headers[name] == theirs.headers[name], (path, name)
            if ours.status == 404:
                code = [answer.json()["errors"][0]["code"] for answer in (ours, theirs)]
                assert code[0] == code[1], path
            elif "tags" in path:
                assert ours.json() == theirs.json()
            elif path != "/v2/":
                assert ours.body == theirs.body, path
