"""Builds that trust a binary cache, by their class: what they fetch, counted where it is sent."""

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from e2e.conftest import Node
from integration.nix.caches import CacheServer, SigningKey, copy_to_cache, file_size, serving
from integration.nix.demo import SYSTEM
from niximage.api.build import PinnedSource
from niximage.nix.evaluate import evaluate
from niximage.nix.path_info import query_closure
from niximage.nix.programs import NixStore
from niximage.nix.realise import realise
from niximage.source.fetch import fetch
from support.kubernetes import Json, conditions, nix_build_class, nix_image

BRANCH = "refs/heads/nixos-26.05"
CLASS = "from-a-cache"


@dataclass(frozen=True)
class Caching:
    """A binary cache that pods reach, and what is in it."""

    server: CacheServer
    closures: dict[str, set[str]]

    def size(self, *packages: str, without: tuple[str, ...] = ()) -> int:
        """Bytes of the NARs that packages need, and others do not."""
        paths = set().union(*(self.closures[name] for name in packages))
        paths -= set().union(*(self.closures[name] for name in without))
        return sum(file_size(self.server.folder, path) for path in paths)

    def forget(self) -> None:
        """Count anew."""
        self.server.asked.clear()
        self.server.sent.clear()


@pytest.fixture
def caching(node: Node, tmp_path: Path) -> Iterator[Caching]:
    """The node's own package set in a binary cache, and a class whose builds build nothing."""
    folder = fetch(_source(node), tmp_path / "source", timeout=60).path
    nix = NixStore()
    names = ["cowsay", "dataset", "hello"]
    found = evaluate(folder, names, attribute=None, system=SYSTEM, store=nix, timeout=60)
    realise(found, store=nix, timeout=120, roots=tmp_path)
    outputs = {each.attribute: each.outputs["out"] for each in found}
    closures = {
        name: set(query_closure([path], store=nix, timeout=60).infos)
        for name, path in outputs.items()
    }
    key = SigningKey.make(tmp_path)
    cache = copy_to_cache(tmp_path / "cache", list(outputs.values()), key=key)
    (machine,) = node.cluster.list("nodes", "default")
    (host,) = (a["address"] for a in machine["status"]["addresses"] if a["type"] == "InternalIP")
    with serving(cache, host=host) as server:
        node.apply(
            nix_build_class(
                CLASS,
                substituters=[server.url],
                trustedPublicKeys=[key.public],
                localBuilds="Forbidden",
            )
        )
        yield Caching(server, closures)
        node.cluster.do("delete", "nixbuildclass", CLASS)


def _source(node: Node) -> PinnedSource:
    """The package set that the operator takes for nixpkgs."""
    service = node.cluster.get("service", "packages", "niximage-demo")
    assert service is not None
    (port,) = service["spec"]["ports"]
    url = f"http://{service['spec']['clusterIP']}:{port['port']}/demo.git"
    listed = subprocess.run(
        ["git", "ls-remote", url, BRANCH], check=True, capture_output=True, text=True, timeout=30
    ).stdout
    return PinnedSource(url=url, ref=BRANCH, revision=listed.split()[0])


def image(namespace: str, name: str, *packages: str) -> Json:
    return nix_image(namespace, name, packages=list(packages), build={"className": CLASS})


def test_only_what_is_new_is_fetched(node: Node, namespace: str, caching: Caching) -> None:
    server = caching.server
    node.apply(image(namespace, "first", "dataset", "hello"))
    first = node.ready(namespace, "first")
    assert server.nar_bytes == caching.size("dataset", "hello")
    assert "Hello" in node.output(namespace, first["status"]["image"], "/bin/hello")

    caching.forget()
    node.apply(image(namespace, "second", "cowsay", "dataset", "hello"))
    second = node.ready(namespace, "second")
    # What is tiny may share a layer with what is new, and come along.
    new = caching.size("cowsay", without=("dataset", "hello"))
    assert new <= server.nar_bytes <= caching.size("cowsay", "dataset", "hello") // 20
    assert second["status"]["artifact"]["reusedLayers"] >= 2  # the large ones
    assert "moo" in node.output(namespace, second["status"]["image"], "/bin/cowsay", "moo")

    # The same once more, by a Job of its own: it looks, and finds all that it needs.
    caching.forget()
    again = [f"reconcile.fluxcd.io/{what}=again" for what in ("requestedAt", "forceAt")]
    node.cluster.do("annotate", "niximage", "second", "-n", namespace, *again)

    def built_again(image: Json) -> bool:
        status = image["status"]
        return (
            status.get("lastHandledForceAt") == "again"
            and len(status.get("history", ())) == 2
            and conditions(image)["Ready"] == "True/Succeeded"
        )

    rebuilt = node.image(namespace, built_again, "second")
    assert rebuilt["status"]["digest"] == second["status"]["digest"]
    assert server.asked != []
    assert server.nar_bytes == 0

    # And under another name: the bucket knows the inputs, and nobody is asked.
    caching.forget()
    jobs = {job["metadata"]["uid"] for job in node.cluster.list("jobs", namespace)}
    node.apply(image(namespace, "third", "cowsay", "dataset", "hello"))
    third = node.ready(namespace, "third")
    assert third["status"]["digest"] == second["status"]["digest"]
    assert {job["metadata"]["uid"] for job in node.cluster.list("jobs", namespace)} <= jobs
    assert server.asked == []


def test_what_the_cache_lacks_is_named_where_nothing_may_be_built(
    node: Node, namespace: str, caching: Caching
) -> None:
    node.apply(image(namespace, "web", "manual"))
    stalled = node.image_with(namespace, "Stalled", "True/LocalBuildRequired")
    assert "manual" in stalled["status"]["failure"]["message"]
    assert caching.server.nar_bytes == 0
