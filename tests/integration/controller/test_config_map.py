"""`output.configMap`, by the operator as a process on a real API server."""

import json

from integration.controller.conftest import Operator
from niximage.api.image import REQUESTED_AT
from support.kubernetes import Json, conditions, eventually, nix_image

WANTED = {"configMap": True}


def config_map(operator: Operator, namespace: str) -> Json:
    """The ConfigMap, once it is there."""
    look = lambda: operator.cluster.get("configmap", "web-image", namespace)  # noqa: E731 (one use)
    return eventually("the ConfigMap", look, log=operator.log)


def gone(operator: Operator, namespace: str) -> None:
    absent = lambda: operator.cluster.get("configmap", "web-image", namespace) is None  # noqa: E731 (one use)
    # With its owner it goes by the cluster's collector, which looks for new kinds twice a minute.
    eventually("the ConfigMap is gone", absent, within=60, log=operator.log)


def built(operator: Operator, namespace: str, *, other_than: str = "", content: bytes = b"") -> str:
    """Do what a build does; returns the uid of its Job."""
    job = operator.job(namespace, other_than=other_than)
    operator.end_job(job, code=0, message=json.dumps(operator.publish(job, content=content)))
    uid: str = job["metadata"]["uid"]
    return uid


def after_builds(operator: Operator, namespace: str, count: int) -> Json:
    """The status, once so many builds were told."""
    told = lambda i: len(i["status"].get("history", [])) == count  # noqa: E731 (one use)
    status: Json = operator.image(namespace, told)["status"]
    return status


def moved(operator: Operator, namespace: str, token: str) -> None:
    """Move the source, and have it looked at."""
    operator.git.commit(token)
    annotate = ("annotate", "--overwrite", "niximage", "web", "-n", namespace)
    operator.cluster.do(*annotate, f"{REQUESTED_AT}={token}")


def test_it_names_the_image_and_changes_only_with_the_digest(
    operator: Operator, namespace: str
) -> None:
    image = nix_image(namespace, output=WANTED)
    operator.cluster.do("create", "-f", "-", given=image)
    first = built(operator, namespace)
    status = operator.image_with(namespace, "Ready", "True/Succeeded")["status"]
    before = config_map(operator, namespace)
    assert before["metadata"]["labels"]["reconcile.fluxcd.io/watch"] == "Enabled"
    assert before["data"]["image"] == before["data"]["web_image"] == status["image"]
    assert before["data"]["digest"] == status["digest"]
    assert before["data"]["revision"] == status["source"]["revision"]
    assert status["configMap"] == "web-image"

    moved(operator, namespace, "second")
    second = built(operator, namespace, other_than=first)
    status = after_builds(operator, namespace, 2)
    assert status["source"]["revision"] != before["data"]["revision"]
    assert config_map(operator, namespace) == before, "the digest is the same"

    moved(operator, namespace, "third")
    eventually(
        "the third Job",
        lambda: len(operator.cluster.list("jobs", namespace)) == 3,
        log=operator.log,
    )
    (third,) = [
        job
        for job in operator.cluster.list("jobs", namespace)
        if job["metadata"]["uid"] not in {first, second}
    ]
    operator.end_job(third, code=0, message=json.dumps(operator.publish(third, content=b"new")))
    status = after_builds(operator, namespace, 3)
    assert config_map(operator, namespace)["data"]["image"] == status["image"]
    assert status["digest"] != before["data"]["digest"]


def test_it_comes_and_goes_with_the_field_and_with_the_image(
    operator: Operator, namespace: str
) -> None:
    operator.cluster.do("create", "-f", "-", given=nix_image(namespace))
    built(operator, namespace)
    operator.image_with(namespace, "Ready", "True/Succeeded")
    assert operator.cluster.get("configmap", "web-image", namespace) is None
    operator.cluster.do("apply", "-f", "-", given=nix_image(namespace, output=WANTED))
    config_map(operator, namespace)
    operator.cluster.do("apply", "-f", "-", given=nix_image(namespace))
    gone(operator, namespace)
    operator.cluster.do("apply", "-f", "-", given=nix_image(namespace, output=WANTED))
    config_map(operator, namespace)
    operator.cluster.do("delete", "niximage", "web", "-n", namespace)
    gone(operator, namespace)


def test_one_of_somebody_else_is_left_alone_and_replaced_when_it_is_gone(
    operator: Operator, namespace: str
) -> None:
    theirs = ("create", "configmap", "web-image", "-n", namespace, "--from-literal=image=theirs")
    operator.cluster.do(*theirs)
    operator.cluster.do("create", "-f", "-", given=nix_image(namespace, output=WANTED))
    built(operator, namespace)
    image = operator.image_with(namespace, "Ready", "False/ConfigMapTaken")
    assert conditions(image)["Reconciling"] == "True/ProgressingWithRetry"
    assert "does not belong to this NixImage" in json.dumps(image["status"]["conditions"])
    assert config_map(operator, namespace)["data"] == {"image": "theirs"}
    operator.cluster.do("delete", "configmap", "web-image", "-n", namespace)
    image = operator.image_with(namespace, "Ready", "True/Succeeded")
    assert config_map(operator, namespace)["data"]["image"] == image["status"]["image"]
