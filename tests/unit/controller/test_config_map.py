"""The ConfigMap that names an image: what is in it, when it is written, whose it is."""

from typing import Any

import pytest

from niximage.api.image import NixImage
from niximage.controller.cluster.config_map import (
    LOOK_AGAIN,
    ConfigMaps,
    is_right,
    manifest,
    variables,
)
from niximage.controller.cluster.connection import NotThere
from niximage.controller.decision.decide import decide
from niximage.controller.steps import HideImage, ShowImage
from niximage.controller.views import Observed
from niximage.errors import Reason, Retryable
from unit.controller.states import (
    DIGEST,
    NOW,
    OLD_REVISION,
    PUBLISHED,
    REVISION,
    SETTINGS,
    answered,
    nix_image,
    observe,
    pinned,
    ready,
    seen,
    told,
)
from unit.controller.world import World

IMAGE = f"127.0.0.1:5000/team-a/web@{DIGEST}"
SHOW = ShowImage("web-image", IMAGE, DIGEST, REVISION)
TAKEN = Retryable(Reason.CONFIG_MAP_TAKEN, "the ConfigMap web-image is there")


def wanting() -> NixImage:
    return seen(nix_image(output={"configMap": True}))


def found(**given: Any) -> Observed:
    return observe(source=pinned(), published=PUBLISHED, **given)


# When -------------------------------------------------------------------------------------------


def test_the_image_is_shown_before_the_status_tells_of_it() -> None:
    image = wanting()
    decision = decide(image, found(), NOW, SETTINGS)
    assert (decision.looks, decision.status) == ((SHOW,), None)
    image = answered(image, decide(image, found(shown=SHOW), NOW, SETTINGS))
    assert (image.status.config_map, image.status.image) == ("web-image", IMAGE)
    assert told(image)["Ready"] == "True/Succeeded"


def test_without_the_field_no_configmap_is_looked_at() -> None:
    decision = decide(ready(), found(), NOW, SETTINGS)
    assert decision.looks == ()


def test_a_configmap_goes_with_the_field() -> None:
    image = wanting()
    status = answered(image, decide(image, found(shown=SHOW), NOW, SETTINGS)).status
    image = seen(nix_image(status, generation=2))
    decision = decide(image, found(), NOW, SETTINGS)
    assert decision.looks == (HideImage("web-image"),)
    image = answered(image, decide(image, found(shown=HideImage("web-image")), NOW, SETTINGS))
    assert image.status.config_map is None


def test_a_configmap_of_somebody_else_is_told_and_tried_again() -> None:
    image = wanting()
    decision = decide(image, found(shown=TAKEN), NOW, SETTINGS)
    assert decision.requeue_after == 15.0
    image = answered(image, decision)
    assert told(image)["Ready"] == "False/ConfigMapTaken"
    assert told(image)["Reconciling"] == "True/ProgressingWithRetry"
    assert "BuildSucceeded" not in told(image), "nothing was wrong with the build"


# What -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "prefix"), [("web", "web"), ("my-web.2", "my_web_2"), ("3d", "_3d")]
)
def test_each_value_is_there_twice(name: str, prefix: str) -> None:
    image = nix_image()
    metadata = image.metadata.model_copy(update={"name": name})
    named = variables(image.model_copy(update={"metadata": metadata}), SHOW)
    assert named == {
        "image": IMAGE,
        "digest": DIGEST,
        "revision": REVISION,
        f"{prefix}_image": IMAGE,
        f"{prefix}_digest": DIGEST,
        f"{prefix}_revision": REVISION,
    }


def test_another_revision_of_the_same_digest_is_no_change() -> None:
    image = nix_image()
    before = manifest(image, ShowImage("web-image", IMAGE, DIGEST, OLD_REVISION))
    assert is_right(before, manifest(image, SHOW))
    assert not is_right(before, manifest(image, ShowImage("web-image", "x", DIGEST, REVISION)))
    before["metadata"]["labels"].pop("reconcile.fluxcd.io/watch")
    assert not is_right(before, manifest(image, SHOW)), "Flux would not see it"


# How --------------------------------------------------------------------------------------------


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Counting(World):
    """A cluster that notes what it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    async def call(self, method: str, path: str, **more: Any) -> dict[str, Any]:
        self.asked.append(method)
        return await super().call(method, path, **more)


async def test_what_is_right_is_left_alone_and_looked_at_again_later() -> None:
    cluster, clock, image = Counting(), Clock(), nix_image()
    maps = ConfigMaps(cluster, clock)
    await maps.show(image, SHOW)
    await maps.show(image, SHOW)
    assert cluster.asked == ["GET", "POST"]
    clock.now = LOOK_AGAIN + 1
    await maps.show(image, SHOW)
    assert cluster.asked[2:] == ["GET"]
    cluster.config_maps.clear()
    clock.now *= 3
    await maps.show(image, SHOW)
    assert cluster.config_maps["web-image"]["data"]["image"] == IMAGE
    # A new operator finds what the former one wrote.
    await ConfigMaps(cluster, clock).show(image, SHOW)
    assert cluster.asked[-1] == "GET"


async def test_a_new_digest_is_written_and_what_others_added_stays() -> None:
    cluster, image = Counting(), nix_image()
    await ConfigMaps(cluster).show(image, SHOW)
    cluster.config_maps["web-image"]["data"]["theirs"] = "x"
    newer = ShowImage("web-image", "host/team-a/web@new", "new", REVISION)
    await ConfigMaps(cluster).show(image, newer)
    data = cluster.config_maps["web-image"]["data"]
    assert (data["image"], data["web_digest"], data["theirs"]) == (newer.image, "new", "x")
    assert cluster.asked[-1] == "PATCH"


@pytest.mark.parametrize("owners", [[], [{"kind": "NixImage", "name": "web", "uid": "former"}]])
async def test_one_of_somebody_else_is_neither_written_nor_deleted(owners: list[Any]) -> None:
    cluster, image = Counting(), nix_image()
    foreign = {"metadata": {"name": "web-image", "ownerReferences": owners}, "data": {"a": "b"}}
    cluster.config_maps["web-image"] = foreign
    with pytest.raises(Retryable, match="does not belong to this NixImage") as refused:
        await ConfigMaps(cluster).show(image, SHOW)
    assert refused.value.reason is Reason.CONFIG_MAP_TAKEN
    await ConfigMaps(cluster).hide(image, HideImage("web-image"))
    assert cluster.config_maps == {"web-image": foreign}


async def test_one_that_goes_in_between_is_gone() -> None:
    class Quicker(World):
        async def call(self, method: str, path: str, **more: Any) -> dict[str, Any]:
            if method == "DELETE":
                raise NotThere(Reason.CLUSTER_UNAVAILABLE, "404")
            return await super().call(method, path, **more)

    cluster, image = Quicker(), nix_image()
    await ConfigMaps(cluster).show(image, SHOW)
    await ConfigMaps(cluster).hide(image, HideImage("web-image"))


async def test_one_that_appears_in_between_is_looked_at() -> None:
    cluster, image = Counting(), nix_image()
    cluster.faults = ["lost reply", ""]  # of the GET and the POST, the last first
    with pytest.raises(Retryable):
        await ConfigMaps(cluster).show(image, SHOW)
    await ConfigMaps(cluster).show(image, SHOW)
    assert cluster.asked == ["GET", "POST", "GET"]
