"""A tenant whose build lies: with what it leaves in the pod's store and its database.

Nothing of it may reach an image of another namespace, nor one whose paths a trusted key signed.
"""

import base64
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from integration.builder.cached import Cached
from integration.builder.images import Folder, nix_image
from integration.nix.caches import CacheServer, narinfo_file, register
from niximage.api.build import BuildOutputs, BuildRequest, BuiltPackage, PublishResult
from niximage.bucket import keys
from niximage.builder.publish import run_publish
from niximage.builder.sources import open_caches
from niximage.errors import Retryable
from niximage.nix.hashes import digest_of
from niximage.nix.narinfo import parse_narinfo
from niximage.nix.programs import NixStore
from niximage.nix.signature import fingerprint
from niximage.source.folder import pin_folder

pytestmark = pytest.mark.usefixtures("empty_store")


class Liar:
    """A pod's store with wrong content under a known path, and a database that vouches for it."""

    def __init__(self, cached: Cached, name: str) -> None:
        self.path = cached.paths[name]
        info = parse_narinfo(
            narinfo_file(cached.cache, self.path).read_bytes(), self.path[11:43]
        ).info
        folder = Path(self.path) / "bin"
        folder.mkdir(parents=True)
        (folder / "program").write_text("evil\n")
        (folder / "program").chmod(0o555)
        register(info.path, digest_of(info.nar_hash).hex(), info.nar_size)

    def end(self) -> None:
        """Take it all back."""
        subprocess.run(
            ["nix-store", "--delete", self.path], check=True, capture_output=True, timeout=30
        )


@pytest.fixture
def liar(cached: Cached) -> Iterator[Liar]:
    made = Liar(cached, "program")
    yield made
    made.end()


def publish(
    cached: Cached, bucket: Folder, scratch: Path, nix: NixStore, namespace: str
) -> PublishResult:
    """Publish what a build in this namespace says that it made."""
    image = nix_image("image", "program")
    image = image.model_copy(
        update={"metadata": image.metadata.model_copy(update={"namespace": namespace})}
    )
    request = BuildRequest.of(image, pin_folder(cached.source, path=".", attr=None))
    built = BuiltPackage(attribute="program", outputs={"out": cached.paths["program"]})
    folder = scratch / namespace
    folder.mkdir()
    with open_caches(nix) as caches:
        return run_publish(
            request,
            BuildOutputs(packages={"linux/amd64": [built]}),
            bucket=bucket.store,
            nix=nix,
            caches=caches,
            scratch=folder,
        )


def shared(bucket: Folder) -> list[Path]:
    """The layer index that all namespaces read."""
    return list((bucket.path / keys.OWN / "layers" / keys.VERIFIED).glob("*"))


def test_wrong_content_under_a_signed_path_is_never_looked_at(
    cached: Cached, liar: Liar, server: CacheServer, bucket: Folder, tmp_path: Path
) -> None:
    result = publish(cached, bucket, tmp_path, cached.nix(server.url), "evil")
    assert result.digest == cached.digests["program",]


def test_wrong_content_that_no_cache_contradicts_stays_in_its_namespace(
    cached: Cached, liar: Liar, server: CacheServer, bucket: Folder, tmp_path: Path
) -> None:
    """The layer key is the honest one's, for the database says what the honest one would."""
    narinfo = narinfo_file(server.folder, liar.path)
    aside = tmp_path / "aside"
    shutil.move(narinfo, aside)
    evil = publish(cached, bucket, tmp_path, cached.nix(server.url), "evil")
    assert evil.digest != cached.digests["program",]
    shutil.move(aside, narinfo)
    good = publish(cached, bucket, tmp_path, cached.nix(server.url), "good")
    assert good.digest == cached.digests["program",]
    assert set(bucket.layers(good.digest)).isdisjoint(bucket.layers(evil.digest)[:1])


def test_without_caches_nothing_is_shared(
    cached: Cached, liar: Liar, bucket: Folder, tmp_path: Path
) -> None:
    publish(cached, bucket, tmp_path, NixStore(), "evil")
    assert shared(bucket) == []


def test_a_store_that_vouches_for_nothing_is_not_enough(
    cached: Cached, bucket: Folder, tmp_path: Path
) -> None:
    with pytest.raises(Retryable, match="the store does not know"):
        publish(cached, bucket, tmp_path, NixStore(), "team")
    assert [path for path in bucket.path.rglob("*") if path.is_file()] == []


def test_a_cache_that_a_stranger_signed_is_not_believed(
    cached: Cached, liar: Liar, bucket: Folder, tmp_path: Path
) -> None:
    """The signatures are good, and the key has the trusted one's name."""
    forged = Path(shutil.copytree(cached.cache, tmp_path / "forged"))
    name = cached.key.public.partition(":")[0]
    stranger = Ed25519PrivateKey.generate()
    for file in forged.glob("*.narinfo"):
        info = parse_narinfo(file.read_bytes(), file.stem).info
        signature = base64.b64encode(stranger.sign(fingerprint(info))).decode()
        file.write_text(re.sub(r"Sig: .*", f"Sig: {name}:{signature}", file.read_text()))
    evil = publish(cached, bucket, tmp_path, cached.nix(forged.as_uri()), "evil")
    assert evil.digest != cached.digests["program",]
    assert shared(bucket) == []
