"""How pods open gs:// without a key: by tokens that Google exchanges."""

import json

import pytest
from google.auth import identity_pool

from integration.chart.cases import CASES, FEDERATION
from integration.chart.conftest import Render
from niximage.controller.builds.federation import parse_federation


@pytest.mark.parametrize("component", ["operator", "gateway", "gc"])
def test_each_part_has_a_token_and_says_where(render: Render, component: str) -> None:
    manifests = render(CASES["bucket"])
    environment = manifests.environment(component)
    assert environment["GOOGLE_APPLICATION_CREDENTIALS"] == "/var/run/niximage/credentials.json"
    pod = manifests.pods()[component]["spec"]
    (volume,) = (each for each in pod["volumes"] if each["name"] == "federation")
    token, configuration = volume["projected"]["sources"]
    assert token["serviceAccountToken"]["audience"] == f"https:{FEDERATION['audience']}"
    assert configuration["configMap"]["name"] == "niximage-federation"
    (mount,) = (
        each for each in pod["containers"][0]["volumeMounts"] if each["name"] == "federation"
    )
    assert mount["mountPath"] == "/var/run/niximage"


def test_googles_library_takes_the_configuration(render: Render) -> None:
    data = render(CASES["bucket"]).get("ConfigMap", "niximage-federation")["data"]
    document = json.loads(data["credentials.json"])
    assert document["credential_source"]["file"] == "/var/run/niximage/token"
    credentials = identity_pool.Credentials.from_info(document)  # type: ignore[no-untyped-call]
    assert credentials.info["audience"] == FEDERATION["audience"]


def test_the_operator_takes_what_it_is_to_give_to_builds(render: Render) -> None:
    text = render(CASES["bucket"]).environment("operator")["NIXIMAGE_PUBLISH_CREDENTIALS"]
    federation = parse_federation(text)
    assert federation is not None
    assert federation.audience == f"https:{FEDERATION['audience']}"
