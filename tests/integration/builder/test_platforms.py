"""Images for several platforms: one index, made on one machine, of which nothing foreign runs."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from integration.builder.bases import DEBIAN, Foreign, foreign_image, index, publish_document
from integration.builder.images import Folder, nix_image
from integration.debian_registry import debian_registry, public_folder
from integration.gateway.conftest import running
from integration.nix.caches import narinfo_file, serving
from integration.nix.demo import Demo
from integration.nix.foreign import TwoPlatforms
from niximage.api.base_image import Base, NixImageReference
from niximage.api.build import PinnedBase, PublishResult
from niximage.bucket import keys
from niximage.bucket.images import verify_image
from niximage.builder.local import build_image, plan_image
from niximage.builder.local_build import LocalBuild
from niximage.errors import Reason, Terminal
from niximage.image.descriptor import INDEX
from niximage.nix.programs import NixStore
from niximage.source.folder import pin_folder

AMD64, ARM64 = "linux/amd64", "linux/arm64"
BOTH = (AMD64, ARM64)
PACKAGES = ("hello", "shell", "greeting-data")


@pytest.fixture(scope="module")
def two(demo: Demo, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoPlatforms]:
    folder = tmp_path_factory.mktemp("two")
    made = TwoPlatforms.make(demo.check_out(folder / "set"), folder, PACKAGES)
    yield made
    assert made.in_store() == []


def build(
    two: TwoPlatforms,
    bucket: Folder,
    *packages: str,
    platforms: tuple[str, ...] = BOTH,
    nix: NixStore | None = None,
    base: PinnedBase | None = None,
    said: list[str] | None = None,
    name: str = "image",
) -> PublishResult:
    spec: dict[str, Any] = {"platforms": list(platforms)}
    if base is not None and base.image:
        spec["base"] = Base(image=str(base))
    elif base is not None:
        spec["base"] = Base(niximage=NixImageReference(name="base"))
    wanted = LocalBuild(
        image=nix_image(name, *(packages or ("hello",)), **spec),
        source=pin_folder(two.source, path=".", attr=None),
        nix=nix or two.nix(),
        base=base,
        allow_file=True,
    )
    return build_image(wanted, bucket.store, say=(said if said is not None else []).append)


def members(bucket: Folder, result: PublishResult) -> dict[str, str]:
    """The digests of an index's members, by platform."""
    document = bucket.read(result.digest)
    assert document["mediaType"] == INDEX
    return {
        "{os}/{architecture}".format(**each["platform"]): each["digest"]
        for each in document["manifests"]
    }


def blobs(bucket: Folder, digest: str) -> dict[str, int]:
    return {layer["digest"]: layer["size"] for layer in bucket.read(digest)["layers"]}


def test_two_platforms_are_one_index_of_what_each_alone_would_be(
    two: TwoPlatforms, bucket: Folder, tmp_path: Path
) -> None:
    result = build(two, bucket)
    found = members(bucket, result)
    assert list(found) == [AMD64, ARM64]
    other = Folder.open(tmp_path / "other")
    alone = {each: build(two, other, platforms=(each,)).digest for each in BOTH}
    assert found == alone
    for platform, digest in found.items():
        assert bucket.config(digest)["architecture"] == platform.partition("/")[2]
    layers = {**blobs(bucket, found[AMD64]), **blobs(bucket, found[ARM64])}
    assert (result.layers, result.reused_layers) == (len(layers), 0)
    documents = sum(bucket.blob(each).stat().st_size for each in [result.digest, *found.values()])
    configs = sum(bucket.read(each)["config"]["size"] for each in found.values())
    assert result.size == sum(layers.values()) + configs + documents
    assert len(verify_image(bucket.store, result.repository, result.digest)) == 2
    other.store.close()


def test_the_order_of_platforms_is_nothing(
    two: TwoPlatforms, bucket: Folder, tmp_path: Path
) -> None:
    other = Folder.open(tmp_path / "other")
    one, swapped = build(two, bucket), build(two, other, platforms=BOTH[::-1])
    assert one == swapped
    other.store.close()


def test_only_what_a_further_platform_needs_is_fetched(two: TwoPlatforms, bucket: Folder) -> None:
    with serving(two.folder) as server:
        nix = two.nix(server.url)
        first = build(two, bucket, platforms=(AMD64,), nix=nix)
        server.sent.clear()
        second = build(two, bucket, nix=nix)
        foreign = [narinfo_file(two.folder, path).read_text() for path in two.paths.values()]
        sizes = [int(text.partition("FileSize: ")[2].split("\n")[0]) for text in foreign]
        assert server.nar_bytes == sum(sizes)
        assert second.reused_layers == first.layers
        server.asked.clear()
        assert build(two, bucket, nix=nix).digest == second.digest
        assert server.asked == []


def test_what_was_evaluated_for_a_platform_is_known(two: TwoPlatforms, bucket: Folder) -> None:
    said: list[str] = []
    build(two, bucket, platforms=(ARM64,), said=said)
    assert any(line.startswith("evaluated 1 package for linux/arm64 in") for line in said)
    said.clear()
    build(two, bucket, said=said)
    assert "1 packages were evaluated before, and binary caches have them" in said
    assert [line.split(" in ")[0] for line in said if line.startswith("evaluated")] == [
        "evaluated 1 package for linux/amd64"
    ]
    said.clear()
    build(two, bucket, name="another", said=said)  # known inputs: only links
    build(two, bucket, "hello", platforms=BOTH[::-1], name="third", said=said)
    assert not [line for line in said if line.startswith(("evaluated", "fetched"))]


def test_a_known_image_gets_a_further_name_with_all_its_platforms(
    two: TwoPlatforms, bucket: Folder
) -> None:
    first, second = build(two, bucket), build(two, bucket, name="second")
    assert (second.digest, second.repository) == (first.digest, "team/second")
    assert len(verify_image(bucket.store, "team/second", second.digest)) == 2


# What goes wrong ---------------------------------------------------------------------------------


def test_all_that_no_cache_has_for_a_foreign_platform_is_named(
    two: TwoPlatforms, bucket: Folder
) -> None:
    with pytest.raises(Terminal) as caught:
        build(two, bucket, "hello", "cowsay", "dataset")
    assert caught.value.reason is Reason.LOCAL_BUILD_REQUIRED
    assert caught.value.message == (
        "2 packages for linux/arm64 are in no trusted binary cache, "
        "and this machine cannot build for aarch64-linux:\n"
        "cowsay: cowsay-3.8.drv\ndataset: dataset-1.0.drv"
    )
    assert "leave it out" in caught.value.hint
    assert [path for path in bucket.path.rglob("*") if path.is_file()] == []


def test_all_platforms_are_told_where_nothing_may_be_built(
    two: TwoPlatforms, bucket: Folder
) -> None:
    nix = NixStore(
        substituters=two.nix().substituters,
        trusted_public_keys=two.nix().trusted_public_keys,
        local_builds=False,
    )
    with pytest.raises(Terminal) as caught:
        build(two, bucket, "hello", "cowsay", nix=nix)
    assert caught.value.message.splitlines() == [
        "1 package for linux/amd64 is in no trusted binary cache, and local builds are forbidden:",
        "cowsay: cowsay-3.8.drv",
        (
            "1 package for linux/arm64 is in no trusted binary cache, "
            "and this machine cannot build for aarch64-linux:"
        ),
        "cowsay: cowsay-3.8.drv",
    ]
    assert "allow builds" in caught.value.hint


def test_a_cache_that_a_stranger_signed_has_nothing_for_a_platform(
    two: TwoPlatforms, bucket: Folder
) -> None:
    stranger = f"test-1:{'A' * 43}="
    nix = NixStore(substituters=two.nix().substituters, trusted_public_keys=(stranger,))
    with pytest.raises(Terminal, match="1 package for linux/arm64 is in no trusted") as caught:
        build(two, bucket, nix=nix)
    assert "hello: hello-2.12.drv; " in caught.value.message


def test_what_is_wrong_everywhere_is_told_once_and_what_is_not_with_its_platform(
    two: TwoPlatforms, bucket: Folder, tmp_path: Path
) -> None:
    with pytest.raises(Terminal) as caught:
        build(two, bucket, "hallo")
    assert caught.value.message == "hallo: there is no 'hallo'; near names: hello"
    (tmp_path / "set").mkdir()
    text = f"{{ system, ... }}: let all = import {two.source} {{ inherit system; }}; in\n"
    text += 'if system == "aarch64-linux" then removeAttrs all [ "cowsay" ] else all'
    (tmp_path / "set" / "default.nix").write_text(text)
    lacks = TwoPlatforms(tmp_path / "set", two.folder, two.key, two.paths)
    with pytest.raises(Terminal, match="for linux/arm64: ") as caught:
        build(lacks, bucket, "hello", "cowsay")
    assert "linux/amd64" not in caught.value.message
    assert caught.value.reason is Reason.PACKAGE_NOT_FOUND


# Bases -------------------------------------------------------------------------------------------


def of_bucket(result: PublishResult) -> PinnedBase:
    return PinnedBase(repository=result.repository, digest=result.digest)


def test_each_platform_is_built_upon_the_base_s_own(two: TwoPlatforms, bucket: Folder) -> None:
    base = build(two, bucket, "shell", name="base")
    result = build(two, bucket, base=of_bucket(base))
    below, above = members(bucket, base), members(bucket, result)
    for platform in BOTH:
        lower = bucket.layers(below[platform])
        assert bucket.layers(above[platform])[: len(lower)] == lower
    one = build(two, bucket, platforms=(ARM64,), base=of_bucket(base), name="one")
    assert one.digest == above[ARM64]


def test_a_base_is_read_anew_where_its_record_is_lost(two: TwoPlatforms, bucket: Folder) -> None:
    base = build(two, bucket, "shell", name="base")
    for file in (bucket.path / keys.OWN / "contents").rglob("*-linux"):
        file.unlink()
    found = members(bucket, build(two, bucket, base=of_bucket(base)))
    lower = bucket.layers(members(bucket, base)[ARM64])
    assert bucket.layers(found[ARM64])[: len(lower)] == lower


def test_a_base_that_lacks_a_platform_is_told(two: TwoPlatforms, bucket: Folder) -> None:
    for platform, other in (BOTH, BOTH[::-1]):
        base = build(two, bucket, "shell", name="base", platforms=(platform,))
        with pytest.raises(Terminal, match=f"is for {platform}, not for {other}") as caught:
            build(two, bucket, base=of_bucket(base))
        assert caught.value.reason is Reason.INVALID_SPEC
        assert "has the image's platform" in caught.value.hint


def debians(*architectures: str) -> list[tuple[Foreign, str]]:
    return [(foreign_image(*DEBIAN, architecture=each), each) for each in architectures]


def test_a_base_of_a_registry_is_taken_for_each_platform(
    two: TwoPlatforms, bucket: Folder, tmp_path: Path
) -> None:
    elsewhere = Folder.open(tmp_path / "elsewhere")
    images = debians("arm64", "amd64")
    for image, _ in images:
        image.publish(elsewhere.store, "library/debian")
    whole = publish_document(elsewhere.store, "library/debian", index(*images))
    part = publish_document(elsewhere.store, "library/debian", index(images[1]))
    alone = images[1][0]
    with running(elsewhere.store) as registry:
        name = f"{registry.address}/library/debian"
        result = build(two, bucket, base=PinnedBase(image=name, digest=whole))
        # Told before a layer is fetched, whether an index lacks it or the image is not for it.
        for layer in alone.layers:
            elsewhere.blob(layer).unlink()
        for digest in (part, alone.digest):
            with pytest.raises(Terminal, match="is for linux/amd64, not for linux/arm64"):
                build(
                    two,
                    bucket,
                    platforms=(ARM64,),
                    base=PinnedBase(image=name, digest=digest),
                )
    found = members(bucket, result)
    for image, architecture in images:
        assert bucket.layers(found[f"linux/{architecture}"])[:3] == image.layers
    # Now that the bucket has it, its registry is of no use.
    assert build(two, bucket, "shell", base=PinnedBase(image=name, digest=whole)).layers
    elsewhere.store.close()


# Others ------------------------------------------------------------------------------------------


def test_debians_registry_serves_every_platform(
    two: TwoPlatforms, unprivileged: dict[str, Any], tmp_path: Path
) -> None:
    with public_folder() as folder:
        bucket = Folder.open(folder / "bucket")
        bucket.path.chmod(0o755)
        result = build(two, bucket)
        digests = {result.digest, *members(bucket, result).values()}
        with debian_registry(bucket.path, unprivileged, folder) as url:
            reference = f"{urlsplit(url).netloc}/{result.repository}@{result.digest}"
            copy = ["skopeo", "--insecure-policy", "copy", "--quiet", "--all"]
            copy += ["--preserve-digests", "--src-tls-verify=false"]
            subprocess.run(
                [*copy, f"docker://{reference}", f"oci:{tmp_path / 'layout'}:it"],
                check=True,
                capture_output=True,
                timeout=60,
            )
        bucket.store.close()
    (named,) = json.loads((tmp_path / "layout" / "index.json").read_text())["manifests"]
    assert named["digest"] == result.digest
    stored = {f"sha256:{file.name}" for file in (tmp_path / "layout" / "blobs").rglob("*")}
    assert digests <= stored


def test_a_plan_is_made_for_each_platform(two: TwoPlatforms, bucket: Folder) -> None:
    wanted = LocalBuild(
        image=nix_image("image", "hello", platforms=list(BOTH)),
        source=pin_folder(two.source, path=".", attr=None),
        nix=two.nix(),
        allow_file=True,
    )
    planned = plan_image(wanted, bucket.store)
    assert [each.prepared.platform for each in planned] == list(BOTH)
    paths = [{path for layer in each.prepared.layers for path in layer.paths} for each in planned]
    assert paths[1] == set(two.paths.values())
    assert paths[0].isdisjoint(paths[1])
