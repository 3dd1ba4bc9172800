"""Images from the demo package set: equal digests, reused layers, programs that run."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from integration.builder.images import Folder
from integration.nix.demo import Demo
from niximage.api.spec import Config, EnvironmentVariable
from niximage.bucket import keys
from niximage.errors import Reason, Retryable, Terminal

PACKAGES = ("hello", "shell", "cacert", "manual")


def unpacked(bucket: Folder, digest: str, folder: Path) -> Path:
    """The root file system of an image, through skopeo and umoci, which verify all digests."""
    layout = bucket.layout(digest, folder / "layout")
    gzipped = folder / "gzipped"
    skopeo = ["skopeo", "--insecure-policy", "copy", "--quiet", "--dest-compress-format", "gzip"]
    copy = [*skopeo, f"oci:{layout}:latest", f"oci:{gzipped}:latest"]
    subprocess.run(copy, check=True, timeout=60, capture_output=True)
    umoci: list[str | Path] = ["umoci", "unpack", "--image", f"{gzipped}:latest", folder / "bundle"]
    if os.geteuid() != 0:
        umoci.insert(2, "--rootless")
    subprocess.run(umoci, check=True, timeout=60, capture_output=True)
    return folder / "bundle" / "rootfs"


def inside(root: Path, *command: str, user: int = 0) -> str:
    """What a program prints inside a root file system."""
    enter = ["chroot"] if os.geteuid() == 0 else ["unshare", "--map-root-user", "chroot"]
    done = subprocess.run(
        [*enter, f"--userspec={user}:{user}", root, *command],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        env={"PATH": "/bin:/sbin:/usr/bin:/usr/sbin"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("threads", [2, 8])
def test_two_empty_buckets_get_the_same_digest(demo: Demo, tmp_path: Path, threads: int) -> None:
    one, two = Folder.open(tmp_path / "one"), Folder.open(tmp_path / "two")
    first = one.build(demo, *PACKAGES, threads=1)
    second = two.build(demo, *PACKAGES, threads=threads)
    assert first == second
    assert one.blob(first.digest).read_bytes() == two.blob(first.digest).read_bytes()
    assert first.reused_layers == 0


def test_the_order_of_packages_does_not_change_the_digest(demo: Demo, bucket: Folder) -> None:
    first = bucket.build(demo, "hello", "cowsay", name="one")
    second = bucket.build(demo, "cowsay", "hello", name="two")
    assert first.digest == second.digest


def test_programs_run_in_what_other_tools_unpack(
    demo: Demo, bucket: Folder, tmp_path: Path
) -> None:
    result = bucket.build(demo, *PACKAGES)
    root = unpacked(bucket, result.digest, tmp_path)
    assert inside(root, "/bin/hello") == "Hello from Nix on Kubernetes!\n"
    assert inside(root, "/bin/sh", "-c", "manual") == "read me\n"
    assert inside(root, "/usr/bin/env", "whoami") == "root\n"
    assert inside(root, "/bin/sh", "-c", "cat /etc/ssl/certs/ca-certificates.crt").startswith(
        "-----BEGIN CERTIFICATE-----\n"
    )
    assert (root / "tmp").stat().st_mode & 0o7777 == 0o1777
    assert (root / "nix" / "store").stat().st_mode & 0o7777 == 0o755
    assert (root / "share" / "doc").is_symlink()


def test_the_config_has_defaults_and_what_was_asked_for(demo: Demo, bucket: Folder) -> None:
    config = Config(cmd=["/bin/hello"], env=[EnvironmentVariable(name="LANG", value="C.UTF-8")])
    found = bucket.config(bucket.build(demo, *PACKAGES, config=config).digest)
    assert found["config"] == {
        "Cmd": ["/bin/hello"],
        "Env": [
            "PATH=/bin:/sbin:/usr/bin:/usr/sbin",
            "SSL_CERT_FILE=/etc/ssl/certs/ca-bundle.crt",
            "LANG=C.UTF-8",
        ],
    }
    assert (found["architecture"], found["os"]) == ("amd64", "linux")
    assert len(found["history"]) == len(found["rootfs"]["diff_ids"])


def test_a_second_image_reuses_the_layers_that_it_shares(demo: Demo, bucket: Folder) -> None:
    hello = bucket.build(demo, "hello", "shell", name="one")
    cowsay = bucket.build(demo, "cowsay", "shell", "dataset", name="two")
    shared = set(bucket.layers(hello.digest)) & set(bucket.layers(cowsay.digest))
    sizes = {bucket.blob(digest).stat().st_size for digest in shared}
    assert (cowsay.reused_layers, cowsay.reused_size) == (1, sum(sizes))
    assert max(sizes) > 1_000_000


def test_what_was_built_before_is_not_built_again(demo: Demo, bucket: Folder) -> None:
    first = bucket.build(demo, "hello")
    said: list[str] = []
    second = bucket.build(demo, "hello", said=said)
    assert said == [f"team/image@{first.digest} was built before"]
    assert second.digest == first.digest


def test_an_image_of_another_name_is_published_under_it(demo: Demo, bucket: Folder) -> None:
    first = bucket.build(demo, "hello", name="one")
    said: list[str] = []
    second = bucket.build(demo, "hello", name="two", said=said)
    assert said == [f"team/two@{first.digest} was built before"]
    assert (second.digest, second.repository) == (first.digest, "team/two")
    assert second.reused_layers == second.layers
    assert (bucket.path / keys.revision_link("team/two", first.digest)).is_file()


def test_a_layer_whose_blob_is_gone_is_packed_again(demo: Demo, bucket: Folder) -> None:
    first = bucket.build(demo, "hello", "shell")
    gone = max(bucket.layers(first.digest), key=lambda digest: bucket.blob(digest).stat().st_size)
    bucket.blob(gone).unlink()
    second = bucket.build(demo, "hello", "shell")
    assert second.digest == first.digest
    assert bucket.blob(gone).is_file()
    assert second.reused_layers == second.layers - 1


def test_a_new_edition_keeps_what_did_not_change(tmp_path: Path, bucket: Folder) -> None:
    moving = Demo.make(tmp_path / "moving")
    before = bucket.build(moving, "hello", "dataset")
    moving.move("another")
    after = bucket.build(moving, "hello", "dataset")
    assert after.digest != before.digest
    assert len(set(bucket.layers(after.digest)) - set(bucket.layers(before.digest))) == 2


def test_a_new_revision_that_changes_nothing_keeps_the_digest(
    tmp_path: Path, bucket: Folder
) -> None:
    moving = Demo.make(tmp_path / "moving")
    before = bucket.build(moving, "cacert", "dataset")
    moving.move("another")
    after = bucket.build(moving, "cacert", "dataset")
    assert after.input_hash != before.input_hash
    assert after.digest == before.digest


def test_packages_with_files_of_one_name_are_told_apart(demo: Demo, bucket: Folder) -> None:
    with pytest.raises(Terminal) as caught:
        bucket.build(demo, "greet-loudly", "greet-softly")
    assert caught.value.reason is Reason.FILE_CONFLICT
    assert "/bin/greet: greet-loudly and greet-softly" in caught.value.message
    assert not list(bucket.path.rglob("revisions"))


def test_a_build_that_fails_publishes_nothing(demo: Demo, bucket: Folder) -> None:
    with pytest.raises(Terminal) as caught:
        bucket.build(demo, "hello", "needs-broken")
    assert caught.value.reason is Reason.BUILD_FAILED
    assert "the demo breaks here" in caught.value.log_tail
    assert not [path for path in bucket.path.rglob("*") if path.is_file()]


def test_progress_tells_what_is_done(demo: Demo, bucket: Folder) -> None:
    said: list[str] = []
    result = bucket.build(demo, "hello", said=said)
    text = "\n".join(said)
    for part in (
        "fetched revision",
        "evaluated 1 package for linux/amd64",
        "realised 1 output ",
        "packed",
    ):
        assert part in text
    assert said[-1].startswith(f"team/image@{result.digest}: 3 layers")


def test_a_bucket_that_is_not_there_is_told_so(demo: Demo, tmp_path: Path) -> None:
    bucket = Folder.open(tmp_path / "bucket")
    (tmp_path / "bucket").rmdir()
    (tmp_path / "bucket").write_text("in the way")
    with pytest.raises(Retryable) as caught:
        bucket.build(demo, "hello")
    assert caught.value.reason is Reason.BUCKET_UNAVAILABLE


def test_the_result_fits_a_termination_message(demo: Demo, bucket: Folder) -> None:
    message = bucket.build(demo, "hello").to_message()
    assert len(message) <= 1024
    assert json.loads(message)["repository"] == "team/image"
