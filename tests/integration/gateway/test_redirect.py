"""Clients fetch large blobs from the bucket itself, where its URLs can be signed."""

import hashlib
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from integration.gateway.conftest import Client, running
from integration.tiny import tiny_image
from niximage.bucket import ObjectStore, open_store
from niximage.bucket.signing import KEY_FILE
from niximage.gateway import Limits, Options
from support.google_keys import write_key_file

IMAGE = tiny_image(b"small", hashlib.shake_256(b"large").digest(3 << 20))
LAYER, CONTENT = IMAGE.layers[1]
BLOB = f"/v2/team/app/blobs/{LAYER.digest}"


@pytest.fixture
def signing_store(
    gcs_bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ObjectStore]:
    """A bucket with the image, of a process that has a service account's key."""
    key = rsa.generate_private_key(65537, 2048)
    monkeypatch.setenv(KEY_FILE, str(write_key_file(tmp_path / "key.json", key)))
    store = open_store(f"{gcs_bucket}/some/prefix", patience=10)
    IMAGE.publish(store, "team/app", "latest")
    yield store
    store.close()


@pytest.fixture
def gateway(signing_store: ObjectStore) -> Iterator[Client]:
    with running(signing_store) as client:
        yield client


def test_a_large_blob_is_where_the_answer_says(gateway: Client) -> None:
    answer = gateway.ask(BLOB)
    assert (answer.status, answer.headers["Cache-Control"]) == (307, "no-store")
    with urllib.request.urlopen(answer.headers["Location"], timeout=10) as response:
        assert response.read() == CONTENT
    part = urllib.request.Request(answer.headers["Location"], headers={"Range": "bytes=5-9"})
    with urllib.request.urlopen(part, timeout=10) as response:
        assert response.read() == CONTENT[5:10]


def test_the_same_url_is_given_again(gateway: Client) -> None:
    assert len({gateway.ask(BLOB).headers["Location"] for _ in range(3)}) == 1


def test_small_blobs_manifests_and_heads_are_answered_here(gateway: Client) -> None:
    for descriptor, content in IMAGE.blobs.items():
        path = f"/v2/team/app/blobs/{descriptor.digest}"
        head = gateway.ask(path, "HEAD")
        assert (head.status, int(head.headers["Content-Length"])) == (200, len(content))
        if descriptor != LAYER:
            assert gateway.ask(path).body == content
    assert gateway.ask(f"/v2/team/app/manifests/{IMAGE.digest}").body == IMAGE.manifest


def test_what_a_repository_does_not_have_is_not_signed(gateway: Client) -> None:
    assert gateway.ask(f"/v2/team/other/blobs/{LAYER.digest}").status == 404


def test_blobs_are_sent_from_here_if_that_is_wished(signing_store: ObjectStore) -> None:
    options = Options(port=0, limits=Limits(redirect=False))
    with running(signing_store, options) as client:
        answer = client.ask(BLOB)
        assert (answer.status, answer.body) == (200, CONTENT)


def test_skopeo_follows_to_the_bucket(gateway: Client, tmp_path: Path) -> None:
    copy = ["skopeo", "copy", "--quiet", "--src-tls-verify=false"]
    reference = f"docker://{gateway.address}/team/app@{IMAGE.digest}"
    subprocess.run([*copy, reference, f"dir:{tmp_path / 'copy'}"], check=True, timeout=60)
    pulled = {file.name: file.read_bytes() for file in (tmp_path / "copy").iterdir()}
    for descriptor, content in IMAGE.blobs.items():
        assert pulled[descriptor.digest.removeprefix("sha256:")] == content
