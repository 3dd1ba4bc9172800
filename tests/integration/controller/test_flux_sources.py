"""GitRepositories and ExternalArtifacts of Flux before a real API server, with and without CRDs."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from integration.controller.conftest import Operator
from integration.controller.test_operations import ROLE, restricted
from integration.nix.demo import Demo
from integration.source.conftest import Server, SmartHandler
from niximage.api.build import PinnedSource
from niximage.source.artifact import fetch_artifact
from support.flux import flux as flux_itself
from support.flux_objects import flux_crds, flux_status, git_repository
from support.kubernetes import Cluster, Json, conditions, eventually, nix_build_class, nix_image

URL = "http://source-controller.flux-system.svc.cluster.local./gitrepository/x/podinfo/a.tar.gz"
FIRST = flux_status(URL, f"sha256:{'a' * 64}", f"main@sha1:{'1' * 40}")
SECOND = flux_status(URL, f"sha256:{'b' * 64}", f"main@sha1:{'2' * 40}")
SOURCE = {"sourceRef": {"kind": "GitRepository", "name": "podinfo"}}
# Long enough that nothing in a test is found by polling.
PATIENT = {"interval": "1h"}


@pytest.fixture
def no_flux(cluster: Cluster) -> Cluster:
    """A cluster without Flux, whatever tests before this one installed."""
    cluster.do("delete", "--ignore-not-found", "-f", "-", given=flux_crds())
    return cluster


@pytest.fixture
def flux(no_flux: Cluster) -> Iterator[Cluster]:
    """The CRDs of Flux's sources, for this test."""
    with flux_installed(no_flux):
        yield no_flux


@contextmanager
def flux_installed(cluster: Cluster) -> Iterator[None]:
    """The CRDs of Flux's sources, while the body runs."""
    cluster.do("create", "-f", "-", given=flux_crds())
    for plural in ("gitrepositories", "externalartifacts"):
        served = lambda p=plural: cluster.run("get", p, "-A").returncode == 0  # noqa: E731 (one use)
        eventually(f"{plural} are served", served)
    yield
    cluster.do("delete", "-f", "-", given=flux_crds())


@pytest.fixture
def operator_with_flux(flux: Cluster, operator: Operator) -> Operator:
    """The operator, started when Flux was there."""
    return operator


def request_of(job: Json) -> Json:
    (container,) = job["spec"]["template"]["spec"]["initContainers"]
    text = next(e["value"] for e in container["env"] if e["name"] == "NIXIMAGE_REQUEST")
    found: Json = json.loads(text)
    return found


def test_an_object_that_comes_changes_and_goes_is_followed_at_once(
    operator_with_flux: Operator, namespace: str
) -> None:
    operator, cluster = operator_with_flux, operator_with_flux.cluster
    cluster.do("create", "-f", "-", given=nix_image(namespace, source=SOURCE, **PATIENT))
    image = operator.image_with(namespace, "SourceResolved", "False/ReferenceNotFound")
    assert conditions(image)["Reconciling"] == "True/ReferenceNotFound"
    cluster.do("create", "-f", "-", given=git_repository(namespace))
    operator.image_with(namespace, "SourceResolved", "False/SourceUnavailable")
    cluster.set_status("gitrepository", "podinfo", namespace, FIRST)
    job = operator.job(namespace)
    assert request_of(job)["source"] == {
        "kind": "artifact",
        "url": URL,
        "ref": "GitRepository/podinfo",
        "revision": f"main@sha1:{'1' * 40}",
        "digest": f"sha256:{'a' * 64}",
        "origin": "https://git.example.org/podinfo",
        "path": ".",
    }
    operator.end_job(job, code=0, message=json.dumps(operator.publish(job)))
    image = operator.image_with(namespace, "Ready", "True/Succeeded")
    assert image["status"]["source"]["revision"] == f"main@sha1:{'1' * 40}"
    assert image["status"]["source"]["shortRevision"] == "1" * 12
    assert image["status"]["artifact"]["revision"] == f"main@sha1:{'1' * 40}"
    cluster.set_status("gitrepository", "podinfo", namespace, SECOND)
    second = operator.job(namespace, other_than=job["metadata"]["uid"])
    assert request_of(second)["source"]["digest"] == f"sha256:{'b' * 64}"
    cluster.do("delete", "gitrepository", "podinfo", "-n", namespace)
    image = operator.image_with(namespace, "SourceResolved", "False/ReferenceNotFound")
    assert conditions(image)["Ready"] == "True/Succeeded", "the good image stays"


def test_an_external_artifact_and_the_sources_of_a_class(
    operator_with_flux: Operator, namespace: str
) -> None:
    operator, cluster = operator_with_flux, operator_with_flux.cluster
    cluster.do(
        *("create", "-f", "-"),
        given={
            "apiVersion": "source.toolkit.fluxcd.io/v1",
            "kind": "ExternalArtifact",
            "metadata": {"name": "set", "namespace": namespace},
            "spec": {},
        },
    )
    cluster.set_status("externalartifact", "set", namespace, FIRST)
    name = f"strict-{namespace}"
    allowed = nix_build_class(name, allowedSources=["https://git.example.org/"])
    cluster.do("create", "-f", "-", given=allowed)
    try:
        source = {"sourceRef": {"kind": "ExternalArtifact", "name": "set", "path": "nix"}}
        image = nix_image(namespace, source=source, build={"className": name}, **PATIENT)
        cluster.do("create", "-f", "-", given=image)
        found = operator.image_with(namespace, "Stalled", "True/PolicyDenied")
        assert URL in found["status"]["failure"]["message"]
        host = URL.partition("gitrepository")[0]
        cluster.do("apply", "-f", "-", given=nix_build_class(name, allowedSources=[host]))
        request = request_of(operator.job(namespace))
        assert request["source"]["path"] == "nix"
        assert "origin" not in request["source"] or not request["source"]["origin"]
    finally:
        cluster.do("delete", "nixbuildclass", name)


def test_without_flux_the_operator_starts_and_says_what_lacks(
    no_flux: Cluster, operator: Operator, namespace: str
) -> None:
    operator.cluster.do("create", "-f", "-", given=nix_image(namespace, source=SOURCE))
    image = operator.image_with(namespace, "SourceResolved", "False/SourceUnavailable")
    assert "Install Flux" in next(
        c["message"] for c in image["status"]["conditions"] if c["type"] == "SourceResolved"
    )
    # Another image shows that the operator goes on.
    operator.cluster.do("create", "-f", "-", given=nix_image(namespace, "other"))
    operator.image(namespace, lambda i: conditions(i).get("Reconciling"), "other")


def test_flux_that_is_installed_later_is_watched_without_a_restart(
    no_flux: Cluster, operator: Operator, namespace: str
) -> None:
    """Installed, removed and installed again, under one life of the operator."""
    operator.stop()
    operator.environment["NIXIMAGE_RESYNC_INTERVAL"] = "3"
    operator.start()
    no_flux.do("create", "-f", "-", given=nix_image(namespace, source=SOURCE, **PATIENT))
    operator.image_with(namespace, "SourceResolved", "False/SourceUnavailable")
    before = ""
    for status in (FIRST, SECOND):
        with flux_installed(no_flux):
            # The interval is an hour: only a watch tells of what comes now.
            operator.image_with(namespace, "SourceResolved", "False/ReferenceNotFound")
            no_flux.do("create", "-f", "-", given=git_repository(namespace))
            operator.image_with(namespace, "SourceResolved", "False/SourceUnavailable")
            no_flux.set_status("gitrepository", "podinfo", namespace, status)
            job = operator.job(namespace, other_than=before)
            before = job["metadata"]["uid"]
            assert request_of(job)["source"]["digest"] == status["artifact"]["digest"]
        operator.image_with(namespace, "SourceResolved", "False/SourceUnavailable")
    assert operator.process is not None
    assert operator.process.poll() is None


def test_without_the_right_to_watch_it_is_polled(
    flux: Cluster, operator: Operator, namespace: str, tmp_path: Path
) -> None:
    operator.stop()
    operator.kubeconfig = restricted(operator.cluster, namespace, tmp_path)
    operator.environment["NIXIMAGE_NAMESPACES"] = namespace
    operator.start(until="gitrepositories are not watched")
    flux.do("create", "-f", "-", given=git_repository(namespace))
    flux.set_status("gitrepository", "podinfo", namespace, FIRST)
    flux.do("create", "-f", "-", given=nix_image(namespace, source=SOURCE))
    image = operator.image_with(namespace, "SourceResolved", "False/CredentialsNotGranted")
    assert "Grant its ServiceAccount" in str(image["status"]["conditions"])
    rule = {
        "apiGroups": ["source.toolkit.fluxcd.io"],
        "resources": ["gitrepositories"],
        "verbs": ["get"],
    }
    metadata = {"name": "niximage-operator", "namespace": namespace}
    role = {**ROLE, "metadata": metadata, "rules": [*ROLE["rules"], rule]}
    flux.do("apply", "-f", "-", given=role)
    now = "reconcile.fluxcd.io/requestedAt=now"
    flux.do("annotate", "niximg", "web", "-n", namespace, now)
    operator.job(namespace)


@pytest.mark.timeout(1200)  # where the controllers have to be built first
def test_what_flux_itself_packs_is_what_is_built(
    no_flux: Cluster, operator: Operator, namespace: str, tmp_path: Path
) -> None:
    """Its own source-controller: the URL, the digest and the archive are the real ones."""
    demo = Demo.make(tmp_path / "served" / "demo.git")
    with served(demo.path.parent) as url, flux_at_work(no_flux, namespace, tmp_path):
        operator.stop()
        operator.start()
        no_flux.do("create", "-f", "-", given=nix_image(namespace, source=SOURCE, **PATIENT))
        repository = git_repository(namespace, url=f"{url}/demo.git", ref={"branch": "nixos-26.05"})
        no_flux.do("create", "-f", "-", given=repository)
        first = operator.job(namespace)
        source = PinnedSource.model_validate(request_of(first)["source"])
        assert source.revision == f"nixos-26.05@sha1:{demo.source.revision}"
        fetched = fetch_artifact(source, tmp_path / "fetched", timeout=30)
        assert contents(fetched.path) == contents(demo.check_out(tmp_path / "checked-out"))
        commit = demo.move("another")
        now = "reconcile.fluxcd.io/requestedAt=now"
        no_flux.do("annotate", "gitrepository", "podinfo", "-n", namespace, now)
        second = operator.job(namespace, other_than=first["metadata"]["uid"])
        assert request_of(second)["source"]["revision"] == f"nixos-26.05@sha1:{commit}"


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The URL of a server of the repositories in a folder."""
    server = Server(type("Handler", (SmartHandler,), {"root": folder}))
    try:
        yield server.url
    finally:
        server.stop()


@contextmanager
def flux_at_work(cluster: Cluster, namespace: str, folder: Path) -> Iterator[None]:
    """Flux's controllers, which take away what they made before they end."""
    own = folder / "flux"
    own.mkdir()
    with flux_itself(cluster, own):
        try:
            yield
        finally:
            cluster.do("delete", "gitrepositories", "--all", "-n", namespace, "--timeout=50s")


def contents(folder: Path) -> dict[str, tuple[bytes, bool]]:
    """The files below a folder: their bytes, and whether they can be run.

    Flux packs no symbolic links.
    """
    files = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    return {
        str(path.relative_to(folder)): (path.read_bytes(), bool(path.stat().st_mode & 0o100))
        for path in files
    }
