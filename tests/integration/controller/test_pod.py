"""Build pods before a real API server, where PodSecurity Restricted is enforced."""

from dataclasses import replace
from typing import Any

import pytest

from niximage.controller.builds.job import job_manifest
from niximage.controller.settings import Settings
from support.kubernetes import Cluster
from unit.controller.states import SETTINGS
from unit.controller.test_federation import FEDERATION
from unit.controller.test_job import CREATE, IMAGE

SETUPS = {
    "as it comes": SETTINGS,
    "with a folder": replace(SETTINGS, bucket="file:///srv/images", bucket_claim="images"),
    "with a token for the cloud": replace(SETTINGS, federation=FEDERATION),
}


@pytest.mark.parametrize("settings", SETUPS.values(), ids=SETUPS)
def test_each_pod_is_taken_and_restricted(
    cluster: Cluster, namespace: str, settings: Settings
) -> None:
    enforce = "pod-security.kubernetes.io/enforce=restricted"
    cluster.do("label", "namespace", namespace, enforce)
    template = job_manifest(IMAGE, CREATE, settings)["spec"]["template"]
    metadata = {**template["metadata"], "name": "build", "namespace": namespace}
    pod: dict[str, Any] = {"apiVersion": "v1", "kind": "Pod", **template, "metadata": metadata}
    cluster.do("create", "--dry-run=server", "--validate=strict", "-f", "-", given=pod)
    pod["spec"]["securityContext"]["runAsNonRoot"] = False
    refused = cluster.run("create", "--dry-run=server", "-f", "-", given=pod)
    assert "violates PodSecurity" in refused.stderr
