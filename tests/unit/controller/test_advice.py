"""What keeps a pod from starting, in the words of a real scheduler and kubelet, and what to do."""

from typing import Any

import pytest

from niximage.controller.builds.advice import advice
from niximage.controller.builds.job import job_manifest
from niximage.controller.builds.progress import pending
from niximage.controller.settings import Settings
from niximage.controller.steps import CreateJob
from unit.controller.states import SETTINGS, nix_image, request

NO_CLAIM = '0/1 nodes are available: persistentvolumeclaim "{}" not found. not found'
EPHEMERAL = (
    "0/1 nodes are available: waiting for ephemeral volume controller to create the "
    'persistentvolumeclaim "web-1-x-nix". not found'
)
UNBOUND = "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims. not found"
FULL = (
    "0/1 nodes are available: 1 Insufficient memory. no new claims to deallocate, preemption: 0/1 "
    "nodes are available: 1 Preemption is not helpful for scheduling."
)
SELECTOR = "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector."
TAINT = "0/3 nodes are available: 3 node(s) had untolerated taint {gpu: true}."


def pod_of(settings: Settings = SETTINGS, **spec: Any) -> dict[str, Any]:
    """The pod that the Job of an image gets."""
    image = nix_image(**spec)
    create = CreateJob("web-1", request(image), 1)
    template = job_manifest(image, create, settings)["spec"]["template"]
    return {"metadata": {"namespace": "team-a", "name": "web-1-x"}, "spec": template["spec"]}


VOLUME = pod_of(source={"volume": {"claimName": "packages"}})
BUCKET = pod_of(
    Settings(
        bucket="file:///bucket",
        bucket_claim="images",
        registry=SETTINGS.registry,
        nixpkgs_url=SETTINGS.nixpkgs_url,
        builder_image=SETTINGS.builder_image,
    )
)
STORE = pod_of()
STORE["spec"]["volumes"] = [{"name": "nix", "ephemeral": {"volumeClaimTemplate": {}}}]


@pytest.mark.parametrize(
    ("pod", "reason", "message", "todo"),
    [
        (
            VOLUME,
            "Unschedulable",
            NO_CLAIM.format("packages"),
            "Create the claim packages in the namespace team-a, or correct spec.source.volume",
        ),
        (
            BUCKET,
            "Unschedulable",
            NO_CLAIM.format("images"),
            "Create the claim images, which has the bucket, in the namespace team-a",
        ),
        (
            STORE,
            "Unschedulable",
            EPHEMERAL,
            "The NixBuildClass's store makes the claim web-1-x-nix",
        ),
        (STORE, "Unschedulable", NO_CLAIM.format("x"), "Create the claim x in the namespace"),
        (STORE, "Unschedulable", UNBOUND, "See kubectl get pvc -n team-a: a claim waits"),
        (STORE, "Unschedulable", FULL, "Lower spec.build.resources"),
        (STORE, "Unschedulable", SELECTOR, "Change spec.build.nodeSelector"),
        (STORE, "Unschedulable", TAINT, "Add spec.build.tolerations"),
        (STORE, "ErrImagePull", "manifest unknown", "Nodes must be able to pull"),
        (STORE, "ImagePullBackOff", "", "Nodes must be able to pull"),
        (
            STORE,
            "CreateContainerConfigError",
            'secret "keys" not found',
            "Create what is missing in the namespace team-a",
        ),
    ],
)
def test_each_cause_has_its_advice(
    pod: dict[str, Any], reason: str, message: str, todo: str
) -> None:
    assert advice(pod, reason, message).startswith(todo)


@pytest.mark.parametrize("pod", [{}, {"metadata": None, "spec": None}, {"spec": {"volumes": None}}])
def test_of_what_is_not_known_nothing_is_said(pod: dict[str, Any]) -> None:
    assert advice(pod, "SchedulingGated", "") == ""
    assert advice(pod, "Unschedulable", "0/1 nodes are available") == ""


def test_no_length_of_the_clusters_words_cuts_the_advice_off() -> None:
    condition = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": NO_CLAIM.format("packages") + "ä" * 5000,
    }
    found = pending({**VOLUME, "status": {"conditions": [condition]}})
    assert found is not None
    assert len(found.message.encode()) <= 600
    assert found.message.startswith("Unschedulable: 0/1 nodes")
    assert found.message.endswith("or correct spec.source.volume.claimName")
