"""Every state that a NixImage may be in, and what each tool is to make of it: one table."""

from collections.abc import Callable
from typing import Any

from niximage.api.image import NixImage
from niximage.api.status import Progress
from niximage.controller.decision.decide import decide
from niximage.controller.job_view import JobState
from niximage.controller.views import ClassWanting, Queued
from unit.controller.states import (
    ABSENT,
    NOW,
    SETTINGS,
    answered,
    job,
    nix_image,
    observe,
    pinned,
    ready,
    seen,
)
from unit.controller.test_states import BROKEN, EVICTED, NEWER, building, failed, rebuilding

Json = dict[str, Any]


def without_status() -> Json:
    """As an API server without our default would return it."""
    image = document(nix_image())
    del image["status"]
    return image


def queued() -> NixImage:
    image = seen(nix_image())
    waits = observe(source=pinned(), published=ABSENT, turn=Queued("waiting: all run"))
    return answered(image, decide(image, waits, NOW, SETTINGS))


def waiting_for_class() -> NixImage:
    image = nix_image()
    wanting = observe(policy=ClassWanting("waiting for the NixBuildClass large"))
    return answered(image, decide(image, wanting, NOW, SETTINGS))


def without_node() -> NixImage:
    image = building()
    waits = Progress(phase="Pending", message="Unschedulable: 0/1 nodes are available")
    observed = observe(jobs=(job(image),), source=pinned(), progress=waits)
    return answered(image, decide(image, observed, NOW, SETTINGS))


def rebuild_failed() -> NixImage:
    image = rebuilding()
    ended = observe(
        jobs=(job(image, JobState.FAILED, revision=NEWER),), source=pinned(NEWER), outcome=BROKEN
    )
    return answered(image, decide(image, ended, NOW, SETTINGS))


def edited() -> NixImage:
    return nix_image(ready().status, generation=2, packages=["jq"])


def suspended(before: NixImage) -> NixImage:
    image = nix_image(before.status, generation=2, suspend=True)
    return answered(image, decide(image, observe(), NOW, SETTINGS))


def document(image: NixImage) -> Json:
    """The object as the API server would return it."""
    return image.to_json()


STATES: dict[str, Callable[[], Json]] = {
    "created": lambda: document(nix_image()),
    "seen": lambda: document(seen(nix_image())),
    "waiting for its class": lambda: document(waiting_for_class()),
    "queued": lambda: document(queued()),
    "building": lambda: document(building()),
    "without a node": lambda: document(without_node()),
    "retrying": lambda: document(failed(EVICTED)),
    "failed": lambda: document(failed(BROKEN)),
    "ready": lambda: document(ready()),
    "edited": lambda: document(edited()),
    "rebuilding": lambda: document(rebuilding()),
    "rebuild failed": lambda: document(rebuild_failed()),
    "suspended": lambda: document(suspended(ready())),
    "suspended before a build": lambda: document(suspended(nix_image())),
}

# State: what kstatus says (Flux), whether kubectl wait ends, what Argo CD shows.
TABLE: dict[str, tuple[str, bool, str]] = {
    "created": ("InProgress", False, "Progressing"),
    "seen": ("InProgress", False, "Progressing"),
    "waiting for its class": ("InProgress", False, "Progressing"),
    "queued": ("InProgress", False, "Progressing"),
    "building": ("InProgress", False, "Progressing"),
    "without a node": ("InProgress", False, "Progressing"),
    "retrying": ("InProgress", False, "Progressing"),
    "failed": ("Failed", False, "Degraded"),
    "ready": ("Current", True, "Healthy"),
    "edited": ("InProgress", False, "Progressing"),
    "rebuilding": ("Current", True, "Healthy"),
    "rebuild failed": ("Current", True, "Healthy"),
    "suspended": ("Current", True, "Suspended"),
    "suspended before a build": ("InProgress", False, "Suspended"),
}
