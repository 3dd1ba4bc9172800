"""Whom the NetworkPolicies let through."""

import ipaddress

import pytest

from integration.chart.cases import CASES
from integration.chart.conftest import NAMESPACE, Json, Manifests, Render
from unit.controller.test_job import manifest

METADATA = "169.254.169.254"


def policy(manifests: Manifests, name: str, namespace: str = NAMESPACE) -> Json:
    spec: Json = manifests.get("NetworkPolicy", f"niximage-{name}", namespace)["spec"]
    return spec


def reaches(spec: Json, address: str, port: int) -> bool:
    """Whether egress rules let a packet through to an address that is no pod's."""

    def peer_has(peer: Json) -> bool:
        block = peer.get("ipBlock")
        if block is None:
            return False
        host = ipaddress.ip_address(address)
        return host in ipaddress.ip_network(block["cidr"]) and not any(
            host in ipaddress.ip_network(each) for each in block.get("except", ())
        )

    return any(
        ("to" not in rule or any(map(peer_has, rule["to"])))
        and ("ports" not in rule or any(each["port"] == port for each in rule["ports"]))
        for rule in spec["egress"]
    )


@pytest.mark.parametrize(
    ("address", "port", "expected"),
    [
        ("140.82.121.4", 443, True),  # a Git server or binary cache
        ("140.82.121.4", 22, True),
        ("2606:4700::6810:1", 443, True),
        ("140.82.121.4", 6443, False),
        (METADATA, 80, False),
        ("169.254.169.252", 988, False),  # GKE's
        ("169.254.20.10", 53, True),  # DNS cache of the node
        ("169.254.20.10", 80, False),
        ("10.96.0.1", 443, False),  # the API server, as pods find it
        ("10.4.0.7", 443, False),
        ("172.20.0.1", 443, False),
        ("192.168.1.1", 80, False),
        ("100.64.0.1", 443, False),
        ("127.0.0.1", 80, False),
        ("fd00::1", 443, False),
        ("fe80::1", 80, False),
        ("fd00:ec2::254", 80, False),  # Amazon's, by its other address
    ],
)
def test_builds_reach_the_world_and_nothing_of_the_cluster(
    render: Render, address: str, port: int, *, expected: bool
) -> None:
    spec = policy(render({}), "builds", "default")
    assert reaches(spec, address, port) is expected
    assert spec["ingress"] == []
    assert set(spec["policyTypes"]) == {"Ingress", "Egress"}


def test_the_policy_of_builds_selects_their_pods(render: Render) -> None:
    labels = manifest()["spec"]["template"]["metadata"]["labels"]
    selector = policy(render({}), "builds", "default")["podSelector"]["matchLabels"]
    assert selector.items() <= labels.items()


def test_only_who_allows_it_lets_builds_ask_the_metadata_server(render: Render) -> None:
    spec = policy(render(CASES["kubernetes"]), "builds", "default")
    assert reaches(spec, METADATA, 80)
    assert CASES["kubernetes"]["networkPolicies"]["extraEgress"][0] in spec["egress"]


@pytest.mark.parametrize("component", ["operator", "gateway", "gc"])
def test_parts_reach_bucket_and_api_server(render: Render, component: str) -> None:
    manifests = render(CASES["bucket"])
    spec = policy(manifests, component)
    for address, port in (("142.250.1.1", 443), ("10.96.0.1", 443), (METADATA, 80)):
        assert reaches(spec, address, port)
    assert not reaches(spec, "10.4.0.7", 3306)
    labels = manifests.pods()[component]["metadata"]["labels"]
    assert spec["podSelector"]["matchLabels"].items() <= labels.items()


def test_a_gateway_of_a_folder_reaches_nothing(render: Render) -> None:
    assert policy(render({}), "gateway")["egress"] == []


def test_peers_are_limited_as_admins_say(render: Render) -> None:
    (rule,) = policy(render(CASES["kubernetes"]), "operator")["ingress"]
    assert rule["from"] == CASES["kubernetes"]["networkPolicies"]["metricsFrom"]
    (rule,) = policy(render({}), "operator")["ingress"]
    assert "from" not in rule


def test_each_namespace_of_builds_has_its_policy(render: Render) -> None:
    names = {
        each["metadata"]["namespace"]
        for each in render(CASES["bucket"]).of_kind("NetworkPolicy")
        if each["metadata"]["name"] == "niximage-builds"
    }
    assert names == {"team-a", "team-b"}
    assert render({"networkPolicies": {"enabled": False}}).of_kind("NetworkPolicy") == []
