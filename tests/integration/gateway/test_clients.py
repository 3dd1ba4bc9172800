"""Programs that others wrote read what we publish: skopeo, crane, and stock registries."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from integration.debian_registry import debian_registry, public_folder
from integration.gateway.conftest import Client, running
from integration.tiny import TinyImage, artifact, tiny_image
from niximage.bucket import ObjectStore, open_store
from niximage.bucket.publish import publish_manifest
from niximage.bucket.referrers import add_referrers
from niximage.image.descriptor import INDEX, MANIFEST, Descriptor

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


@pytest.fixture(params=["Debian's docker-registry", "Distribution 3"])
def stock_registry(
    request: pytest.FixtureRequest, public_bucket: Path, unprivileged: dict[str, Any], tools: Path
) -> Iterator[Client]:
    """Another's registry over a folder, read-only: Debian's is run by nobody."""
    how = unprivileged
    if request.param == "Distribution 3":
        how = {"executable": tools / "distribution"}
    with debian_registry(public_bucket, how, public_bucket.parent) as url:
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
            head = gateway.ask(path, "HEAD", Accept=accept)
            assert (head.status, head.body) == (ours.status, b"")
            if ours.status == 404:
                code = [answer.json()["errors"][0]["code"] for answer in (ours, theirs)]
                assert code[0] == code[1], path
            elif "tags" in path:
                assert ours.json() == theirs.json()
            elif path != "/v2/":
                assert ours.body == theirs.body, path


def test_gateway_and_stock_registry_refuse_the_same_types(
    stock_registry: Client, public_bucket: Path
) -> None:
    store = open_store(public_bucket.as_uri())
    IMAGE.publish(store, REPOSITORY, "latest")
    with running(store) as gateway:
        for reference in ("latest", IMAGE.digest):
            path = f"/v2/{REPOSITORY}/manifests/{reference}"
            for accept in (INDEX, "application/json", f"{INDEX}, application/json"):
                answers = [each.ask(path, Accept=accept) for each in (gateway, stock_registry)]
                codes = [answer.json()["errors"][0]["code"] for answer in answers]
                assert [answer.status for answer in answers] == [404, 404]
                assert codes == ["MANIFEST_UNKNOWN"] * 2


def crane(tools: Path, *arguments: str) -> bytes:
    """What crane prints; a failure of it fails the test with its words."""
    done = subprocess.run(
        [tools / "crane", *arguments], capture_output=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def test_crane_reads_from_the_gateway(store: ObjectStore, gateway: Client, tools: Path) -> None:
    IMAGE.publish(store, REPOSITORY, "latest", "v1")
    reference = f"{gateway.address}/{REPOSITORY}"
    assert crane(tools, "digest", f"{reference}:latest").decode().strip() == IMAGE.digest
    assert crane(tools, "manifest", f"{reference}@{IMAGE.digest}") == IMAGE.manifest
    assert crane(tools, "ls", reference).decode().split() == ["latest", "v1"]
    layer, content = IMAGE.layers[0]
    assert crane(tools, "blob", f"{reference}@{layer.digest}") == content
    crane(tools, "validate", "--remote", f"{reference}:latest")


def test_skopeo_brings_every_member_of_an_index(
    store: ObjectStore, gateway: Client, tmp_path: Path
) -> None:
    members = []
    for number, architecture in enumerate(("amd64", "arm64")):
        image = tiny_image(f"for {architecture}".encode(), b"shared", bytes([number]))
        described = image.publish(store, REPOSITORY).to_json()
        members.append({**described, "platform": {"os": "linux", "architecture": architecture}})
    document = {"schemaVersion": 2, "mediaType": INDEX, "manifests": members}
    index = publish_manifest(store, REPOSITORY, json.dumps(document).encode(), tags=("multi",))
    source = f"docker://{gateway.address}/{REPOSITORY}:multi"
    skopeo("copy", "--all", "--src-tls-verify=false", source, f"oci:{tmp_path / 'layout'}")
    stored = {file.name for file in (tmp_path / "layout" / "blobs" / "sha256").iterdir()}
    wanted = {index.digest, *(member["digest"] for member in members)}
    assert {digest.removeprefix("sha256:") for digest in wanted} <= stored


def test_referrers_are_found_as_oras_finds_them(store: ObjectStore, gateway: Client) -> None:
    """The API first; the fallback tag, as clients use it where there is no API, says the same."""
    IMAGE.publish(store, REPOSITORY, "latest")
    subject = Descriptor.of(MANIFEST, IMAGE.manifest)
    for content, kind in ((b"sbom", "application/spdx+json"), (b"signature", "a/signature")):
        add_referrers(store, REPOSITORY, [artifact(store, subject, content, kind)])
    base = f"/v2/{REPOSITORY}"
    by_api = gateway.ask(f"{base}/referrers/{IMAGE.digest}").json()["manifests"]
    fallback = IMAGE.digest.replace(":", "-")
    by_tag = gateway.ask(f"{base}/manifests/{fallback}", Accept=INDEX).json()["manifests"]
    assert by_api == by_tag
    for listed in by_api:
        manifest = gateway.ask(f"{base}/manifests/{listed['digest']}", Accept=listed["mediaType"])
        (layer,) = manifest.json()["layers"]
        blob = gateway.ask(f"{base}/blobs/{layer['digest']}").body
        assert blob == {"application/spdx+json": b"sbom"}.get(listed["artifactType"], b"signature")
