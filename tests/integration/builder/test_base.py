"""Images upon images: of this bucket, and of any registry, made by anybody."""

import io
import json
import sqlite3
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import zstandard

from integration.builder.bases import (
    DEBIAN,
    PASSWD,
    Foreign,
    as_docker,
    entry,
    foreign_image,
    index,
    publish_document,
    tar,
)
from integration.builder.images import Folder
from integration.builder.test_local import inside, unpacked
from integration.gateway.conftest import Client, running
from integration.nix.demo import Demo
from niximage.api.build import PinnedBase, PublishResult
from niximage.api.spec import Config, EnvironmentVariable
from niximage.bucket import keys
from niximage.errors import NixImageError, Reason, Retryable, Terminal
from niximage.image.closure import Closure
from niximage.image.database import nix_database
from niximage.image.descriptor import LAYER_GZIP, LAYER_TAR, LAYER_ZSTD, Descriptor


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Folder]:
    """The bucket behind another registry."""
    opened = Folder.open(tmp_path / "elsewhere")
    yield opened
    opened.store.close()


@pytest.fixture
def registry(elsewhere: Folder) -> Iterator[Client]:
    """Another registry, on loopback."""
    with running(elsewhere.store) as client:
        yield client


@pytest.fixture
def debian_base(elsewhere: Folder, registry: Client) -> PinnedBase:
    """A Debian in the other registry."""
    debian = foreign_image(*DEBIAN)
    debian.publish(elsewhere.store, "library/debian")
    return of_registry(registry, debian.digest)


def of_registry(registry: Client, digest: str) -> PinnedBase:
    return PinnedBase(image=f"{registry.address}/library/debian", digest=digest)


def of_bucket(result: PublishResult) -> PinnedBase:
    return PinnedBase(repository=result.repository, digest=result.digest)


def top_layer(bucket: Folder, result: PublishResult) -> dict[str, bytes]:
    """The files of an image's last layer."""
    blob = bucket.blob(bucket.layers(result.digest)[-1]).read_bytes()
    content = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(blob), read_across_frames=True)
    with tarfile.open(fileobj=io.BytesIO(content.read())) as archive:
        found = {member.name: archive.extractfile(member) for member in archive if member.isfile()}
        return {name: file.read() for name, file in found.items() if file is not None}


def listed(folder: Path) -> dict[str, str]:
    """What is in a folder: names, and where links lead."""
    return {
        str(path.relative_to(folder)): str(path.readlink()) if path.is_symlink() else ""
        for path in folder.rglob("*")
    }


def test_a_debian_keeps_its_links_and_all_that_is_behind_them(
    demo: Demo, bucket: Folder, elsewhere: Folder, registry: Client, tmp_path: Path
) -> None:
    debian = foreign_image(*DEBIAN, kinds=(LAYER_GZIP, LAYER_ZSTD, LAYER_TAR))
    debian.publish(elsewhere.store, "library/debian")
    result = bucket.build(demo, "cowsay", "shell", base=of_registry(registry, debian.digest))
    assert bucket.layers(result.digest)[:3] == debian.layers, "blobs are taken as they are"
    root = unpacked(bucket, result.digest, tmp_path)
    for name in ("bin", "sbin", "lib"):
        assert str((root / name).readlink()) == f"usr/{name}"
    found = listed(root)
    assert {"usr/bin/dpkg", "usr/lib/libc.so.6", "usr/share/man/dpkg.1"} <= set(found)
    assert "usr/share/gone" not in found, "what the base removed stays away"
    assert found["usr/bin/cowsay"].startswith("/nix/store/")
    assert inside(root, "/bin/cowsay", "moo").strip()
    assert (root / "etc" / "passwd").read_bytes() == PASSWD
    assert (root / "etc").stat().st_mode & 0o7777 == 0o750, "directories keep their modes"
    assert (root / "root").stat().st_mode & 0o7777 == 0o711
    assert (root / "tmp").stat().st_mode & 0o7777 == 0o1777
    assert str((root / "var" / "run").readlink()) == "/run"


def test_a_file_of_the_image_replaces_one_of_the_base(
    demo: Demo, bucket: Folder, debian_base: PinnedBase, tmp_path: Path
) -> None:
    result = bucket.build(demo, "hello", base=debian_base)
    root = unpacked(bucket, result.digest, tmp_path)
    assert inside(root, "/usr/bin/hello") == "Hello from Nix on Kubernetes!\n"


def test_the_configs_are_merged(demo: Demo, bucket: Folder, debian_base: PinnedBase) -> None:
    env = [EnvironmentVariable(name="LANG", value="C.UTF-8"), EnvironmentVariable(name="A")]
    result = bucket.build(
        demo,
        "hello",
        config=Config(cmd=["hello"], env=env, labels={"mine": "yes"}),
        base=debian_base,
    )
    config = bucket.config(result.digest)
    assert config["config"] == {
        "Cmd": ["hello"],
        "Entrypoint": ["/entry"],
        "Env": [
            "PATH=/usr/local/bin:/usr/bin:/bin:/sbin:/usr/sbin",
            "DEBIAN=yes",
            "LANG=C.UTF-8",
            "A=",
        ],
        "Labels": {"from": "debian", "mine": "yes"},
        "WorkingDir": "/var",
    }
    layers = [entry for entry in config["history"] if not entry.get("empty_layer")]
    assert len(layers) == len(config["rootfs"]["diff_ids"]) == result.layers
    assert [entry["created_by"] for entry in config["history"][:5]] == [
        "debuerreotype",
        "CMD serve",
        "RUN",
        "RUN",
        "niximage",
    ]


def test_a_journal_of_the_base_is_not_played_back_into_the_image_s_database(
    demo: Demo, bucket: Folder, elsewhere: Folder, registry: Client, tmp_path: Path
) -> None:
    """Nix was killed while the base was made: what it wrote last is in the log beside."""
    name = "nix/var/nix/db/db.sqlite"
    file = tmp_path / "db.sqlite"
    file.write_bytes(nix_database(Closure.of([])))
    with closing(sqlite3.connect(file)) as killed:
        killed.execute("PRAGMA journal_mode = WAL")
        killed.execute("PRAGMA wal_autocheckpoint = 0")
        many = [(f"/nix/store/{number:032}-base", "sha256:x", 1) for number in range(999)]
        killed.executemany(
            "INSERT INTO ValidPaths (path, hash, registrationTime) VALUES (?, ?, ?)", many
        )
        killed.commit()
        left = {end: file.with_name(f"db.sqlite{end}").read_bytes() for end in ("", "-shm", "-wal")}
    folders = [entry(str(parent)) for parent in reversed(Path(name).parents[:-1])]
    files = [entry(f"{name}{end}", content, mode=0o644) for end, content in left.items()]
    base = foreign_image(tar([*folders, *files]))
    base.publish(elsewhere.store, "library/debian")
    result = bucket.build(demo, "hello", base=of_registry(registry, base.digest), nix_database=True)
    root = unpacked(bucket, result.digest, tmp_path)
    with closing(sqlite3.connect(root / name)) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        paths = {path for (path,) in database.execute("SELECT path FROM ValidPaths")}
    assert paths == {f"/nix/store/{each.name}" for each in (root / "nix" / "store").iterdir()}


def test_a_docker_image_becomes_an_oci_image(
    demo: Demo, bucket: Folder, elsewhere: Folder, registry: Client, tmp_path: Path
) -> None:
    original = foreign_image(*DEBIAN)
    original.publish(elsewhere.store, "library/original")
    docker = as_docker(
        f"{registry.address}/library/original@{original.digest}", tmp_path / "docker"
    )
    assert b"application/vnd.docker.image.rootfs.diff.tar.gzip" in docker.manifest
    docker.publish(elsewhere.store, "library/debian")
    result = bucket.build(demo, "hello", base=of_registry(registry, docker.digest))
    manifest = bucket.read(result.digest)
    assert "docker" not in json.dumps(manifest)
    assert [layer["digest"] for layer in manifest["layers"][:3]] == docker.layers
    assert inside(unpacked(bucket, result.digest, tmp_path / "image"), "/bin/hello")


def test_of_an_index_the_image_of_the_platform_is_taken(
    demo: Demo, bucket: Folder, elsewhere: Folder, registry: Client
) -> None:
    ours, other = foreign_image(*DEBIAN), foreign_image(*DEBIAN, architecture="arm64")
    for image in (ours, other):
        image.publish(elsewhere.store, "library/debian")
    digest = publish_document(
        elsewhere.store, "library/debian", index((other, "arm64"), (ours, "amd64"))
    )
    result = bucket.build(demo, "hello", base=of_registry(registry, digest))
    assert bucket.layers(result.digest)[:3] == ours.layers


def test_a_base_is_fetched_once(
    demo: Demo, bucket: Folder, elsewhere: Folder, tmp_path: Path
) -> None:
    debian = foreign_image(*DEBIAN)
    debian.publish(elsewhere.store, "library/debian")
    with running(elsewhere.store) as registry:
        base = of_registry(registry, debian.digest)
        first = bucket.build(demo, "hello", base=base)
    second = bucket.build(demo, "cowsay", base=base)
    assert bucket.layers(second.digest)[:3] == bucket.layers(first.digest)[:3]
    assert first.reused_layers == 0
    assert second.reused_layers >= 3


def test_the_same_base_gives_the_same_digest_fetched_or_known(
    demo: Demo, bucket: Folder, debian_base: PinnedBase, tmp_path: Path
) -> None:
    base = debian_base
    first = bucket.build(demo, "hello", base=base, name="one")
    second = bucket.build(demo, "hello", base=base, name="two")
    other = Folder.open(tmp_path / "other").build(demo, "hello", base=base)
    assert first.digest == second.digest == other.digest


def test_store_paths_of_a_foreign_base_are_not_packed_again(
    demo: Demo, bucket: Folder, elsewhere: Folder, registry: Client
) -> None:
    """An image of ours in a registry is as foreign as any."""
    inner = elsewhere.build(demo, "shell", "dataset", name="inner")
    base = PinnedBase(image=f"{registry.address}/team/inner", digest=inner.digest)
    result = bucket.build(demo, "hello", "dataset", base=base)
    own = set(bucket.layers(result.digest)) - set(elsewhere.layers(inner.digest))
    assert bucket.layers(result.digest)[: inner.layers] == elsewhere.layers(inner.digest)
    assert sum(bucket.blob(digest).stat().st_size for digest in own) < 100_000


@pytest.mark.parametrize(
    ("user", "line"),
    [
        ("www-data", ""),
        ("33", ""),
        ("app", "app:x:1000:1000::/home/app:/bin/sh\n"),
        ("4000", "user:x:4000:4000::/home/user:/bin/sh\n"),
        (None, ""),
    ],
)
def test_users_of_the_base_stay_and_the_images_own_is_added(
    demo: Demo, bucket: Folder, debian_base: PinnedBase, user: str | None, line: str
) -> None:
    base = debian_base
    result = bucket.build(demo, "hello", config=Config(user=user), base=base)
    files = top_layer(bucket, result)
    expected = PASSWD + line.encode() if line else None
    assert files.get("etc/passwd") == expected


# Bases of the same bucket ------------------------------------------------------------------------


def test_a_niximage_base_is_neither_read_nor_packed_again(demo: Demo, bucket: Folder) -> None:
    inner = bucket.build(demo, "shell", "dataset", name="base")
    result = bucket.build(demo, "hello", "dataset", base=of_bucket(inner))
    assert bucket.layers(result.digest)[: inner.layers] == bucket.layers(inner.digest)
    assert result.layers == inner.layers + 2, "hello, and the root"
    assert result.reused_layers == inner.layers


def test_an_image_upon_an_image_upon_an_image_runs(
    demo: Demo, bucket: Folder, tmp_path: Path
) -> None:
    first = bucket.build(demo, "shell", "manual", name="base")
    second = bucket.build(demo, "hello", "cacert", name="second", base=of_bucket(first))
    third = bucket.build(demo, "cowsay", name="third", base=of_bucket(second))
    root = unpacked(bucket, third.digest, tmp_path)
    assert inside(root, "/bin/sh", "-c", "manual") == "read me\n"
    assert inside(root, "/bin/hello") == "Hello from Nix on Kubernetes!\n"
    assert inside(root, "/bin/cowsay", "moo").strip()
    env = bucket.config(third.digest)["config"]["Env"]
    assert "SSL_CERT_FILE=/etc/ssl/certs/ca-bundle.crt" in env


def test_without_its_record_a_base_is_listed_and_the_digest_is_the_same(
    demo: Demo, bucket: Folder
) -> None:
    inner = bucket.build(demo, "shell", "dataset", name="base")
    first = bucket.build(demo, "hello", "dataset", name="one", base=of_bucket(inner))
    for record in (bucket.path / keys.OWN / "contents").rglob("*"):
        if record.is_file():
            record.write_text("{}")
    second = bucket.build(demo, "hello", "dataset", name="two", base=of_bucket(inner))
    assert second.digest == first.digest


def test_directories_that_base_and_image_have_are_merged(
    demo: Demo, bucket: Folder, tmp_path: Path
) -> None:
    """The base has one link for all of `share/doc`, into a store path that the image lacks."""
    inner = bucket.build(demo, "manual", name="base")
    plain = unpacked(bucket, inner.digest, tmp_path / "plain")
    assert (plain / "share" / "doc").is_symlink()
    result = bucket.build(
        demo,
        "hello",
        base=of_bucket(inner),
        files=[{"path": "/share/doc/mine", "content": "mine"}],
    )
    root = unpacked(bucket, result.digest, tmp_path / "merged")
    assert not (root / "share" / "doc").is_symlink()
    before = {
        path.name for path in (root / str((plain / "share" / "doc").readlink())[1:]).iterdir()
    }
    there = {path.name for path in (root / "share" / "doc").iterdir()}
    assert there == before | {"mine"}
    assert before


# What cannot be a base ----------------------------------------------------------------------------


def refused(demo: Demo, bucket: Folder, base: PinnedBase) -> NixImageError:
    with pytest.raises((Terminal, Retryable)) as caught:
        bucket.build(demo, "hello", base=base)
    assert not list(bucket.path.rglob("revisions")), "nothing was published"
    return caught.value


def test_a_base_that_is_not_there(demo: Demo, bucket: Folder, registry: Client) -> None:
    error = refused(demo, bucket, of_registry(registry, f"sha256:{'0' * 64}"))
    assert (type(error), error.reason) == (Terminal, Reason.REFERENCE_NOT_FOUND)


def test_a_registry_that_is_not_there(demo: Demo, bucket: Folder) -> None:
    base = PinnedBase(image="127.0.0.1:9/library/debian", digest=f"sha256:{'0' * 64}")
    error = refused(demo, bucket, base)
    assert (type(error), error.reason) == (Retryable, Reason.SOURCE_UNAVAILABLE)
    assert "connection refused" in error.message


def test_a_base_for_another_platform(
    demo: Demo, bucket: Folder, elsewhere: Folder, registry: Client
) -> None:
    other = foreign_image(*DEBIAN, architecture="arm64")
    other.publish(elsewhere.store, "library/debian")
    base = of_registry(registry, other.digest)
    assert refused(demo, bucket, base).message == (
        f"the base {base} is for linux/arm64, not for linux/amd64"
    )
    digest = publish_document(elsewhere.store, "library/debian", index((other, "arm64")))
    base = of_registry(registry, digest)
    assert refused(demo, bucket, base).message == (
        f"the base {base} is for linux/arm64, not for linux/amd64"
    )


def test_a_base_with_layers_for_windows(
    demo: Demo, bucket: Folder, elsewhere: Folder, registry: Client
) -> None:
    image = foreign_image(*DEBIAN)
    kind = b"application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
    changed = Foreign(image.manifest.replace(LAYER_GZIP.encode(), kind), image.blobs)
    changed.publish(elsewhere.store, "library/debian")
    error = refused(demo, bucket, of_registry(registry, changed.digest))
    assert error.reason is Reason.INVALID_SPEC
    assert kind.decode() in error.message


def test_a_layer_that_is_not_the_tar_its_config_names(
    demo: Demo, bucket: Folder, elsewhere: Folder, registry: Client
) -> None:
    one, two = foreign_image(DEBIAN[0]), foreign_image(DEBIAN[1])
    manifest = json.loads(one.manifest)
    manifest["layers"] = json.loads(two.manifest)["layers"]
    mixed = Foreign(json.dumps(manifest).encode(), {**one.blobs, **two.blobs})
    mixed.publish(elsewhere.store, "library/debian")
    error = refused(demo, bucket, of_registry(registry, mixed.digest))
    assert (type(error), error.reason) == (Terminal, Reason.HASH_MISMATCH), error.message


def test_a_blob_that_is_not_what_its_digest_says(
    demo: Demo, bucket: Folder, elsewhere: Folder, registry: Client
) -> None:
    image = foreign_image(*DEBIAN)
    image.publish(elsewhere.store, "library/debian")
    path = elsewhere.blob(image.layers[0])
    path.write_bytes(b"x" * path.stat().st_size)
    error = refused(demo, bucket, of_registry(registry, image.digest))
    assert (type(error), error.reason) == (Terminal, Reason.HASH_MISMATCH), error.message


def test_a_manifest_that_is_not_what_its_digest_says(
    demo: Demo, bucket: Folder, elsewhere: Folder, registry: Client
) -> None:
    image = foreign_image(*DEBIAN)
    image.publish(elsewhere.store, "library/debian")
    elsewhere.blob(image.digest).write_bytes(image.manifest + b" ")
    error = refused(demo, bucket, of_registry(registry, image.digest))
    assert error.reason in {Reason.HASH_MISMATCH, Reason.SOURCE_UNAVAILABLE}


def test_a_layer_that_is_cut_off(
    demo: Demo, bucket: Folder, elsewhere: Folder, registry: Client
) -> None:
    image = foreign_image(DEBIAN[0])
    blob = next(content for d, content in image.blobs.items() if d.media_type == LAYER_GZIP)
    cut = Descriptor.of(LAYER_GZIP, blob[:-100])
    manifest = json.loads(image.manifest)
    manifest["layers"] = [cut.to_json()]
    Foreign(json.dumps(manifest).encode(), {**image.blobs, cut: blob[:-100]}).publish(
        elsewhere.store, "library/debian"
    )
    digest = Descriptor.of("", json.dumps(manifest).encode()).digest
    error = refused(demo, bucket, of_registry(registry, digest))
    assert (type(error), error.reason) == (Terminal, Reason.HASH_MISMATCH), error.message
    assert "ends in the middle" in error.message


def test_a_base_with_a_file_where_the_image_needs_a_directory(
    demo: Demo, bucket: Folder, elsewhere: Folder, registry: Client
) -> None:
    image = foreign_image(tar([entry("usr"), entry("usr/bin", b"odd"), entry("bin", b"odd")]))
    image.publish(elsewhere.store, "library/debian")
    error = refused(demo, bucket, of_registry(registry, image.digest))
    assert error.reason is Reason.FILE_CONFLICT
    assert "/bin: a file in the base, a directory in the image" in error.message


def test_a_base_whose_layers_leave_no_room(
    demo: Demo, bucket: Folder, elsewhere: Folder, registry: Client
) -> None:
    image = foreign_image(*(tar([entry(f"file-{n}", b"")]) for n in range(126)))
    image.publish(elsewhere.store, "library/debian")
    error = refused(demo, bucket, of_registry(registry, image.digest))
    assert "has 126 layers; runtimes take 127 in all" in error.message


def test_an_unknown_base_of_the_bucket(demo: Demo, bucket: Folder) -> None:
    base = PinnedBase(repository="team/base", digest=f"sha256:{'0' * 64}")
    error = refused(demo, bucket, base)
    assert (type(error), error.reason) == (Retryable, Reason.REFERENCE_NOT_FOUND)


# Other programs' word -----------------------------------------------------------------------------


def test_crane_and_skopeo_find_nothing_wrong(
    demo: Demo, bucket: Folder, tools: Path, tmp_path: Path
) -> None:
    """`crane validate` reads gzip alone."""
    debian = foreign_image(*DEBIAN, history=False)
    debian.publish(bucket.store, "library/debian")
    with running(bucket.store) as client:
        base = of_registry(client, debian.digest)
        result = bucket.build(demo, "hello", "shell", base=base, compression="gzip")
        reference = f"{client.address}/{result.repository}@{result.digest}"
        done = subprocess.run(
            [tools / "crane", "validate", "--remote", reference],
            capture_output=True,
            check=False,
            timeout=60,
            env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
        )
        assert done.returncode == 0, done.stderr
        inspected = subprocess.run(
            ["skopeo", "inspect", "--tls-verify=false", f"docker://{reference}"],
            capture_output=True,
            check=True,
            timeout=60,
        )
    assert json.loads(inspected.stdout)["Layers"] == bucket.layers(result.digest)
