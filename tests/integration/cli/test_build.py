"""`niximage build` as users run it: documents, words, exit codes, files that others load."""

import json
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from integration.builder.bases import DEBIAN, foreign_image
from integration.cli.program import Niximage
from integration.gateway.conftest import running
from integration.nix.demo import Demo
from integration.private_git import BASIC, private_http
from niximage.bucket import keys, open_store
from niximage.errors import EXIT_RETRYABLE, EXIT_TERMINAL


def nix_image(**spec: Any) -> str:
    """A NixImage whose source is replaced by a folder."""
    document = {
        "apiVersion": "niximage.dev/v1alpha1",
        "kind": "NixImage",
        "metadata": {"name": "web", "namespace": "team"},
        "spec": {
            "packages": ["hello"],
            "source": {"nixpkgs": {"channel": "nixos-26.05"}},
            **spec,
        },
    }
    return yaml.safe_dump(document)


def test_the_document_tells_all_of_an_image(niximage: Niximage) -> None:
    report = niximage.document("-p", "hello", "-p", "shell", "-o", "oci:image")
    assert set(report) == {"image", "digest", "revision", "platforms", "bytes", "seconds"}
    assert report["image"] == f"default/image@{report['digest']}"
    (platform,) = report["platforms"]
    assert (platform["platform"], platform["digest"]) == ("linux/amd64", report["digest"])
    store = niximage.bucket
    manifest = json.loads((store / keys.blob(report["digest"])).read_bytes())
    config = json.loads((store / keys.blob(manifest["config"]["digest"])).read_bytes())
    layers = platform["layers"]
    assert [layer["digest"] for layer in layers] == [each["digest"] for each in manifest["layers"]]
    assert [layer["size"] for layer in layers] == [each["size"] for each in manifest["layers"]]
    assert [layer["diffID"] for layer in layers] == config["rootfs"]["diff_ids"]
    assert {layer["reused"] for layer in layers} == {False}
    paths = [path for layer in layers for path in layer["paths"]]
    assert {path[44:] for path in paths} == {"hello-2.12", "greeting-data-1.0", "shell-1.36"}
    assert layers[-1]["paths"] == []
    count = report["bytes"]
    assert count["uploaded"] == sum(layer["size"] for layer in layers)
    assert count["reused"] == 0
    assert count["packed"] > count["closure"] > count["uploaded"]
    assert list(report["seconds"]) == ["evaluate", "realise", "plan", "pack", "publish"]
    assert all(seconds > 0 for seconds in report["seconds"].values())


def test_a_second_build_tells_what_was_reused(niximage: Niximage) -> None:
    niximage.document("-p", "shell", "-o", "oci:image")
    report = niximage.document("-p", "hello", "-p", "shell", "-o", "oci:image")
    layers = report["platforms"][0]["layers"]
    assert [layer["reused"] for layer in layers if layer["size"] > 100_000] == [True]
    assert report["bytes"]["reused"] > 100_000 > report["bytes"]["uploaded"] > 0
    again = niximage.document("-p", "hello", "-p", "shell", "-o", "oci:image")
    assert {layer["reused"] for layer in again["platforms"][0]["layers"]} == {True}
    assert again["digest"] == report["digest"]
    assert again["bytes"]["uploaded"] == again["bytes"]["packed"] == 0


def test_words_go_to_standard_output_and_progress_to_standard_error(niximage: Niximage) -> None:
    done = niximage.build("-p", "hello", "-o", "oci:image", "--name", "greeter")
    assert done.returncode == 0
    first, *rest = done.stdout.splitlines()
    assert first.startswith("default/greeter@sha256:")
    assert rest[0].startswith("  3 layers, ")
    assert rest[1:] == ["  written to oci:image"]
    for words in ("evaluated 1 package for linux/amd64 in", "packed ", "wrote oci:image in"):
        assert words in done.stderr


def test_on_a_terminal_the_stages_and_layers_are_seen(niximage: Niximage) -> None:
    output, shown = niximage.on_terminal(
        *("build", "--source", niximage.package_set, "-p", "dataset", "-o", "oci:image", "--json")
    )
    assert json.loads(output)["image"]
    for words in ("evaluating", "packing", "/s  dataset-1.0", "published in"):
        assert words in shown
    assert "\x1b[" in shown


def test_a_file_with_another_source_and_the_default_bucket(niximage: Niximage) -> None:
    (niximage.home / "web.yaml").write_text(nix_image(config={"cmd": ["hello"]}))
    report = niximage.document("-f", "web.yaml", "-o", "docker-archive:image.tar")
    assert report["image"].startswith("team/web@sha256:")
    assert (niximage.bucket / keys.revision_link("team/web", report["digest"])).is_file()


def test_a_bucket_of_ones_own(niximage: Niximage, tmp_path: Path) -> None:
    bucket = tmp_path / "mine"
    bucket.mkdir()
    report = niximage.document("-p", "hello", "--bucket", bucket.as_uri())
    assert (bucket / keys.blob(report["digest"])).is_file()
    assert not niximage.bucket.exists()


# Files that other programs load ------------------------------------------------------------------


def skopeo(*arguments: str, folder: Path) -> bytes:
    done = subprocess.run(
        ["skopeo", "--insecure-policy", *arguments],
        cwd=folder,
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


OUTPUTS = {"oci": "image", "oci-archive": "image.tar", "docker-archive": "image.tar"}


@pytest.mark.parametrize("kind", OUTPUTS)
def test_skopeo_reads_every_output(niximage: Niximage, kind: str) -> None:
    output = f"{kind}:{OUTPUTS[kind]}"
    report = niximage.document("-p", "hello", "-p", "shell", "-o", output)
    inspected = json.loads(skopeo("inspect", output, folder=niximage.home))
    layers = report["platforms"][0]["layers"]
    skopeo("copy", "--quiet", output, "dir:copy", folder=niximage.home)
    if kind == "docker-archive":
        assert inspected["Layers"] == [layer["diffID"] for layer in layers]
    else:
        assert inspected["Digest"] == report["digest"]
        assert inspected["Layers"] == [layer["digest"] for layer in layers]
    config = json.loads(skopeo("inspect", "--config", output, folder=niximage.home))
    assert config["rootfs"]["diff_ids"] == [layer["diffID"] for layer in layers]


def test_a_docker_archive_is_named_and_valid(niximage: Niximage, tools: Path) -> None:
    niximage.document("-p", "hello", "-p", "shell", "--name", "web", "-o", "docker-archive:x.tar")
    with tarfile.open(niximage.home / "x.tar") as archive:
        member = archive.extractfile("manifest.json")
        assert member is not None
        (described,) = json.loads(member.read())
        assert described["RepoTags"] == ["default/web:latest"]
        assert len(archive.getnames()) == len(set(archive.getnames()))
    done = subprocess.run(
        [tools / "crane", "validate", "--tarball", niximage.home / "x.tar"],
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr


def test_an_output_is_the_same_every_time(niximage: Niximage) -> None:
    for kind in ("oci-archive", "docker-archive"):
        for number in (1, 2):
            niximage.document("-p", "hello", "-o", f"{kind}:{kind}-{number}")
        one, two = (niximage.home / f"{kind}-{number}" for number in (1, 2))
        assert one.read_bytes() == two.read_bytes()


def test_a_layout_takes_one_image_after_the_other(niximage: Niximage) -> None:
    niximage.document("-p", "hello", "-o", "oci:image")
    second = niximage.document("-p", "cowsay", "-o", "oci:image")
    index = json.loads((niximage.home / "image" / "index.json").read_bytes())
    assert [each["digest"] for each in index["manifests"]] == [second["digest"]]
    assert (
        json.loads(skopeo("inspect", "oci:image:latest", folder=niximage.home))["Digest"]
        == (second["digest"])
    )


def test_umoci_unpacks_a_layout(niximage: Niximage, tmp_path: Path) -> None:
    (niximage.home / "web.yaml").write_text(nix_image(compression="gzip"))
    niximage.document("-f", "web.yaml", "-o", "oci:image")
    subprocess.run(
        ["umoci", "unpack", "--rootless", "--image", "image:latest", "bundle"],
        cwd=niximage.home,
        capture_output=True,
        check=True,
        timeout=60,
    )
    assert (niximage.home / "bundle" / "rootfs" / "bin" / "hello").is_symlink()


# Bases -------------------------------------------------------------------------------------------


def test_a_base_of_a_registry_by_option(niximage: Niximage, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    store = open_store((tmp_path / "elsewhere").as_uri())
    debian = foreign_image(*DEBIAN)
    debian.publish(store, "library/debian")
    with running(store) as registry:
        base = f"{registry.address}/library/debian:12@{debian.digest}"
        report = niximage.document("-p", "hello", "--base", base, "-o", "oci:image")
    layers = report["platforms"][0]["layers"]
    assert [layer["digest"] for layer in layers[:3]] == debian.layers
    assert report["bytes"]["uploaded"] == sum(layer["size"] for layer in layers)


def test_a_base_of_the_bucket_by_option_and_by_file(niximage: Niximage) -> None:
    inner = niximage.document("-p", "shell", "--name", "base", "-o", "oci:image")
    outer = niximage.document("-p", "hello", "--base", inner["image"], "-o", "oci:image")
    below = [layer["digest"] for layer in inner["platforms"][0]["layers"]]
    layers = outer["platforms"][0]["layers"]
    assert [layer["digest"] for layer in layers[: len(below)]] == below
    assert [layer["reused"] for layer in layers] == [True] * len(below) + [False] * 2
    file = nix_image(base={"niximage": {"name": "base"}})
    (niximage.home / "web.yaml").write_text(file.replace("namespace: team", "namespace: default"))
    same = niximage.document("-f", "web.yaml", "--base", inner["digest"], "-o", "oci:image")
    assert same["digest"] == outer["digest"]


# What goes wrong ---------------------------------------------------------------------------------

GONE = f"sha256:{'0' * 64}"


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ("-p hello", EXIT_TERMINAL, "InvalidSpec: where is the image to go?"),
        ("-o oci:x", EXIT_TERMINAL, "Name a file with -f image.yaml, or packages"),
        ("-p hello -f web.yaml -o oci:x", EXIT_TERMINAL, "name a file with -f, or packages with"),
        ("-p hello --channel nixos-26.05 -o oci:x", EXIT_TERMINAL, "are two sources"),
        ("-f web.yaml --name y -o oci:x", EXIT_TERMINAL, "--channel and --name belong to -p"),
        ("-p hello -o zip:x", EXIT_TERMINAL, "'zip:x' is no output"),
        ("-p hello -o oci:", EXIT_TERMINAL, "'oci:' is no output"),
        ("-p hello -o oci:full", EXIT_TERMINAL, "full is no OCI layout, and not empty"),
        ("-p hello -o oci-archive:no/such/x", EXIT_TERMINAL, "cannot be written: No such file"),
        ("-p hello;x -o oci:x", EXIT_TERMINAL, "packages.0"),
        ("-p hello --name Web -o oci:x", EXIT_TERMINAL, "InvalidSpec: name:"),
        ("-p hallo -o oci:x", EXIT_TERMINAL, "PackageNotFound"),
        ("-p needs-broken -o oci:x", EXIT_TERMINAL, "last lines of its log"),
        ("-p hello --attr no.such -o oci:x", EXIT_TERMINAL, "InvalidSource"),
        ("-p hello --path no/such -o oci:x", EXIT_TERMINAL, "InvalidSource"),
        ("-p hello --bucket s3://x", EXIT_TERMINAL, "is no bucket"),
        ("-p hello --base debian:12 -o oci:x", EXIT_TERMINAL, "has no digest"),
        (f"-p hello --base {GONE} -o oci:x", EXIT_TERMINAL, "of which image?"),
        (f"-p hello --base A/B@{GONE} -o oci:x", EXIT_TERMINAL, "is no repository"),
        (f"-p hello --base team/no@{GONE} -o oci:x", EXIT_RETRYABLE, "ReferenceNotFound"),
        (f"-p hello --base 127.0.0.1:9/x@{GONE} -o oci:x", EXIT_RETRYABLE, "SourceUnavailable"),
        ("-f based.yaml -o oci:x", EXIT_TERMINAL, "Add --base sha256:"),
        ("-f odd.yaml -o oci:x", EXIT_TERMINAL, "odd.yaml"),
    ],
)
def test_errors_are_told_and_have_their_exit_codes(
    niximage: Niximage, arguments: str, code: int, words: str
) -> None:
    (niximage.home / "web.yaml").write_text(nix_image())
    (niximage.home / "odd.yaml").write_text("a: [")
    (niximage.home / "based.yaml").write_text(nix_image(base={"niximage": {"name": "base"}}))
    (niximage.home / "full").mkdir()
    (niximage.home / "full" / "precious").write_text("data")
    done = niximage.build(*arguments.split())
    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_without_a_source_it_says_which_there_are(niximage: Niximage) -> None:
    done = niximage.run("build", "-p", "hello", "-o", "oci:x")
    assert done.returncode == EXIT_TERMINAL
    assert "Add --source FOLDER, or --channel nixos-26.05." in done.stderr


# Private sources ---------------------------------------------------------------------------------


@pytest.fixture
def private(niximage: Niximage, demo: Demo) -> Iterator[Path]:
    """A file whose source takes a Secret."""
    with private_http(demo.path.parent) as url:
        git = {
            "url": f"{url}/{demo.path.name}",
            "ref": {"branch": "nixos-26.05"},
            "secretRef": {"name": "keys"},
        }
        file = niximage.home / "private.yaml"
        file.write_text(nix_image(source={"git": git}))
        yield file


def test_a_private_source_with_its_keys_in_a_folder(niximage: Niximage, private: Path) -> None:
    keys_of_secret = niximage.home / "keys"
    keys_of_secret.mkdir()
    arguments = ("build", "-f", private, "--credentials", keys_of_secret, "-o", "oci:x")
    done = niximage.run(*arguments)
    assert done.returncode == EXIT_RETRYABLE
    assert f"CredentialsMissing: --credentials {keys_of_secret} does not open" in done.stderr
    for key, value in BASIC.items():
        (keys_of_secret / key).write_text(value)
    done = niximage.run(*arguments)
    assert done.returncode == 0, done.stderr
    assert BASIC["password"] not in done.stderr + done.stdout


def test_a_private_source_without_its_keys_says_how_to_give_them(
    niximage: Niximage, private: Path
) -> None:
    done = niximage.run("build", "-f", private, "-o", "oci:x")
    assert done.returncode == EXIT_TERMINAL
    assert "opened by the Secret keys, which is not known here" in done.stderr
    assert "Add --credentials FOLDER" in done.stderr


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (
            {"sourceRef": {"kind": "GitRepository", "name": "podinfo"}},
            "is the GitRepository/podinfo of a cluster, and none is asked",
        ),
        (
            {"volume": {"claimName": "packages"}},
            "is the PersistentVolumeClaim/packages of a cluster, and none is asked",
        ),
    ],
)
def test_a_source_of_a_cluster_says_how_to_do_without(
    niximage: Niximage, source: dict[str, Any], words: str
) -> None:
    (niximage.home / "in.yaml").write_text(nix_image(source=source))
    done = niximage.run("build", "-f", "in.yaml", "-o", "oci:x")
    assert done.returncode == EXIT_TERMINAL
    assert words in done.stderr
    assert "Add --source FOLDER" in done.stderr


# Plans -------------------------------------------------------------------------------------------


def test_a_plan_is_a_table_and_packs_nothing(niximage: Niximage) -> None:
    done = niximage.run("plan", "--source", niximage.package_set, "-p", "hello", "-p", "dataset")
    assert done.returncode == 0, done.stderr
    header, *rows = done.stdout.splitlines()
    assert header.split() == ["LAYER", "SIZE", "PATHS", "NAMES"]
    assert any(row.split()[-1] == "dataset-1.0" for row in rows)
    assert rows[-1].split()[-3:] == ["root", "file", "system"]
    assert [path for path in niximage.bucket.rglob("*") if path.is_file()] == []


def test_a_plan_is_what_a_build_does(niximage: Niximage) -> None:
    arguments = ("--source", niximage.package_set, "-p", "hello", "-p", "dataset", "-p", "shell")
    planned = niximage.run("plan", "--json", *arguments)
    report = niximage.document(*arguments[2:], "-o", "oci:image")
    document = json.loads(planned.stdout)
    (platform,) = document["platforms"]
    assert [layer["paths"] for layer in platform["layers"]] == [
        layer["paths"] for layer in report["platforms"][0]["layers"]
    ]
    assert document["bytes"]["closure"] == report["bytes"]["closure"]


def test_a_plan_by_popularity_groups_as_its_data_say(niximage: Niximage) -> None:
    data = niximage.home / "popularity.json"
    data.write_text(json.dumps({"hello-1.0": 1000}))
    file = niximage.home / "web.yaml"
    file.write_text(nix_image(layering={"strategy": "Popularity", "maxLayers": 3}))
    arguments = ("plan", "--source", niximage.package_set, "-f", file, "--json")
    done = niximage.run(*arguments)
    assert done.returncode == EXIT_TERMINAL
    assert "spec.layering.strategy is Popularity" in done.stderr
    done = niximage.run(*arguments, "--popularity-url", data.as_uri())
    assert done.returncode == 0, done.stderr
    assert "read the popularity data" in done.stderr
    assert len(json.loads(done.stdout)["platforms"][0]["layers"]) <= 3
