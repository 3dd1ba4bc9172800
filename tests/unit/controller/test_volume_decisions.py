"""Images from a volume: pinned by what the spec calls its content, and never polled."""

import asyncio

from niximage.api.build import PinnedSource, input_hash
from niximage.controller.decision.decide import decide
from niximage.controller.views import Observed
from niximage.source.resolve import resolve
from unit.controller.states import (
    NOW,
    PUBLISHED,
    SETTINGS,
    answered,
    nix_image,
    observe,
    seen,
    told,
)


def volume(revision: str = "1", claim: str = "packages") -> dict[str, object]:
    return {"volume": {"claimName": claim, "revision": revision, "path": "set"}}


def pinned(source: dict[str, object]) -> PinnedSource:
    """What resolving gives: no server is asked, so no time is needed."""
    spec = nix_image(source=source).spec
    return asyncio.run(resolve(spec.source, nixpkgs_url="", timeout=0))


def test_its_claim_and_revision_are_the_pin() -> None:
    found = pinned(volume("2026-05"))
    assert (found.kind, found.url, found.path) == ("volume", "", "set")
    assert (found.ref, found.revision) == ("PersistentVolumeClaim/packages", "2026-05")


def test_another_claim_or_revision_is_another_image() -> None:
    image = nix_image(source=volume())
    hashes = {
        input_hash(image, pinned(each))
        for each in (volume("1"), volume("2"), volume("1", claim="other"))
    }
    assert len(hashes) == 3


def test_it_is_ready_and_never_looked_up_again() -> None:
    image = seen(nix_image(source=volume()))
    decision = decide(image, observe(source=pinned(volume()), published=PUBLISHED), NOW, SETTINGS)
    image = answered(image, decision)
    assert told(image)["Ready"] == "True/Succeeded"
    assert (decision.requeue_after, decision.poll_after) == (None, None)
    assert image.status.source is not None
    assert image.status.source.ref == "PersistentVolumeClaim/packages"
    paused = nix_image(image.status, generation=2, suspend=True, source=volume())
    assert told(answered(paused, decide(paused, Observed(), NOW, SETTINGS)))["Ready"] == (
        "True/Succeeded"
    )
