"""An image for two platforms, on a node of one: built there, served as one index, run."""

import json
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from e2e.conftest import Node
from integration.nix.caches import CacheServer, serving
from integration.nix.demo import Demo
from integration.nix.foreign import TwoPlatforms
from niximage.image.descriptor import INDEX
from support.kubernetes import Json, nix_build_class, nix_image

BOTH = ["linux/arm64", "linux/amd64"]
CLASS = "two-platforms"


@dataclass(frozen=True)
class Packages:
    """A package set that pods reach, and a binary cache with a part of it.

    Attributes:
        source: of a NixImage.
        server: of the cache.
    """

    source: Json
    server: CacheServer


@pytest.fixture(scope="module")
def packages(node: Node, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Packages]:
    folder = tmp_path_factory.mktemp("platforms")
    demo = Demo.make(folder / "platforms.git")
    made = ["hello", "shell", "greeting-data"]
    two = TwoPlatforms.make(demo.check_out(folder / "set"), folder, made)
    with tarfile.open(folder / "set.tar", "w") as tar:
        tar.add(demo.path, demo.path.name)
    unpack = ("tar", "-x", "--no-same-owner", "-C", "/git")
    node.cluster.send(
        folder / "set.tar",
        *("exec", "-i", "-n", "niximage-demo", "deploy/packages", "-c", "git", "--", *unpack),
    )
    service = node.cluster.get("service", "packages", "niximage-demo")
    assert service is not None
    git = f"{service['spec']['clusterIP']}:{service['spec']['ports'][0]['port']}"
    (machine,) = node.cluster.list("nodes", "default")
    (host,) = (a["address"] for a in machine["status"]["addresses"] if a["type"] == "InternalIP")
    with serving(two.folder, host=host) as server:
        cache = {"substituters": [server.url], "trustedPublicKeys": [two.key.public]}
        node.apply(nix_build_class(CLASS, **cache))
        url = f"http://{git}/{demo.path.name}"
        yield Packages({"git": {"url": url, "ref": {"branch": "nixos-26.05"}}}, server)
    node.cluster.do("delete", "nixbuildclass", CLASS)


def image(namespace: str, packages: Packages, *names: str) -> Json:
    build = {"className": CLASS}
    return nix_image(
        namespace, packages=list(names), source=packages.source, platforms=BOTH, build=build
    )


def inspected(reference: str, *options: str) -> Json:
    inspect = ["skopeo", "inspect", "--tls-verify=false", *options, f"docker://{reference}"]
    done = subprocess.run(inspect, check=True, capture_output=True, timeout=60)
    found: Json = json.loads(done.stdout)
    return found


def test_two_platforms_are_one_image_of_which_this_node_runs_its_own(
    node: Node, namespace: str, packages: Packages, tmp_path: Path
) -> None:
    node.apply(image(namespace, packages, "hello"))
    status = node.ready(namespace)["status"]
    assert status["artifact"]["platforms"] == ["linux/amd64", "linux/arm64"]
    raw = inspected(status["image"], "--raw")
    assert raw["mediaType"] == INDEX
    platforms = [each["platform"] for each in raw["manifests"]]
    assert platforms == [{"architecture": each, "os": "linux"} for each in ("amd64", "arm64")]
    for each in ("amd64", "arm64"):
        config = inspected(status["image"], "--config", "--override-arch", each)
        assert config["architecture"] == each
    assert "Hello" in node.output(namespace, status["image"], "/bin/hello")
    assert packages.server.nar_bytes > 0
    # All of it comes out of the gateway.
    copy = ["skopeo", "--insecure-policy", "copy", "--all", "--src-tls-verify=false"]
    copy += ["--preserve-digests", f"docker://{status['image']}", f"dir:{tmp_path / 'all'}"]
    subprocess.run(copy, check=True, capture_output=True, timeout=60)


def test_a_package_that_no_cache_has_for_a_platform_stalls_the_image(
    node: Node, namespace: str, packages: Packages
) -> None:
    node.apply(image(namespace, packages, "hello", "cowsay"))
    stalled = node.image_with(namespace, "Stalled", "True/LocalBuildRequired")
    message = stalled["status"]["failure"]["message"]
    assert "1 package for linux/arm64 is in no trusted binary cache" in message
    assert "cowsay: cowsay-3.8.drv" in message
    # Without that platform it is built here.
    node.cluster.do(
        *("patch", "niximage", "web", "-n", namespace, "--type=merge"),
        *("-p", json.dumps({"spec": {"platforms": ["linux/amd64"]}})),
    )
    reference = node.ready(namespace)["status"]["image"]
    assert "moo" in node.output(namespace, reference, "/bin/cowsay", "moo")
