"""The commands about what is in an image, from a bucket and from a registry with a login."""

import base64
import json
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import bcrypt
import pytest
from typer.testing import CliRunner, Result

from integration.cli.program import Niximage
from integration.gateway.conftest import running
from integration.tiny import tiny_image
from niximage.bucket import keys, open_store
from niximage.bucket.closures import carry_closure, read_closure
from niximage.bucket.images import read_manifest
from niximage.bucket.manifest import parse_manifest
from niximage.bucket.publish import publish_manifest
from niximage.bucket.reader import BucketReader
from niximage.bucket.referrers import list_referrers
from niximage.cli.app import app
from niximage.errors import EXIT_RETRYABLE, EXIT_TERMINAL
from niximage.gateway import HtpasswdAuthority, Options
from niximage.image.closure_document import ARTIFACT
from niximage.image.sbom import MEDIA_TYPE as SBOM

NAME: Final = "default/image"


def run(*arguments: str, code: int = 0, login: Path | None = None) -> Result:
    """A command, in this process: what it imports is here already."""
    environment = {} if login is None else {"DOCKER_CONFIG": str(login)}
    done = CliRunner(env=environment).invoke(app, [*arguments])
    assert done.exit_code == code, (done.stdout, done.stderr)
    return done


@dataclass(frozen=True)
class Images:
    """A bucket with two images: hello, and cowsay with it.

    Attributes:
        bucket: its URL.
        first: the digest of one.
        second: and of the other.
    """

    program: Niximage
    bucket: str
    first: str
    second: str


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory, package_set: Path) -> Images:
    program = Niximage(tmp_path_factory.mktemp("contents"), package_set)
    bucket = (program.home / "bucket").as_uri()
    (program.home / "bucket").mkdir()
    first = program.document("-p", "hello", "--bucket", bucket)["digest"]
    second = program.document("-p", "hello", "-p", "cowsay", "--bucket", bucket)["digest"]
    return Images(program, bucket, first, second)


def test_a_closure_is_kept_beside_its_image_and_written_once(images: Images) -> None:
    store = open_store(images.bucket)
    document = read_closure(BucketReader(store), NAME, images.first)
    assert document is not None
    assert all(path.layer is not None for path in document.paths)
    names = {path.name[33:] for path in document.paths}
    assert names == {"hello-2.12", "greeting-data-1.0", "shell-1.36"}
    before = {found.key for found in store.list("")}
    images.program.document("-p", "hello", "--bucket", images.bucket)
    assert {found.key for found in store.list("")} == before
    referrers = list_referrers(store, NAME, images.first)
    assert {each.artifact_type for each in referrers} == {ARTIFACT, SBOM}
    manifest = read_manifest(store, NAME, images.first)
    assert manifest is not None
    publish_manifest(store, "default/other", manifest)
    carry_closure(store, NAME, images.first, to="default/other")
    assert list_referrers(store, "default/other", images.first) == referrers


def test_an_image_has_a_bill_of_materials_for_scanners(images: Images) -> None:
    store = open_store(images.bucket)
    [referrer] = [
        each for each in list_referrers(store, NAME, images.second) if each.artifact_type == SBOM
    ]
    manifest = read_manifest(store, NAME, referrer.descriptor.digest)
    assert manifest is not None
    [layer] = parse_manifest(manifest).layers
    content = store.read(keys.blob(layer.digest), limit=1 << 20)
    assert content is not None
    attached = json.loads(content)
    image = f"{NAME}@{images.second}"
    printed = json.loads(run("sbom", image, "--bucket", images.bucket).stdout)
    assert printed["metadata"]["component"].pop("name") == NAME
    assert attached["metadata"]["component"].pop("name") == "image"
    assert printed == attached
    assert {each["name"]: each["version"] for each in printed["components"]} == {
        "banner": "2.1",
        "cowsay": "3.8",
        "greeting-data": "1.0",
        "hello": "2.12",
        "shell": "1.36",
    }


def test_questions_are_answered_from_a_bucket(images: Images) -> None:
    bucket, first, second = images.bucket, images.first, images.second
    here = ("--bucket", bucket)
    tree = run("tree", f"{NAME}@{second}", *here).stdout
    assert "5 store paths" in tree
    assert "└── hello-2.12" in tree
    flat = run("tree", f"{NAME}@{second}", "--flat", *here).stdout
    assert flat.splitlines()[2].split()[-3:] == ["shell-1.36", "cowsay,", "hello"]
    document = json.loads(run("tree", f"{NAME}@{second}", "-o", "json", *here).stdout)
    assert set(document["packages"]) == {"hello", "cowsay"}
    why = run("why", f"{NAME}@{second}", "banner", *here).stdout
    assert "cowsay\n└── cowsay-3.8\n    └── banner-2.1\n" in why
    diff = run("diff", f"{NAME}@{first}", f"{NAME}@{second}", *here).stdout
    assert "newly asked for: cowsay" in diff
    assert "an update pulls" in diff
    changes = json.loads(
        run("diff", f"{NAME}@{first}", f"{NAME}@{second}", "-o", "json", *here).stdout
    )
    assert {each["name"]: each["change"] for each in changes["changes"]} == {
        "banner": "added",
        "cowsay": "added",
    }


def test_what_is_not_there_is_told(images: Images) -> None:
    bucket, first = images.bucket, images.first
    here = ("--bucket", bucket)
    nothing = run("why", f"{NAME}@{first}", "cowsay", *here, code=EXIT_TERMINAL)
    assert "nothing called cowsay is in this image" in nothing.stderr
    absent = run("tree", f"{NAME}@sha256:{'0' * 64}", *here, code=EXIT_TERMINAL)
    assert f"has no {NAME}@sha256:000" in absent.stderr
    where = run("tree", f"{NAME}@{first}", code=EXIT_TERMINAL)
    assert "add --registry or --bucket" in where.stderr
    silent = run("tree", f"{NAME}@{first}", "--registry", "http://127.0.0.1:1", code=EXIT_RETRYABLE)
    assert "--through-cluster" in silent.stderr
    store = open_store(bucket)
    digest = tiny_image(b"no closure").publish(store, "default/plain").digest
    plain = run("tree", f"default/plain@{digest}", *here, code=EXIT_TERMINAL)
    assert "has no record of its closure" in plain.stderr
    one = run("diff", f"{NAME}@{first}", *here, code=EXIT_TERMINAL)
    assert "is to be compared with what?" in one.stderr


@pytest.fixture
def registry(images: Images, tmp_path: Path) -> Iterator[str]:
    """The bucket's registry, which lets only `me` in."""
    users = tmp_path / "users"
    users.write_text(f"me:{bcrypt.hashpw(b'secret', bcrypt.gensalt(4)).decode()}\n")
    with running(
        open_store(images.bucket),
        Options(port=0, token_key=b"k" * 32),
        authority=HtpasswdAuthority(users),
    ) as gateway:
        yield gateway.url


def test_a_registry_is_asked_with_the_users_login(
    images: Images, registry: str, tmp_path: Path
) -> None:
    first, second = images.first, images.second
    host = registry.removeprefix("http://")
    image = f"{host}/{NAME}@{second}"
    refused = run("tree", image, login=tmp_path, code=EXIT_TERMINAL)
    assert "docker login" in refused.stderr
    auth = base64.b64encode(b"me:secret").decode()
    (tmp_path / "config.json").write_text(json.dumps({"auths": {host: {"auth": auth}}}))
    assert "cowsay-3.8" in run("tree", image, login=tmp_path).stdout
    assert "banner-2.1" in run("why", image, "banner", login=tmp_path).stdout
    # The tag is the input hash's, which nobody knows by heart: the digest is the way.
    unknown = run("tree", f"{host}/{NAME}:latest", code=EXIT_TERMINAL, login=tmp_path)
    assert f"has no {NAME}:latest" in unknown.stderr
    archive = tmp_path / "image.tar"
    done = run(
        "export", f"{host}/{NAME}@{first}", "-o", f"docker-archive:{archive}", login=tmp_path
    )
    assert f"written to docker-archive:{archive}" in done.stdout
    with tarfile.open(archive) as tar:
        assert "manifest.json" in tar.getnames()
    folder = tmp_path / "layout"
    run("export", f"{host}/{NAME}@{first}", "-o", f"oci:{folder}", login=tmp_path)
    shown = subprocess.run(
        ["skopeo", "inspect", "--raw", f"oci:{folder}:latest"],
        capture_output=True,
        timeout=60,
        check=True,
    )
    assert json.loads(shown.stdout)["layers"]
