"""What the chart makes of its values."""

import json
from typing import Any

import pytest
import yaml

from integration.chart.cases import CASES
from integration.chart.conftest import CHART, NAMESPACE, Json, Manifests, Render
from niximage.api.crd import crds
from niximage.controller.cluster.rights import RIGHTS, Right

each_case = pytest.mark.parametrize("case", CASES)
TOKENS = {"operator", "gc"}  # who talks to the API server, in any case
KEEP = "helm.sh/resource-policy"


@each_case
def test_all_pods_are_of_the_restricted_profile_with_a_read_only_root(
    render: Render, case: str
) -> None:
    for component, template in render(CASES[case]).pods().items():
        pod = template["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is (component in TOKENS | _asking(case))
        assert not any("hostPath" in volume for volume in pod["volumes"])
        for container in pod["containers"]:
            context = container["securityContext"]
            assert context["readOnlyRootFilesystem"] is True
            assert context["allowPrivilegeEscalation"] is False
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert context.get("runAsUser", 1000) == 1000
            assert container["resources"]["limits"]["memory"]


def _asking(case: str) -> set[str]:
    """Whether the gateway asks the API server about others."""
    mode = CASES[case].get("gateway", {}).get("auth", {}).get("mode")
    return {"gateway"} if mode == "kubernetes" else set()


@each_case
def test_only_the_node_s_folder_is_handed_over_by_root(render: Render, case: str) -> None:
    roots = [
        container
        for template in render(CASES[case]).pods().values()
        for container in template["spec"].get("initContainers", [])
    ]
    if case != "defaults":
        assert roots == []
        return
    (root,) = roots
    assert root["command"] == ["chown", "1000:1000", "/bucket"]
    assert root["securityContext"]["capabilities"] == {"drop": ["ALL"], "add": ["CHOWN"]}


@each_case
def test_selectors_select_the_pods_and_nothing_moves_them(render: Render, case: str) -> None:
    manifests = render(CASES[case])
    for kind in ("Deployment", "DaemonSet"):
        for workload in manifests.of_kind(kind):
            wanted = workload["spec"]["selector"]["matchLabels"]
            labels = workload["spec"]["template"]["metadata"]["labels"]
            assert wanted.items() <= labels.items()
            assert set(wanted) == {
                f"app.kubernetes.io/{name}" for name in ("name", "instance", "component")
            }


@each_case
def test_no_object_is_made_twice_and_all_say_whose_they_are(render: Render, case: str) -> None:
    manifests = render(CASES[case])
    seen = [
        (each["kind"], each["metadata"]["name"], each["metadata"].get("namespace"))
        for each in manifests.all
    ]
    assert len(seen) == len(set(seen))
    for each in manifests.all:
        if not each["metadata"]["name"].endswith(("-extra", "-text")):
            assert each["metadata"]["labels"]["app.kubernetes.io/part-of"] == "niximage"


# Rights ------------------------------------------------------------------------------------------


def rules(manifests: Manifests, kind: str, namespace: str | None = None) -> list[Json]:
    """The operator's rules of a kind of role."""
    found = manifests.find(kind, "niximage-operator", namespace)
    return [] if found is None else list(found["rules"])


def grants(rule: Json, right: Right) -> bool:
    """Whether a rule grants a right."""
    resource = f"{right.resource}/{right.subresource}".rstrip("/")
    return (
        right.group in rule["apiGroups"]
        and resource in rule["resources"]
        and right.verb in rule["verbs"]
    )


@pytest.mark.parametrize("right", RIGHTS, ids=str)
def test_the_operator_gets_every_right_that_it_asks_for(render: Render, right: Right) -> None:
    everywhere = rules(render({}), "ClusterRole")
    assert any(grants(rule, right) for rule in everywhere)
    if not right.cluster:
        for namespace in CASES["namespaced"]["watchNamespaces"]:
            own = rules(render(CASES["namespaced"]), "Role", namespace)
            assert any(grants(rule, right) for rule in own)


@each_case
def test_nobody_may_read_secrets_or_use_a_wildcard(render: Render, case: str) -> None:
    manifests = render(CASES[case])
    for role in [*manifests.of_kind("ClusterRole"), *manifests.of_kind("Role")]:
        for rule in role["rules"]:
            words = {*rule["apiGroups"], *rule["resources"], *rule["verbs"]}
            assert not words & {"*", "secrets", "escalate", "bind", "impersonate"}


def test_roles_of_namespaces_leave_nothing_of_the_cluster(render: Render) -> None:
    kinds = {each["kind"] for each in render(CASES["namespaced"]).all}
    assert not kinds & {"ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition"}
    environment = render(CASES["namespaced"]).environment("operator")
    assert environment["NIXIMAGE_NAMESPACES"] == "team-a team-b"


@pytest.mark.parametrize("watched", [[], ["team-a"]])
def test_garbage_collection_may_list_all_images_and_nothing_else(
    render: Render, watched: list[str]
) -> None:
    """Who sees some images only would delete the others."""
    manifests = render({"gc": {"enabled": True}, "watchNamespaces": watched})
    role = manifests.get("ClusterRole", "niximage-gc")
    assert role["rules"] == [
        {"apiGroups": ["niximage.dev"], "resources": ["niximages"], "verbs": ["list"]}
    ]


def test_garbage_collection_asks_the_other_clusters_of_the_bucket(render: Render) -> None:
    pod = render(CASES["bucket"]).pods()["gc"]["spec"]
    (container,) = pod["containers"]
    assert "--clusters=/clusters" in container["args"]
    mounts = {each["name"]: each["mountPath"] for each in container["volumeMounts"]}
    assert mounts["clusters"] == "/clusters"
    volumes = {each["name"]: each for each in pod["volumes"]}
    assert volumes["clusters"]["secret"]["secretName"] == "clusters"
    alone = render(CASES["claim"]).pods()["gc"]["spec"]["containers"][0]
    assert not [each for each in alone["args"] if "clusters" in each]


@pytest.mark.parametrize(
    ("name", "targets"),
    [("view", {"view", "edit", "admin"}), ("edit", {"edit", "admin"}), ("admin", {"admin"})],
)
def test_roles_are_added_to_those_of_the_cluster(
    render: Render, name: str, targets: set[str]
) -> None:
    labels = render({}).get("ClusterRole", f"niximage-{name}")["metadata"]["labels"]
    prefix = "rbac.authorization.k8s.io/aggregate-to-"
    assert {k.removeprefix(prefix) for k in labels if k.startswith(prefix)} == targets


# Operator ----------------------------------------------------------------------------------------


def test_one_operator_is_replaced_and_holds_no_lease(render: Render) -> None:
    manifests = render({})
    spec = manifests.get("Deployment", "niximage-operator")["spec"]
    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})
    assert "NIXIMAGE_LEASE" not in manifests.environment("operator")
    assert manifests.of_kind("PodDisruptionBudget") == []


def test_several_operators_share_a_lease_that_they_may_write(render: Render) -> None:
    manifests = render(CASES["replicas"])
    spec = manifests.get("Deployment", "niximage-operator")["spec"]
    assert (spec["replicas"], spec["strategy"]) == (2, {"type": "RollingUpdate"})
    lease = manifests.environment("operator")["NIXIMAGE_LEASE"]
    assert lease == f"{NAMESPACE}/niximage-operator"
    role = manifests.get("Role", "niximage-operator-lease", NAMESPACE)
    verbs = {verb: rule.get("resourceNames") for rule in role["rules"] for verb in rule["verbs"]}
    assert verbs == {
        "create": None,  # a name is not known yet when an object is made
        "get": ["niximage-operator"],
        "update": ["niximage-operator"],
    }
    budget = manifests.get("PodDisruptionBudget", "niximage-operator")
    assert budget["spec"]["selector"] == spec["selector"]


def test_what_admins_say_of_pods_is_in_the_pods(render: Render) -> None:
    manifests = render(CASES["replicas"])
    given = CASES["replicas"]["operator"]
    template = manifests.pods()["operator"]
    assert template["metadata"]["annotations"] == given["podAnnotations"]
    assert template["metadata"]["labels"]["c"] == "d"
    pod = template["spec"]
    for field in (
        "priorityClassName",
        "nodeSelector",
        "tolerations",
        "affinity",
        "dnsPolicy",
        "dnsConfig",
        "hostAliases",
    ):
        assert pod[field] == given[field]
    (spread,) = pod["topologySpreadConstraints"]
    assert given["topologySpreadConstraints"][0].items() <= spread.items()
    assert spread["labelSelector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
    (container,) = pod["containers"]
    assert container["args"] == ["operator", "--help"]
    assert container["env"][-1] == given["extraEnv"][0]
    assert container["volumeMounts"][-1] == given["extraVolumeMounts"][0]
    assert pod["volumes"][-1] == given["extraVolumes"][0]
    account = manifests.get("ServiceAccount", "niximage-operator")
    assert account["metadata"]["annotations"] == given["serviceAccount"]["annotations"]


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        (
            "defaults",
            {
                "NIXIMAGE_BUCKET": "file:///bucket",
                "NIXIMAGE_BUCKET_CLAIM": "niximage-bucket",
                "NIXIMAGE_REGISTRY": "127.0.0.1:5000",
                "NIXIMAGE_SERVICE_ACCOUNT": "default",
                "NIXIMAGE_BUILDER_IMAGE": "registry.example/niximage-operator:0.1.0",
            },
        ),
        (
            "bucket",
            {
                "NIXIMAGE_BUCKET": "gs://images/team",
                "NIXIMAGE_BUILDER_IMAGE": "registry.example/builder:v2",
                "NIXIMAGE_SERVICE_ACCOUNT": "niximage-build",
                "NIXIMAGE_INSECURE_REGISTRIES": "registry.lan:5000",
            },
        ),
        (
            "claim",
            {"NIXIMAGE_BUCKET": "file:///srv/images", "NIXIMAGE_BUCKET_CLAIM": "images"},
        ),
        ("replicas", {"NIXIMAGE_REGISTRY": "images.example"}),
        ("without gateway", {"NIXIMAGE_REGISTRY": "registry.example:5000"}),
    ],
)
def test_the_operator_is_told(render: Render, case: str, expected: dict[str, str]) -> None:
    environment = render(CASES[case]).environment("operator")
    assert expected.items() <= environment.items()
    assert ("NIXIMAGE_BUCKET_CLAIM" in environment) is expected.get(
        "NIXIMAGE_BUCKET", "gs:"
    ).startswith("file:")


# Gateway and bucket ------------------------------------------------------------------------------


def test_the_gateway_is_on_the_loopback_of_each_node(render: Render) -> None:
    manifests = render({})
    pod = manifests.get("DaemonSet", "niximage-gateway")["spec"]["template"]["spec"]
    (port,) = pod["containers"][0]["ports"]
    assert (port["hostIP"], port["hostPort"]) == ("127.0.0.1", 5000)
    assert pod["tolerations"] == [{"operator": "Exists"}]
    assert manifests.of_kind("Service") == []


def test_the_gateway_is_behind_an_ingress(render: Render) -> None:
    manifests = render(CASES["replicas"])
    pod = manifests.get("Deployment", "niximage-gateway")["spec"]["template"]["spec"]
    (port,) = pod["containers"][0]["ports"]
    assert port == {"name": "registry", "containerPort": 5000}
    assert "tolerations" not in pod
    service = manifests.get("Service", "niximage-gateway")
    assert service["spec"]["selector"].items() <= (
        manifests.pods()["gateway"]["metadata"]["labels"].items()
    )
    ingress = manifests.get("Ingress", "niximage-gateway")["spec"]
    assert ingress["ingressClassName"] == "nginx"
    assert ingress["tls"] == [{"hosts": ["images.example"], "secretName": "images-tls"}]
    assert manifests.get("PodDisruptionBudget", "niximage-gateway")
    environment = manifests.environment("gateway")
    assert environment["NIXIMAGE_HTPASSWD"] == "/etc/niximage/htpasswd/htpasswd"
    assert environment["NIXIMAGE_TOKEN_KEY"] == "/etc/niximage/token-key/key"


def test_a_gateway_that_asks_kubernetes_may_ask_and_speaks_tls(render: Render) -> None:
    manifests = render(CASES["kubernetes"])
    binding = manifests.get("ClusterRoleBinding", "niximage-gateway")
    assert binding["roleRef"]["name"] == "system:auth-delegator"
    (container,) = manifests.pods()["gateway"]["spec"]["containers"]
    for probe in ("readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"]["scheme"] == "HTTPS"
    assert render({}).find("ClusterRoleBinding", "niximage-gateway") is None


def test_the_folder_of_the_node_has_a_claim_in_each_namespace(render: Render) -> None:
    manifests = render({"buildNamespaces": ["team-a", "team-b"]})
    namespaces = {c["metadata"]["namespace"] for c in manifests.of_kind("PersistentVolumeClaim")}
    assert namespaces == {NAMESPACE, "team-a", "team-b"}
    for claim in manifests.of_kind("PersistentVolumeClaim"):
        volume = manifests.get("PersistentVolume", claim["spec"]["volumeName"])
        assert volume["spec"]["claimRef"] == {
            "namespace": claim["metadata"]["namespace"],
            "name": claim["metadata"]["name"],
        }
        assert volume["spec"]["persistentVolumeReclaimPolicy"] == "Retain"


@pytest.mark.parametrize("case", ["bucket", "claim", "namespaced"])
def test_other_buckets_get_no_volumes_of_the_chart(render: Render, case: str) -> None:
    assert render(CASES[case]).of_kind("PersistentVolume") == []
    assert render(CASES[case]).of_kind("PersistentVolumeClaim") == []


def test_the_account_of_builds_is_made_where_they_run(render: Render) -> None:
    accounts = [
        account["metadata"]["namespace"]
        for account in render(CASES["bucket"]).of_kind("ServiceAccount")
        if account["metadata"]["name"] == "niximage-build"
    ]
    assert accounts == ["team-a", "team-b"]


# CRDs --------------------------------------------------------------------------------------------


def test_the_crds_are_those_of_the_models_and_stay(render: Render) -> None:
    rendered = {crd["metadata"]["name"]: crd for crd in render({}).of_kind(_CRD)}
    expected = crds()
    assert set(rendered) == {crd["metadata"]["name"] for crd in expected}
    for crd in expected:
        found = rendered[crd["metadata"]["name"]]
        assert found["spec"] == yaml.safe_load(yaml.safe_dump(crd["spec"]))
        assert found["metadata"]["annotations"][KEEP] == "keep"
        assert crd["metadata"].get("annotations", {}).items() <= (
            found["metadata"]["annotations"].items()
        )
    for crd in render({"crds": {"keep": False}}).of_kind(_CRD):
        assert KEEP not in crd["metadata"].get("annotations", {})


_CRD = "CustomResourceDefinition"


# Values ------------------------------------------------------------------------------------------


def test_extra_objects_are_templates(render: Render) -> None:
    names = render(CASES["without gateway"]).names()
    assert {("ConfigMap", "niximage-extra"), ("ConfigMap", "niximage-text")} <= names


def test_the_schema_knows_each_value_tells_of_it_and_is_closed() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())

    def look(path: str, known: Json, value: Any) -> None:
        if "properties" not in known:
            assert known.get("description"), path
            return
        assert known["additionalProperties"] is False, path
        if not value:
            return
        assert set(value) == set(known["properties"]) - {"global"}, path
        for name, inner in value.items():
            look(f"{path}.{name}", known["properties"][name], inner)

    look("", schema, values)
