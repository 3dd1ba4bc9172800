"""`niximage build` and `plan` for several platforms: documents, words, files, refusals."""

import json
import subprocess
from pathlib import Path

import pytest

from integration.acceptance import Acceptance
from integration.cli.program import Niximage
from integration.cli.test_build import nix_image, skopeo
from integration.nix.foreign import TwoPlatforms
from niximage.errors import EXIT_TERMINAL
from niximage.image.descriptor import INDEX

BOTH = ("--platform", "linux/arm64", "--platform", "linux/amd64")


@pytest.fixture(scope="module")
def two(package_set: Path, tmp_path_factory: pytest.TempPathFactory) -> TwoPlatforms:
    folder = tmp_path_factory.mktemp("two")
    return TwoPlatforms.make(package_set, folder, ["hello", "shell", "greeting-data"])


@pytest.fixture
def options(two: TwoPlatforms) -> tuple[str, ...]:
    keys = ("--trusted-public-keys", two.key.public)
    return ("--substituters", two.folder.as_uri(), *keys)


def test_the_document_tells_of_each_platform(
    niximage: Niximage, two: TwoPlatforms, options: tuple[str, ...]
) -> None:
    report = niximage.document("-p", "hello", *BOTH, *options, "-o", "oci:image")
    raw = json.loads(skopeo("inspect", "--raw", "oci:image:latest", folder=niximage.home))
    assert raw["mediaType"] == INDEX
    platforms = report["platforms"]
    assert [each["platform"] for each in platforms] == ["linux/amd64", "linux/arm64"]
    assert [each["digest"] for each in platforms] == [each["digest"] for each in raw["manifests"]]
    for each in platforms:
        manifest = niximage.home / "image" / "blobs" / "sha256" / each["digest"][7:]
        listed = json.loads(manifest.read_bytes())["layers"]
        assert [layer["digest"] for layer in each["layers"]] == [x["digest"] for x in listed]
    of_arm = {path for layer in platforms[1]["layers"] for path in layer["paths"]}
    assert of_arm == set(two.paths.values())
    layers = {x["digest"]: x["size"] for each in platforms for x in each["layers"]}
    count = report["bytes"]
    assert count["uploaded"] == sum(layers.values())
    assert count["downloaded"] == two.file_size
    assert (count["skipped"], count["reused"]) == (0, 0)
    again = niximage.document("-p", "hello", *BOTH, *options, "-o", "oci:image")
    assert again["digest"] == report["digest"]
    assert again["bytes"]["reused"] == sum(layers.values())


def test_a_file_names_its_platforms_and_the_option_others(
    niximage: Niximage, options: tuple[str, ...]
) -> None:
    file = nix_image(platforms=["linux/arm64", "linux/amd64"])
    (niximage.home / "web.yaml").write_text(file)
    done = niximage.build("-f", "web.yaml", *options, "-o", "oci-archive:image.tar")
    assert done.returncode == 0, done.stderr
    first, amd64, arm64, written = done.stdout.splitlines()
    assert first.startswith("team/web@sha256:")
    assert amd64.startswith("  linux/amd64: 3 layers, ")
    assert arm64.startswith("  linux/arm64: 3 layers, ")
    assert written == "  written to oci-archive:image.tar"
    for words in ("for linux/arm64 in ", "the image for linux/arm64:"):
        assert words in done.stderr
    copied = ("copy", "--quiet", "--all", "--preserve-digests", "oci-archive:image.tar", "dir:all")
    skopeo(*copied, folder=niximage.home)
    one = niximage.document(
        *("-f", "web.yaml", "--platform", "linux/arm64", *options, "-o", "docker-archive:arm.tar")
    )
    assert [each["platform"] for each in one["platforms"]] == ["linux/arm64"]
    config = json.loads(
        skopeo("inspect", "--config", "docker-archive:arm.tar", folder=niximage.home)
    )
    assert config["architecture"] == "arm64"


def test_an_archive_of_several_platforms_is_the_same_every_time(
    niximage: Niximage, options: tuple[str, ...]
) -> None:
    for platforms, name in ((BOTH, "one"), ((*BOTH[2:], *BOTH[:2]), "two")):
        niximage.document("-p", "hello", *platforms, *options, "-o", f"oci-archive:{name}")
    assert (niximage.home / "one").read_bytes() == (niximage.home / "two").read_bytes()


def test_containerd_imports_every_platform(
    niximage: Niximage, options: tuple[str, ...], acceptance: Acceptance
) -> None:
    if acceptance.containerd is None:
        return
    report = niximage.document("-p", "hello", *BOTH, *options, "-o", "oci-archive:image.tar")
    ctr = ["ctr", "--address", str(acceptance.containerd), "images"]
    for arguments in (["import", "--all-platforms", "--no-unpack", "image.tar"], ["ls"]):
        done = subprocess.run(
            [*ctr, *arguments],
            cwd=niximage.home,
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
    name = "docker.io/default/image:latest"
    (line,) = [line for line in done.stdout.splitlines() if line.startswith(name)]
    assert line.split()[1:3] == [INDEX, report["digest"]]
    assert "linux/amd64,linux/arm64" in line


def test_what_is_in_it_is_told_and_exported_for_each_platform(
    niximage: Niximage, two: TwoPlatforms, options: tuple[str, ...]
) -> None:
    report = niximage.document("-p", "hello", *BOTH, *options, "-o", "oci:image")
    bucket = ("--bucket", niximage.bucket.as_uri())
    arm64 = ("--platform", "linux/arm64")

    def listed(*platform: str) -> set[str]:
        done = niximage.run("tree", report["image"], "-o", "json", *platform, *bucket)
        assert done.returncode == 0, done.stderr
        return {path for path in two.paths.values() if path in done.stdout}

    assert listed(*arm64) == set(two.paths.values())
    assert listed("--platform", "linux/amd64") == set()
    export = ("export", report["image"], *bucket)
    assert niximage.run(*export, "-o", "oci-archive:whole.tar").returncode == 0
    raw = json.loads(skopeo("inspect", "--raw", "oci-archive:whole.tar", folder=niximage.home))
    assert [each["digest"] for each in raw["manifests"]] == [
        each["digest"] for each in report["platforms"]
    ]
    refused = niximage.run(*export, "-o", "docker-archive:one.tar")
    assert refused.returncode == EXIT_TERMINAL
    assert "Choose one with --platform" in refused.stderr
    assert niximage.run(*export, *arm64, "-o", "docker-archive:one.tar").returncode == 0
    config = skopeo("inspect", "--config", "docker-archive:one.tar", folder=niximage.home)
    assert json.loads(config)["architecture"] == "arm64"


# What goes wrong ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            (*BOTH, "-o", "docker-archive:x"),
            "the image is for linux/amd64 and linux/arm64 Choose one with --platform, or write an",
        ),
        (("--platform", "linux/arm", "-o", "oci:x"), "'linux/arm' cannot be built for"),
        (
            ("--platform", "linux/arm64", *BOTH, "-o", "oci:x"),
            "Give --platform linux/amd64 or linux/arm64, each at most once.",
        ),
    ],
)
def test_what_cannot_be_made_is_refused_before_anything_is(
    niximage: Niximage, arguments: tuple[str, ...], words: str
) -> None:
    done = niximage.build("-p", "hello", *arguments)
    assert done.returncode == EXIT_TERMINAL
    assert words in " ".join(done.stderr.split())
    assert "evaluated" not in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_what_no_cache_has_for_a_platform_is_named(
    niximage: Niximage, options: tuple[str, ...]
) -> None:
    done = niximage.build("-p", "hello", "-p", "cowsay", *BOTH, *options, "-o", "oci:x")
    assert done.returncode == EXIT_TERMINAL
    assert "LocalBuildRequired: 1 package for linux/arm64 is in no trusted" in done.stderr
    assert "cowsay: cowsay-3.8.drv" in done.stderr


# Plans -------------------------------------------------------------------------------------------


def test_a_plan_shows_each_platform(niximage: Niximage, options: tuple[str, ...]) -> None:
    asked = ("-p", "hello", *BOTH, *options)
    arguments: tuple[str | Path, ...] = ("--source", niximage.package_set, *asked)
    planned = json.loads(niximage.run("plan", "--json", *arguments).stdout)
    report = niximage.document(*asked, "-o", "oci:image")
    assert [
        (each["platform"], [layer["paths"] for layer in each["layers"]])
        for each in planned["platforms"]
    ] == [
        (each["platform"], [layer["paths"] for layer in each["layers"]])
        for each in report["platforms"]
    ]
    assert planned["bytes"]["closure"] == report["bytes"]["closure"]
    table = niximage.run("plan", *arguments).stdout.splitlines()
    assert [line for line in table if line.startswith("linux/")] == ["linux/amd64:", "linux/arm64:"]
