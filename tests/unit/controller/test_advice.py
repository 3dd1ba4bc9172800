"""What keeps a pod from starting, in the words of a real scheduler and kubelet, and what to do."""

from typing import Any

import pytest

from niximage.controller.builds.advice import advice
from niximage.controller.builds.job import job_manifest
from niximage.controller.builds.progress import none_yet, pending
from niximage.controller.settings import Settings
from niximage.controller.steps import CreateJob
from unit.controller.states import SETTINGS, job, nix_image, request

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


@pytest.mark.parametrize(
    ("note", "told"),
    [
        (
            (
                'Error creating: pods "web-1-cdrkk" is forbidden: exceeded quota: pods, '
                "requested: pods=1, used: pods=0, limited: pods=0"
            ),
            (
                "forbidden: exceeded quota: pods, requested: pods=1, used: "
                "pods=0, limited: pods=0. "
                "Lower spec.build.resources, or ask for more room in the ResourceQuota of team-a"
            ),
        ),
        (
            (
                'Error creating: pods "web-1-4vxh7" is forbidden: maximum memory usage per '
                "Container is 100Mi, but limit is 4Gi"
            ),
            (
                "forbidden: maximum memory usage per Container is 100Mi, but limit is 4Gi. "
                "Keep spec.build.resources within the LimitRange of team-a, or have that changed"
            ),
        ),
        (
            (
                'Error creating: pods "web-1-" is forbidden: error looking up service account '
                'team-a/nosuch: serviceaccount "nosuch" not found'
            ),
            (
                "forbidden: error looking up service account team-a/nosuch: serviceaccount "
                '"nosuch" not found. Create it in team-a, or correct spec.build.serviceAccountName'
            ),
        ),
        (
            'Error creating: pods "web-1-" is forbidden: no PriorityClass with name x was found',
            (
                "forbidden: no PriorityClass with name x was found. "
                "Correct spec.build.priorityClassName, or that of the NixBuildClass"
            ),
        ),
        (
            (
                'Error creating: pods "web-1-" is forbidden: pod rejected: '
                'RuntimeClass "gvisor" not '
                "found"
            ),
            (
                'forbidden: pod rejected: RuntimeClass "gvisor" not found. '
                "The NixBuildClass names it in runtimeClassName: ask who owns the class"
            ),
        ),
        ('Error creating: admission webhook "a" denied it.', 'admission webhook "a" denied it'),
    ],
)
def test_why_a_job_may_make_no_pod_is_told(note: str, told: str) -> None:
    at = {"reason": "FailedCreate", "deprecatedLastTimestamp": "2026-11-21T16:25:05Z"}
    before = {**at, "deprecatedLastTimestamp": "2026-11-21T16:24:05Z", "note": "another"}
    found = none_yet(job(nix_image()), [before, {**at, "note": note}])
    assert found.phase == "Pending"
    assert found.message == f"the Job may make no pod: {told}"


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
