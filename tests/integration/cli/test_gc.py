"""`niximage gc` and `niximage attach` as users run them."""

import json
import os
import subprocess
import time
from pathlib import Path

import pytest

from integration.cli.program import Niximage
from integration.tiny import tiny_image
from niximage.bucket import ObjectStore, keys, open_store
from niximage.bucket.images import resolve_tag, verify_image
from niximage.bucket.referrers import list_referrers

REPOSITORY = "team-a/hello"
OLD, NEW = tiny_image(b"shared", b"old"), tiny_image(b"shared", b"new")


@pytest.fixture
def program(tmp_path: Path) -> Niximage:
    return Niximage(tmp_path, tmp_path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A bucket with two images that were published ten days ago."""
    folder = tmp_path / "bucket"
    store = open_store(folder.as_uri())
    OLD.publish(store, REPOSITORY, "ab" * 32)
    NEW.publish(store, REPOSITORY, "cd" * 32)
    then = time.time() - 10 * 86400
    for found in store.list(""):
        os.utime(folder / found.key, (then, then))
    return folder


def opened(folder: Path) -> ObjectStore:
    return open_store(folder.as_uri())


def gc(
    program: Niximage, folder: Path, *arguments: str | Path
) -> "subprocess.CompletedProcess[str]":
    return program.run("gc", "--bucket", folder.as_uri(), *arguments)


def roots(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "roots"
    file.write_text(text)
    return file


def test_what_the_file_does_not_name_goes(program: Niximage, folder: Path, tmp_path: Path) -> None:
    used = roots(tmp_path, json.dumps({"items": [{"status": {"image": f"host/a@{NEW.digest}"}}]}))
    told = gc(program, folder, "--roots", used, "--dry-run", "--json")
    assert told.returncode == 0, told.stderr
    done = gc(program, folder, "--roots", used, "--json")
    document = json.loads(done.stdout)
    assert document["freed"] == json.loads(told.stdout)["freed"]
    assert document["freed"]["manifests"] == 1
    assert document["repositories"][REPOSITORY]["blobs"] == 3
    assert document["kept"]["manifests"] == 1
    assert document["roots"] == 1
    assert "deleting blobs: 3" in done.stderr
    verify_image(opened(folder), REPOSITORY, NEW.digest)
    assert resolve_tag(opened(folder), REPOSITORY, "ab" * 32) is None


def test_people_read_a_table(program: Niximage, folder: Path) -> None:
    done = gc(program, folder, "--roots", Path("/dev/null"), "--dry-run")
    assert done.returncode == 0, done.stderr
    assert REPOSITORY in done.stdout
    assert "would free" in done.stdout
    assert "0 digests are in use" in done.stdout


def test_progress_shows_on_a_terminal(program: Niximage, folder: Path) -> None:
    output, shown = program.on_terminal(
        "gc", "--bucket", folder.as_uri(), "--roots", "/dev/null", "--json"
    )
    assert json.loads(output)["freed"]["manifests"] == 2
    assert "deleting" in shown


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--grace", "10m"], "too short"),
        (["--grace", "soon"], "no duration"),
        (["--roots", "empty-of-digests"], "names no image"),
        ([], "which images are in use cannot be told"),
    ],
)
def test_what_would_be_dangerous_is_refused(
    program: Niximage, folder: Path, tmp_path: Path, arguments: list[str], told: str
) -> None:
    (tmp_path / "empty-of-digests").write_text("team-a/hello:latest\n")
    before = list(opened(folder).list(""))
    if "--grace" in arguments:
        arguments = [*arguments, "--roots", "/dev/null"]
    os.environ["KUBECONFIG"] = str(tmp_path / "absent")
    try:
        done = gc(program, folder, *arguments)
    finally:
        del os.environ["KUBECONFIG"]
    assert done.returncode == 65, done.stderr
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert list(opened(folder).list("")) == before


def attach(
    program: Niximage, folder: Path, image: str, *arguments: str | Path
) -> "subprocess.CompletedProcess[str]":
    return program.run("attach", image, *arguments, "--bucket", folder.as_uri())


@pytest.mark.parametrize(
    "image", [f"{REPOSITORY}@{NEW.digest}", f"localhost:5000/{REPOSITORY}:{'cd' * 32}"]
)
def test_a_file_is_attached_and_listed(
    program: Niximage, folder: Path, tmp_path: Path, image: str
) -> None:
    file = tmp_path / "sbom.json"
    file.write_text('{"spdxVersion": "SPDX-2.3"}')
    arguments = ("--type", "application/spdx+json", "--annotation", "who=me=you")
    done = attach(program, folder, image, file, *arguments)
    assert done.returncode == 0, done.stderr
    (found,) = list_referrers(opened(folder), REPOSITORY, NEW.digest)
    assert done.stdout == f"{REPOSITORY}@{found.descriptor.digest}\n"
    assert found.artifact_type == "application/spdx+json"
    assert found.annotations == {"who": "me=you"}
    (manifest,) = verify_image(opened(folder), REPOSITORY, found.descriptor.digest)
    content = opened(folder).read(keys.blob(manifest.layers[0].digest), limit=999)
    assert content == file.read_bytes()
    again = attach(program, folder, image, file, *arguments, "--json")
    assert json.loads(again.stdout)["digest"] == found.descriptor.digest


@pytest.mark.parametrize(
    ("image", "kind", "told"),
    [
        (f"team-a/absent@{NEW.digest}", "a/b", "is not in file://"),
        (f"{REPOSITORY}:absent", "a/b", "has no tag absent"),
        (REPOSITORY, "a/b", "has no digest"),
        ("../x@sha256:1", "a/b", "is no image"),
        (f"{REPOSITORY}@{NEW.digest}", "sbom", "is no media type"),
    ],
)
def test_what_cannot_be_attached_is_told(
    program: Niximage, folder: Path, image: str, kind: str, told: str
) -> None:
    file = program.home / "file"
    file.write_text("x")
    done = attach(program, folder, image, file, "--type", kind)
    assert done.returncode == 65, done.stderr
    assert told in done.stderr
    assert "Traceback" not in done.stderr
