"""The cache: events and full lists, in whichever order they come."""

from dataclasses import replace
from typing import Any

import pytest

from niximage.api.build_class import NixBuildClass
from niximage.api.image import FINALIZER
from niximage.controller.cache import Cache
from niximage.controller.job_view import ATTEMPT, JobState, JobView
from niximage.controller.stored import CachedImage
from niximage.controller.views import Sharer


def image(name: str, version: int, uid: str = "u-1", **output: Any) -> CachedImage:
    return CachedImage.from_json(
        {
            "metadata": {
                "name": name,
                "namespace": "team-a",
                "uid": uid,
                "resourceVersion": str(version),
                "managedFields": [{"manager": "kubectl"}],
            },
            "spec": {
                "packages": ["hello"],
                "source": {"nixpkgs": {"channel": "nixos-26.05"}},
                "output": output,
            },
        }
    )


def job(name: str, *, of: str = "web", uid: str = "j-1", version: int = 1) -> JobView:
    return JobView.from_json(
        {
            "metadata": {
                "name": name,
                "namespace": "team-a",
                "uid": uid,
                "resourceVersion": str(version),
                "creationTimestamp": "2026-05-04T12:00:00Z",
                "labels": {"niximage.dev/image": of},
            }
        }
    )


WEB = ("team-a", "web")
SPEC = {
    "packages": ["hello"],
    "source": {"nixpkgs": {"channel": "nixos-26.05"}},
    "output": {"repository": "web"},
}


def test_an_older_version_does_not_replace_a_newer_one() -> None:
    cache = Cache()
    cache.put_image(image("web", 10))
    cache.put_image(image("web", 9))
    known = cache.image(WEB)
    assert known is not None
    assert known.metadata["resourceVersion"] == "10"


def test_a_reply_that_comes_after_the_event_that_a_job_ended_does_not_bring_it_back() -> None:
    cache = Cache()
    begun = job("web-1", version=9)
    ended = replace(job("web-1", version=10), state=JobState.SUCCEEDED)
    cache.put_job(ended)
    assert not cache.put_job(begun)
    assert cache.jobs(WEB) == (ended,)
    assert not cache.put_job(replace(ended, version=11)), "another version alone is no news"


def test_a_reply_that_comes_after_the_deletion_brings_nothing_back() -> None:
    cache = Cache()
    cache.put_image(image("web", 10))
    cache.drop_image(WEB, "u-1")
    cache.put_image(image("web", 11))
    assert cache.image(WEB) is None
    cache.put_image(image("web", 12, uid="u-2"))
    assert cache.image(WEB) is not None
    cache.put_job(job("web-1"))
    cache.drop_job(job("web-1"))
    cache.put_job(replace(job("web-1"), state=JobState.DELETING))
    assert cache.jobs(WEB) == ()
    cache.put_job(job("web-1", uid="j-2"))
    assert [known.uid for known in cache.jobs(WEB)] == ["j-2"]


def test_only_the_metadata_that_is_used_is_kept() -> None:
    assert "managedFields" not in image("web", 1).metadata


def test_a_late_deletion_of_the_former_object_leaves_the_new_one() -> None:
    cache = Cache()
    cache.put_image(image("web", 10, uid="u-2"))
    cache.drop_image(WEB, "u-1")
    assert cache.image(WEB) is not None
    cache.drop_image(WEB, "u-2")
    assert cache.image(WEB) is None


def test_jobs_are_found_by_the_image_they_are_labelled_with() -> None:
    cache = Cache()
    cache.put_job(job("web-1"))
    cache.put_job(job("api-1", of="api"))
    assert [j.name for j in cache.jobs(WEB)] == ["web-1"]
    assert cache.drop_job(job("web-1", uid="j-0")) == WEB
    assert len(cache.jobs(WEB)) == 1, "a Job of the same name came after the one that went"
    cache.drop_job(job("web-1"))
    assert cache.jobs(WEB) == ()


def test_images_of_one_repository_know_each_other() -> None:
    cache = Cache()
    cache.put_image(image("web", 1))
    cache.put_image(image("shop", 2, repository="web", tags=["stable"]))
    cache.put_image(image("mail", 3))
    assert cache.sharers(WEB) == (Sharer("shop", ("stable",), leaving=False, stays=True),)
    assert [sharer.name for sharer in cache.sharers(("team-a", "shop"))] == ["web"]
    assert cache.sharers(("team-a", "mail")) == cache.sharers(("team-a", "absent")) == ()
    gone = image("shop", 4, repository="web")
    gone.metadata.update(deletionTimestamp="2026-05-04T12:00:00Z", finalizers=[FINALIZER])
    cache.put_image(CachedImage.from_json({"metadata": gone.metadata, "spec": SPEC}))
    assert cache.sharers(WEB) == (Sharer("shop", (), leaving=True, stays=False),)
    cache.drop_image(("team-a", "shop"), "u-1")
    assert cache.sharers(WEB) == ()


def test_a_full_list_removes_what_the_watch_missed() -> None:
    cache = Cache()
    cache.put_image(image("gone", 1))
    cache.put_job(job("gone-1", of="gone"))
    cache.begin_list()
    changed = cache.finish_list([image("web", 2).stored], [job("web-1")], [])
    assert changed == {WEB, ("team-a", "gone")}
    assert cache.keys() == [WEB]
    assert cache.jobs(("team-a", "gone")) == ()


def test_what_happened_during_a_list_is_newer_than_the_list() -> None:
    cache = Cache()
    cache.put_image(image("old", 1))
    cache.begin_list()
    cache.put_image(image("web", 5))
    cache.put_job(job("web-2"))
    cache.drop_image(("team-a", "old"), "u-1")
    cache.finish_list([image("web", 4).stored, image("old", 1).stored], [], [])
    known = cache.image(WEB)
    assert known is not None
    assert known.metadata["resourceVersion"] == "5"
    assert cache.image(("team-a", "old")) is None
    assert [j.name for j in cache.jobs(WEB)] == ["web-2"]


def test_a_class_that_changed_during_a_list_is_newer_than_the_list() -> None:
    def build_class(name: str, builds: int) -> NixBuildClass:
        body = {"metadata": {"name": name}, "spec": {"maxBuilds": builds}}
        return NixBuildClass.model_validate(body)

    cache = Cache()
    for name in ("changed", "gone", "missed"):
        cache.put_class(build_class(name, 1))
    cache.begin_list()
    cache.put_class(build_class("changed", 2))
    cache.drop_class("gone")
    cache.finish_list([], [], [build_class(name, 1) for name in ("changed", "gone", "new")])
    assert {each.metadata.name: each.spec.max_builds for each in cache.classes()} == {
        "changed": 2,
        "new": 1,
    }


def test_a_stored_object_of_another_time_is_kept_with_its_problem() -> None:
    body: dict[str, Any] = {
        "metadata": {"name": "web", "namespace": "team-a", "uid": "u", "resourceVersion": "1"},
        "spec": {"packages": [], "source": {}},
    }
    cached = CachedImage.from_json(body)
    assert cached.image is None
    assert "spec.packages" in cached.problem
    assert "exactly one of nixpkgs, git, sourceRef and volume" in cached.problem


def test_a_job_is_read_from_its_conditions() -> None:
    body: dict[str, Any] = {
        "metadata": {
            "name": "web-1",
            "namespace": "team-a",
            "uid": "j",
            "creationTimestamp": "2026-05-04T12:00:00Z",
            "ownerReferences": [{"uid": "u-1", "controller": True}],
            "annotations": {"niximage.dev/attempt": "x"},
        },
        "status": {"conditions": [{"type": "Complete", "status": "False"}]},
    }
    view = JobView.from_json(body)
    assert (view.state, view.owner, view.attempt) == (JobState.LIVE, "u-1", 1)
    body["status"]["conditions"] = [
        {"type": "Failed", "status": "True", "reason": "DeadlineExceeded"}
    ]
    assert JobView.from_json(body).state is JobState.FAILED
    assert JobView.from_json(body).failed_for == "DeadlineExceeded"
    body["metadata"]["deletionTimestamp"] = "2026-05-04T12:01:00Z"
    assert JobView.from_json(body).state is JobState.DELETING


@pytest.mark.parametrize("attempt", ["9" * 5000, "-1", "1e9", "²", ""])
def test_an_annotation_that_somebody_made_up_is_no_crash(attempt: str) -> None:
    """Whoever may create Jobs can label one as ours: it must not blind the operator."""
    metadata = {
        "name": "fake",
        "namespace": "evil",
        "uid": "j-1",
        "creationTimestamp": "2026-05-04T12:00:00Z",
        "annotations": {ATTEMPT: attempt},
    }
    assert JobView.from_json({"metadata": metadata}).attempt == 1


def test_only_news_is_news() -> None:
    cache = Cache()
    assert cache.put_image(image("web", 10))
    assert not cache.put_image(image("web", 10)), "the echo of a write, or of a list"
    assert not cache.put_image(image("web", 9))
    assert cache.put_image(image("web", 11))
    assert cache.put_job(job("web-1"))
    assert not cache.put_job(job("web-1"))
    assert cache.put_job(replace(job("web-1"), state=JobState.SUCCEEDED))
    cache.drop_job(job("web-1"))
    assert not cache.put_job(job("web-1")), "it is gone"


def test_what_is_kept_of_an_object_without_a_form_is_enough_to_look_at_it() -> None:
    cache = Cache()
    metadata = {"name": "web", "namespace": "team-a", "uid": "u"}
    specs: list[Any] = [None, [], {"base": "web", "output": 3, "build": {"className": []}}]
    for spec in specs:
        broken = {"metadata": metadata, "spec": spec, "status": {"conditions": "none"}}
        cache.put_image(CachedImage.from_json(broken))
        known = cache.image(WEB)
        assert known is not None
        assert known.image is None
        assert known.problem
    assert list(cache.conditions()) == []


def test_conditions_are_counted_without_a_parse() -> None:
    cache = Cache()
    stored = image("web", 1)
    told = {"type": "Ready", "status": "True", "reason": "Succeeded"}
    body = {"metadata": stored.metadata, "spec": SPEC, "status": {"conditions": [told]}}
    cache.put_image(CachedImage.from_json(body))
    assert list(cache.conditions()) == [("Ready", "True", "Succeeded")]
