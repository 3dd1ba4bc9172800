"""The ConfigMap that names an image for those who cannot read a status: Flux, above all.

Flux puts the values of a ConfigMap into what it applies (`postBuild.substituteFrom`), and looks
again at once when one with its watch label changes. So it is written only when the digest
changes. It is called after the NixImage, which owns it; one of that name that belongs to
somebody else is never touched.
"""

import contextlib
import re
import time
from collections.abc import Callable
from typing import Any, Final, Protocol

from cachetools import TTLCache

from niximage.api.base import API_VERSION
from niximage.api.image import KIND, NixImage
from niximage.controller.cluster.connection import Conflict, NotThere
from niximage.controller.job_view import IMAGE_LABEL, MANAGED_BY, MANAGER
from niximage.controller.steps import HideImage, ShowImage
from niximage.errors import Reason, Retryable

WATCH_LABEL: Final = "reconcile.fluxcd.io/watch"
WATCHED: Final = "Enabled"
LOOK_AGAIN: Final = 600.0  # seconds after which one that was right is looked at again
REMEMBERED: Final = 50_000  # ConfigMaps, five times as many as there may be

Json = dict[str, Any]


class Calls(Protocol):
    """What is asked of a cluster."""

    async def call(
        self, method: str, path: str, *, body: Json | None = None, content: str = "application/json"
    ) -> Json:
        """Ask the API server for something."""
        ...


def variables(image: NixImage, show: ShowImage) -> dict[str, str]:
    """What the ConfigMap holds: each value twice, so that those of several images go together.

    The longer names begin with the NixImage's: `web_image`, `my_web_image` for `my-web`.
    """
    values = {"image": show.image, "digest": show.digest, "revision": show.revision}
    prefix = re.sub(r"[^a-z0-9]", "_", image.metadata.name)
    if prefix[0].isdigit():
        prefix = f"_{prefix}"  # Flux takes no variable that begins with a digit
    return values | {f"{prefix}_{name}": value for name, value in values.items()}


def manifest(image: NixImage, show: ShowImage) -> Json:
    """The ConfigMap of an image."""
    metadata = image.metadata
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": show.name,
            "namespace": metadata.namespace,
            "labels": {MANAGED_BY: MANAGER, IMAGE_LABEL: metadata.name, WATCH_LABEL: WATCHED},
            "ownerReferences": [
                {
                    "apiVersion": API_VERSION,
                    "kind": KIND,
                    "name": metadata.name,
                    "uid": metadata.uid,
                    "controller": True,
                    "blockOwnerDeletion": True,
                }
            ],
        },
        "data": variables(image, show),
    }


def is_ours(found: Json, image: NixImage) -> bool:
    """Whether a ConfigMap belongs to an image."""
    owners = found["metadata"].get("ownerReferences") or []
    return any(owner.get("uid") == image.metadata.uid for owner in owners)


def is_right(found: Json, wanted: Json) -> bool:
    """Whether a ConfigMap names the image; another revision of the same digest is no change."""
    data, labels = found.get("data") or {}, found["metadata"].get("labels") or {}
    same = all(
        data.get(name) == value
        for name, value in wanted["data"].items()
        if not name.endswith("revision")
    )
    return same and wanted["metadata"]["labels"].items() <= labels.items()


class ConfigMaps:
    """Writes and deletes them; what was right a moment ago is not asked for again."""

    def __init__(self, cluster: Calls, clock: Callable[[], float] = time.monotonic) -> None:
        """Nothing is known.

        Args:
            cluster: where they are.
            clock: seconds that only grow.
        """
        self._cluster = cluster
        self._right: TTLCache[str, ShowImage] = TTLCache(REMEMBERED, LOOK_AGAIN, clock)  # by uid

    async def show(self, image: NixImage, show: ShowImage) -> None:
        """See that an image's ConfigMap names it.

        Raises:
            Retryable: another object has the name, or the API server refuses.
        """
        if self._right.get(image.metadata.uid) == show:
            return
        wanted = manifest(image, show)
        found = await self._find(image, show.name)
        if found is None:
            found = await self._create(image, wanted)
        if not is_ours(found, image):
            raise Retryable(
                Reason.CONFIG_MAP_TAKEN,
                f"the ConfigMap {show.name} is there, and does not belong to this NixImage",
                hint="Delete or rename it, or take output.configMap off the spec",
            )
        if not is_right(found, wanted):
            await self._patch(found, wanted)
        self._right[image.metadata.uid] = show

    async def hide(self, image: NixImage, hide: HideImage) -> None:
        """See that an image has no ConfigMap; one that belongs to somebody else stays.

        Raises:
            Retryable: the API server refuses.
        """
        self._right.pop(image.metadata.uid, None)
        found = await self._find(image, hide.name)
        if found is None or not is_ours(found, image):
            return
        metadata = found["metadata"]
        seen = {"uid": metadata["uid"], "resourceVersion": metadata["resourceVersion"]}
        options = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": seen}
        with contextlib.suppress(NotThere):
            await self._cluster.call("DELETE", f"{_folder(image)}/{hide.name}", body=options)

    async def _find(self, image: NixImage, name: str) -> Json | None:
        try:
            return await self._cluster.call("GET", f"{_folder(image)}/{name}")
        except NotThere:
            return None

    async def _create(self, image: NixImage, wanted: Json) -> Json:
        try:
            return await self._cluster.call("POST", _folder(image), body=wanted)
        except Conflict:  # somebody was quicker: perhaps we, whose reply was lost
            found = await self._find(image, wanted["metadata"]["name"])
            if found is None:
                raise
            return found

    async def _patch(self, found: Json, wanted: Json) -> None:
        metadata = found["metadata"]
        version, labels = metadata["resourceVersion"], wanted["metadata"]["labels"]
        await self._cluster.call(
            "PATCH",
            f"/api/v1/namespaces/{metadata['namespace']}/configmaps/{metadata['name']}",
            body={
                "metadata": {"resourceVersion": version, "labels": labels},
                "data": wanted["data"],
            },
            content="application/merge-patch+json",
        )


def _folder(image: NixImage) -> str:
    return f"/api/v1/namespaces/{image.metadata.namespace}/configmaps"
