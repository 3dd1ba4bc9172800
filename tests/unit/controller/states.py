"""Images, Jobs and bucket answers to put before `decide`."""

import datetime as dt
from typing import Any

from niximage.api.build import BuildRequest, PinnedSource, PublishResult, input_hash
from niximage.api.image import NixImage
from niximage.api.status import NixImageStatus
from niximage.controller.decision.build import job_name
from niximage.controller.decision.case import Decision
from niximage.controller.decision.decide import decide
from niximage.controller.job_view import JobState, JobView
from niximage.controller.settings import Settings
from niximage.controller.views import Absent, Observed, Published, Turn

NOW = dt.datetime(2026, 5, 4, 12, 0, tzinfo=dt.UTC)
OLD_REVISION = "0" * 39 + "1"
REVISION = "1" * 40
DIGEST = "sha256:" + "d" * 64
SETTINGS = Settings(
    bucket="gs://images",
    registry="127.0.0.1:5000",
    nixpkgs_url="https://example.org/nixpkgs",
    builder_image="niximage-operator:test",
)
PUBLISHED = Published(digest=DIGEST, layers=3, size=3000, reused_layers=1, reused_size=1000)


def pinned(revision: str = REVISION) -> PinnedSource:
    return PinnedSource(
        url="https://example.org/nixpkgs", ref="refs/heads/nixos-26.05", revision=revision
    )


FLUX = {"sourceRef": {"kind": "GitRepository", "name": "podinfo"}}


def flux_pinned(digest: str = DIGEST, revision: str = f"main@sha1:{REVISION}") -> PinnedSource:
    """What the GitRepository podinfo has."""
    return PinnedSource(
        kind="artifact",
        url="http://source-controller/x.tar.gz",
        ref="GitRepository/podinfo",
        revision=revision,
        digest=digest,
        origin="https://git.example.org/podinfo",
    )


def nix_image(
    status: NixImageStatus | None = None,
    *,
    generation: int = 1,
    annotations: dict[str, str] | None = None,
    **spec: Any,
) -> NixImage:
    """The NixImage team-a/web."""
    return NixImage.model_validate(
        {
            "metadata": {
                "name": "web",
                "namespace": "team-a",
                "uid": "u-1",
                "generation": generation,
                "resourceVersion": "7",
                "annotations": annotations or {},
            },
            "spec": {
                "packages": ["hello", "curl"],
                "source": {"nixpkgs": {"channel": "nixos-26.05"}},
                **spec,
            },
            "status": (status or NixImageStatus()).to_json(),
        }
    )


def inputs(image: NixImage, revision: str = REVISION) -> str:
    return input_hash(image, pinned(revision))


def request(image: NixImage) -> BuildRequest:
    return BuildRequest.of(image, pinned())


def job(
    image: NixImage,
    state: JobState = JobState.LIVE,
    *,
    revision: str = REVISION,
    attempt: int = 1,
    owner: str = "u-1",
    failed_for: str = "",
    force: str = "",
    suspended: bool = False,
) -> JobView:
    """The Job that builds an image."""
    digits = inputs(image, revision)
    return JobView(
        namespace="team-a",
        name=job_name(image, digits),
        uid=f"j-{digits[:4]}-{attempt}",
        owner=owner,
        image="web",
        input_hash=digits,
        attempt=attempt,
        state=state,
        failed_for=failed_for,
        created=NOW,
        ended=NOW,
        force=force,
        queue="team" if suspended else "",
        suspended=suspended,
    )


def result(image: NixImage, digest: str = DIGEST) -> PublishResult:
    return PublishResult(
        input_hash=inputs(image),
        repository=image.repository,
        digest=digest,
        layers=3,
        size=3000,
        reused_layers=1,
        reused_size=1000,
    )


def seen(image: NixImage) -> NixImage:
    """The image after the operator's first words about its spec."""
    return answered(image, decide(image, Observed(), NOW, SETTINGS))


def ready(image: NixImage | None = None, revision: str = REVISION) -> NixImage:
    """An image whose build was published."""
    image = seen(image or nix_image())
    observed = Observed(source=pinned(revision), published=PUBLISHED)
    return answered(image, decide(image, observed, NOW, SETTINGS))


def observe(**given: Any) -> Observed:
    """What was observed, where every build may start and no pod says how far it is."""
    return Observed(**{"turn": Turn.GRANTED, "progress": ABSENT, **given})


def answered(image: NixImage, decision: Decision) -> NixImage:
    """The image with the status that a decision gave it, as the API server would return it."""
    assert decision.status is not None
    status = NixImageStatus.model_validate(decision.status.to_json())
    return image.model_copy(update={"status": status})


def told(image: NixImage) -> dict[str, str]:
    """The conditions as `type: status/reason`."""
    return {str(c.type): f"{c.status}/{c.reason}" for c in image.status.conditions}


ABSENT = Absent.ABSENT
