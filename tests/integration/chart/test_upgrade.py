"""Releases on a real API server: from the manifests before, from values to others, and away."""

import json
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from integration.chart.cases import CASES
from integration.chart.conftest import CHART, IMAGE, PROJECT, RELEASE, Json, Render
from support.kubernetes import Cluster, eventually, nix_image

DEPLOY = Path(__file__).parent / "older" / "deploy.yaml"
"""What there was before the chart."""


class Helm:
    """Helm, in one namespace of a cluster."""

    def __init__(self, program: Path, cluster: Cluster, namespace: str) -> None:
        self._command = [str(program), "--kubeconfig", str(cluster.kubeconfig)]
        self.namespace = namespace

    def __call__(self, *args: str | Path, values: Json | None = None) -> str:
        """Run helm, which must succeed."""
        given = ["--values", "-"] if values is not None else []
        done = subprocess.run(
            [*self._command, "--namespace", self.namespace, *map(str, args), *given],
            input=json.dumps(values),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def upgrade(self, values: Json, *args: str) -> str:
        """Install or upgrade the release."""
        return self("upgrade", "--install", RELEASE, CHART, *args, values={**IMAGE, **values})


def make_namespace(cluster: Cluster, name: str, labels: Json) -> None:
    metadata = {"name": name, "labels": labels}
    cluster.do(
        "apply", "-f", "-", given={"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}
    )


@pytest.fixture
def releases(helm: Path, cluster: Cluster) -> Iterator[Helm]:
    """Helm in a new namespace; the CRDs, which others use too, are taken over and stay."""
    release = Helm(helm, cluster, f"system-{secrets.token_hex(4)}")
    make_namespace(cluster, release.namespace, {})
    try:
        yield release
    finally:
        release("uninstall", RELEASE, "--ignore-not-found")
        cluster.do("delete", "namespace", release.namespace, "--wait=false")
        assert cluster.run("get", "crd", "niximages.niximage.dev").returncode == 0


@pytest.fixture
def image(cluster: Cluster) -> Iterator[Json]:
    """A NixImage that was there before."""
    namespace = f"team-{secrets.token_hex(4)}"
    make_namespace(cluster, namespace, {})
    cluster.do("create", "-f", "-", given=nix_image(namespace))
    found = cluster.get("niximage", "web", namespace)
    assert found is not None
    yield found
    cluster.do("delete", "namespace", namespace, "--wait=false")


@pytest.fixture(scope="module")
def restricted(cluster: Cluster) -> Iterator[str]:
    """A namespace that takes Restricted pods only."""
    namespace = f"restricted-{secrets.token_hex(4)}"
    make_namespace(cluster, namespace, {"pod-security.kubernetes.io/enforce": "restricted"})
    yield namespace
    cluster.do("delete", "namespace", namespace, "--wait=false")


def is_untouched(cluster: Cluster, image: Json) -> bool:
    own = image["metadata"]
    now = cluster.get("niximage", own["name"], own["namespace"])
    return now is not None and now["metadata"]["uid"] == own["uid"] and now["spec"] == image["spec"]


def test_the_manifests_before_the_chart_are_taken_over(
    cluster: Cluster, releases: Helm, image: Json
) -> None:
    """As the chart's page has it."""
    for each in yaml.safe_load_all(DEPLOY.read_text()):
        if each["kind"] == "Namespace":
            continue
        if "namespace" in each["metadata"]:
            each["metadata"]["namespace"] = releases.namespace
        for subject in each.get("subjects", []):
            subject["namespace"] = releases.namespace
        cluster.do("apply", "-f", "-", given=each)
    account = cluster.get("serviceaccount", "niximage-operator", releases.namespace)
    assert account is not None
    cluster.do(
        *("delete", "-n", releases.namespace),
        *("deployment/niximage-operator", "daemonset/niximage-gateway"),
    )
    releases.upgrade({"bucket": {"url": "gs://niximage"}}, "--take-ownership")
    taken = cluster.get("serviceaccount", "niximage-operator", releases.namespace)
    assert taken is not None
    assert taken["metadata"]["uid"] == account["metadata"]["uid"]
    for workload in ("deployment/niximage-operator", "daemonset/niximage-gateway"):
        labels = json.loads(cluster.do("get", workload, "-n", releases.namespace, "-o", "json"))[
            "metadata"
        ]["labels"]
        assert labels["app.kubernetes.io/managed-by"] == "Helm"
    roles = yaml.safe_load(cluster.do("get", "clusterrole", "niximage-operator", "-o", "yaml"))
    (binding,) = yaml.safe_load(
        cluster.do("get", "clusterrolebinding", "niximage-operator", "-o", "yaml")
    )["subjects"]
    assert roles["metadata"]["annotations"]["meta.helm.sh/release-namespace"] == releases.namespace
    assert binding["namespace"] == releases.namespace
    assert is_untouched(cluster, image)


def test_a_release_goes_from_any_values_to_any_others_and_back(
    cluster: Cluster, releases: Helm, image: Json
) -> None:
    for namespace in ("team-a", "team-b"):
        make_namespace(cluster, namespace, {})
    kinds = "deployments,daemonsets,cronjobs,services,ingresses,roles,poddisruptionbudgets"

    def there() -> set[str]:
        objects = cluster.do("get", kinds, "-n", releases.namespace, "-o", "name").split()
        return {each.rpartition("/")[2] for each in objects if "niximage" in each}

    releases.upgrade(CASES["bucket"], "--take-ownership")
    assert there() == {"niximage-operator", "niximage-gateway", "niximage-gc"}
    releases.upgrade(CASES["replicas"])
    assert there() == {"niximage-operator", "niximage-gateway", "niximage-operator-lease"}
    releases("rollback", RELEASE, "1")
    assert "niximage-gc" in there()
    releases.upgrade(CASES["namespaced"])
    assert cluster.run("get", "clusterrole", "niximage-operator").returncode != 0
    assert cluster.get("role", "niximage-operator", "team-a") is not None
    releases.upgrade(CASES["bucket"])
    assert cluster.run("get", "clusterrole", "niximage-operator").returncode == 0
    assert cluster.get("role", "niximage-operator", "team-a") is None
    assert is_untouched(cluster, image)
    releases("uninstall", RELEASE)
    eventually("all is gone", lambda: not there())
    assert is_untouched(cluster, image), "the CRDs stayed, and all NixImages"


@pytest.mark.parametrize("case", CASES)
def test_the_api_server_takes_pods_of_the_restricted_profile(
    cluster: Cluster, render: Render, restricted: str, case: str
) -> None:
    """Its own judgement of each pod, alone: nothing is made."""
    for component, template in render(CASES[case]).pods().items():
        spec = {**template["spec"], "serviceAccountName": "default"}
        spec.pop("priorityClassName", None)  # kept for a namespace of Kubernetes' own
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": component, "namespace": restricted},
            "spec": spec,
        }

        def asked(pod: Json = pod) -> str | None:
            done = cluster.run("create", "--dry-run=server", "-f", "-", given=pod)
            # the namespace's ServiceAccount is made a moment after it
            return None if "serviceaccount" in done.stderr else done.stderr or "taken"

        refusal = eventually("an answer", asked)
        kind = CASES[case].get("gateway", {}).get("kind", "DaemonSet")
        if component == "gateway" and kind == "DaemonSet":
            assert "violates PodSecurity" in refusal
            assert "hostPort" in refusal
            assert ("runAsUser=0" in refusal) is (case == "defaults")
        else:
            assert refusal == "taken"


@pytest.fixture
def without_crds(cluster: Cluster) -> Iterator[None]:
    """A cluster that knows no NixImages; afterwards it does, as the other tests want it."""
    crds = ("niximages.niximage.dev", "nixbuildclasses.niximage.dev")
    cluster.do("delete", "crd", *crds, "--ignore-not-found", "--wait")
    yield
    cluster.do("apply", "-k", str(PROJECT / "crds"))
    for crd in crds:
        eventually(crd, lambda crd=crd: cluster.run("get", crd, "-A").returncode == 0)  # type: ignore[misc]


def test_the_default_class_follows_its_values_once_the_kind_is_there(
    without_crds: None, cluster: Cluster, releases: Helm
) -> None:
    values: Json = {
        "bucket": {"url": "gs://images"},
        "defaultBuildClass": {"enabled": True, "spec": {"localBuilds": "Forbidden"}},
    }

    def local_builds() -> str:
        path = (
            "jsonpath={.spec.localBuilds} {.metadata.annotations.niximage\\.dev/is-default-class}"
        )
        return cluster.do("get", "nixbuildclass", "default", "-o", path)

    with pytest.raises(AssertionError, match="install without defaultBuildClass"):
        releases.upgrade(values)
    releases.upgrade({"bucket": values["bucket"]})
    releases.upgrade(values)
    assert local_builds() == "Forbidden true"
    values["defaultBuildClass"]["spec"] = {"localBuilds": "Allowed"}
    releases.upgrade(values)
    assert local_builds() == "Allowed true"
    values["defaultBuildClass"]["enabled"] = False
    releases.upgrade(values)
    assert cluster.run("get", "nixbuildclass", "default").returncode != 0


def test_a_folder_of_one_node_is_refused_where_there_are_several(
    cluster: Cluster, releases: Helm
) -> None:
    nodes = [f"node-{each}-{secrets.token_hex(2)}" for each in "ab"]
    for name in nodes:
        node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}}
        cluster.do("create", "-f", "-", given=node)
    try:
        with pytest.raises(AssertionError, match="this cluster has 2 nodes"):
            releases.upgrade({})
        on_one = {"bucket": {"folder": {"nodeName": nodes[0]}}}
        with pytest.raises(AssertionError, match="keeps the bucket on one node of several"):
            releases.upgrade(on_one)
        gateway = {"kind": "Deployment", "registry": "images.example"}
        releases.upgrade({**on_one, "gateway": gateway}, "--take-ownership")
        text = cluster.do("get", "pv", "-o", "json", "-l", "app.kubernetes.io/part-of=niximage")
        for volume in json.loads(text)["items"]:
            (term,) = volume["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"]
            assert term["matchFields"][0]["values"] == [nodes[0]]
    finally:
        cluster.do("delete", "node", *nodes)
