"""Images that follow an object of Flux: pinned by its digest, waiting while it has nothing."""

import pytest

from niximage.api.build import input_hash
from niximage.api.image import NixImage
from niximage.api.status import ConditionType
from niximage.controller.cache import Cache
from niximage.controller.decision.decide import decide
from niximage.controller.steps import Resolve
from niximage.controller.stored import CachedImage
from niximage.controller.views import Observed
from niximage.errors import NixImageError, Reason, Retryable, Terminal
from unit.controller.states import (
    DIGEST,
    FLUX,
    NOW,
    PUBLISHED,
    REVISION,
    SETTINGS,
    answered,
    flux_pinned,
    nix_image,
    observe,
    seen,
    told,
)

OTHER = f"sha256:{'e' * 64}"
NO_OBJECT = Retryable(Reason.REFERENCE_NOT_FOUND, "there is no GitRepository/podinfo")


def ready() -> NixImage:
    image = seen(nix_image(source=FLUX))
    observed = observe(source=flux_pinned(), published=PUBLISHED)
    return answered(image, decide(image, observed, NOW, SETTINGS))


def test_the_status_tells_of_the_object_and_of_its_revision() -> None:
    image = ready()
    source = image.status.source
    assert source is not None
    assert (source.ref, source.revision) == ("GitRepository/podinfo", f"main@sha1:{REVISION}")
    assert (source.url, source.digest) == ("https://git.example.org/podinfo", DIGEST)
    assert source.short_revision == REVISION[:12]
    resolved = image.status.condition(ConditionType.SOURCE_RESOLVED)
    assert resolved is not None
    assert resolved.message == f"GitRepository/podinfo is at {REVISION[:12]}"


def test_a_revision_that_changes_nothing_in_the_archive_builds_nothing() -> None:
    image = ready()
    later = observe(source=flux_pinned(revision="main@sha1:" + "f" * 40))
    decision = decide(image, later, NOW, SETTINGS)
    assert decision.effects == ()
    assert decision.status is not None
    assert decision.status.source is not None
    assert decision.status.source.short_revision == "f" * 12
    assert answered(image, decision).status.digest == image.status.digest


def test_another_archive_is_built() -> None:
    image = ready()
    first = input_hash(image, flux_pinned())
    assert input_hash(image, flux_pinned(OTHER)) != first
    moved = observe(source=flux_pinned(OTHER), published=None)
    decision = decide(image, moved, NOW, SETTINGS)
    assert [type(look).__name__ for look in decision.looks] == ["FindPublished"]


@pytest.mark.parametrize(
    "reason",
    [Reason.REFERENCE_NOT_FOUND, Reason.SOURCE_UNAVAILABLE, Reason.CREDENTIALS_NOT_GRANTED],
)
def test_what_is_not_there_yet_is_waited_for_without_delays(reason: Reason) -> None:
    """The watch tells when it changes, and a growing delay would not let that be seen."""
    image = seen(nix_image(source=FLUX))
    decision = decide(image, Observed(source=Retryable(reason, "not yet")), NOW, SETTINGS)
    image = answered(image, decision)
    assert told(image) == {
        "Ready": "Unknown/Progressing",
        "Reconciling": f"True/{reason}",
        "SourceResolved": f"False/{reason}",
    }
    assert image.status.failure is None
    assert decision.poll_after is not None
    assert decide(image, Observed(), NOW, SETTINGS).looks == (Resolve(),)
    again = decide(image, Observed(source=Retryable(reason, "not yet")), NOW, SETTINGS)
    assert again.status == image.status, "nothing new is nothing to write"


def test_a_good_image_stays_ready_while_its_object_is_gone() -> None:
    image = ready()
    decision = decide(image, Observed(source=NO_OBJECT), NOW, SETTINGS)
    after = answered(image, decision)
    assert told(after)["Ready"] == "True/Succeeded"
    assert told(after)["SourceResolved"] == "False/ReferenceNotFound"
    assert after.status.image == image.status.image


@pytest.mark.parametrize(
    ("error", "condition"),
    [
        (Terminal(Reason.POLICY_DENIED, "no"), "Stalled"),
        (Terminal(Reason.INVALID_SOURCE, "no"), "Stalled"),
        (Retryable(Reason.CLUSTER_UNAVAILABLE, "no"), "Reconciling"),
    ],
)
def test_other_trouble_is_as_of_any_source(error: NixImageError, condition: str) -> None:
    image = seen(nix_image(source=FLUX))
    after = answered(image, decide(image, Observed(source=error), NOW, SETTINGS))
    assert told(after)["Ready"] == f"False/{error.reason}"
    assert condition in told(after)


def test_to_suspend_leaves_a_good_image_ready_and_an_edited_one_not() -> None:
    image = ready()
    paused = nix_image(image.status, generation=2, suspend=True, source=FLUX)
    assert told(answered(paused, decide(paused, Observed(), NOW, SETTINGS)))["Ready"] == (
        "True/Succeeded"
    )
    other = {"sourceRef": {"kind": "GitRepository", "name": "other"}}
    edited = nix_image(image.status, generation=2, suspend=True, source=other)
    assert told(answered(edited, decide(edited, Observed(), NOW, SETTINGS)))["Ready"] == (
        "False/Suspended"
    )


def test_who_follows_an_object_is_known() -> None:
    cache = Cache()

    def put(name: str, source: object, version: int) -> tuple[str, str]:
        body = nix_image().model_dump(mode="json", by_alias=True)
        body["metadata"] |= {"name": name, "uid": name, "resourceVersion": str(version)}
        body["spec"]["source"] = source
        cache.put_image(CachedImage.from_json(body))
        return "team-a", name

    one, two = put("one", FLUX, 1), put("two", FLUX, 1)
    put("three", {"sourceRef": {"kind": "ExternalArtifact", "name": "podinfo"}}, 1)
    assert cache.following("team-a", "GitRepository/podinfo") == {one, two}
    put("one", {"nixpkgs": {"channel": "nixos-26.05"}}, 2)
    assert cache.following("team-a", "GitRepository/podinfo") == {two}
    assert cache.following("team-b", "GitRepository/podinfo") == set()
