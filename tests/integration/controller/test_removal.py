"""`output.deletionPolicy`, by the operator as a process on a real API server and bucket."""

import json
from pathlib import Path

from integration.controller.conftest import Operator
from niximage.api.image import FINALIZER
from niximage.bucket import keys, open_store
from support.kubernetes import Json, conditions, eventually, nix_image

DELETE = {"deletionPolicy": "Delete", "tags": ["stable"]}


def finalizers(image: Json) -> list[str]:
    found: list[str] = image["metadata"].get("finalizers", [])
    return found


def objects(operator: Operator, repository: str) -> list[str]:
    """What the bucket has of a repository, but for links of blobs, which a collection takes."""
    store = open_store(operator.bucket)
    try:
        return [found.key for found in store.list(keys.manifests_prefix(repository))]
    finally:
        store.close()


def built(operator: Operator, namespace: str, **output: object) -> Json:
    """The NixImage web, Ready."""
    operator.cluster.do("create", "-f", "-", given=nix_image(namespace, output=output))
    job = operator.job(namespace)
    operator.end_job(job, code=0, message=json.dumps(operator.publish(job)))
    return operator.image_with(namespace, "Ready", "True/Succeeded")


def delete(operator: Operator, namespace: str, *names: str) -> None:
    for name in names:
        operator.cluster.do("delete", "niximage", name, "-n", namespace, "--wait=false")


def gone(operator: Operator, namespace: str, name: str = "web") -> None:
    absent = lambda: operator.cluster.get("niximage", name, namespace) is None  # noqa: E731 (one use)
    eventually(f"{name} is gone", absent, log=operator.log)


def test_the_repository_goes_with_the_image_and_the_event_says_so(
    operator: Operator, namespace: str
) -> None:
    image = built(operator, namespace, **DELETE)
    assert finalizers(image) == [FINALIZER]
    assert objects(operator, f"{namespace}/web") != []
    delete(operator, namespace, "web")
    gone(operator, namespace)
    assert objects(operator, f"{namespace}/web") == []

    def told() -> list[str]:
        events = operator.cluster.list("events.events.k8s.io", namespace)
        return [event["note"] for event in events if event["reason"] == "RepositoryRemoved"]

    note = f"removed {namespace}/web from the bucket: manifests: 1, tags: 1"
    eventually("the Event", lambda: told() == [note], log=operator.log)
    # A new one of the same name builds anew: what is gone is not taken for there. The collector of
    # a cluster that is seconds old does not know NixImages yet, and would leave the former Job.
    operator.cluster.do("delete", "job", "--all", "-n", namespace)
    operator.cluster.do("create", "-f", "-", given=nix_image(namespace))
    operator.image_with(namespace, "Reconciling", "True/Building")


def test_the_finalizer_comes_and_goes_with_the_field(operator: Operator, namespace: str) -> None:
    assert finalizers(built(operator, namespace)) == []
    operator.cluster.do("apply", "-f", "-", given=nix_image(namespace, output=DELETE))
    operator.image(namespace, lambda i: finalizers(i) == [FINALIZER])
    operator.cluster.do("apply", "-f", "-", given=nix_image(namespace, output={}))
    operator.image(namespace, lambda i: not finalizers(i))
    delete(operator, namespace, "web")
    gone(operator, namespace)
    assert objects(operator, f"{namespace}/web") != []


def test_a_bucket_that_is_away_delays_the_end_and_is_told(
    operator: Operator, namespace: str, tmp_path: Path
) -> None:
    built(operator, namespace, **DELETE)
    bucket = tmp_path / "bucket"
    bucket.rename(tmp_path / "elsewhere")
    delete(operator, namespace, "web")
    image = operator.image_with(namespace, "Ready", "False/RemovalFailed")
    assert conditions(image)["Reconciling"] == "True/ProgressingWithRetry"
    assert "the folder is not there" in json.dumps(image["status"]["conditions"])
    described = operator.cluster.do("describe", "niximage", "web", "-n", namespace)
    assert "RemovalFailed" in described
    (tmp_path / "elsewhere").rename(bucket)
    gone(operator, namespace)
    assert objects(operator, f"{namespace}/web") == []


def test_a_live_build_is_ended_first(operator: Operator, namespace: str) -> None:
    operator.cluster.do("create", "-f", "-", given=nix_image(namespace, output=DELETE))
    operator.job(namespace)
    delete(operator, namespace, "web")
    gone(operator, namespace)
    assert operator.cluster.list("jobs", namespace) == []


def test_what_another_image_publishes_to_the_same_repository_stays(
    operator: Operator, namespace: str
) -> None:
    built(operator, namespace, **DELETE)
    shop = nix_image(namespace, "shop", output={"repository": "web"})
    operator.cluster.do("create", "-f", "-", given=shop)
    ready = lambda i: conditions(i).get("Ready") == "True/Succeeded"  # noqa: E731 (one use)
    operator.image(namespace, ready, "shop")
    delete(operator, namespace, "web")
    gone(operator, namespace)
    left = objects(operator, f"{namespace}/web")
    assert any("revisions" in key for key in left)
    assert not any("stable" in key for key in left)


def test_without_an_operator_one_patch_lets_the_image_go(
    operator: Operator, namespace: str
) -> None:
    built(operator, namespace, **DELETE)
    assert operator.stop() == 0
    delete(operator, namespace, "web")
    assert operator.cluster.get("niximage", "web", namespace) is not None
    patch = ("patch", "niximage", "web", "-n", namespace, "--type=merge")
    operator.cluster.do(*patch, "-p", '{"metadata":{"finalizers":null}}')
    gone(operator, namespace)
