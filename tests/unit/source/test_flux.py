"""What the status of an object of Flux pins, and what it says where it pins nothing."""

from typing import Any

import pytest

from niximage.api.source import Source
from niximage.errors import NixImageError, Reason, Retryable, Terminal
from niximage.source.flux import pin_flux

DIGEST = f"sha256:{'d' * 64}"
COMMIT = "6f2d9ba17f4e1dbb2cd4a4d9d2a3e4f5a6b7c8d9"
URL = (
    "http://source-controller.flux-system.svc.cluster.local./gitrepository/team-a/podinfo/x.tar.gz"
)
SOURCE = Source.model_validate(
    {"sourceRef": {"kind": "GitRepository", "name": "podinfo", "path": "nix", "attr": "pkgs"}}
)
ARTIFACT = {"url": URL, "digest": DIGEST, "revision": f"main@sha1:{COMMIT}", "path": "x"}


def body(kind: str = "GitRepository", **status: Any) -> dict[str, Any]:
    spec = {"url": "https://git.example.org/podinfo"} if kind == "GitRepository" else {}
    return {"kind": kind, "spec": spec, "status": status}


def test_url_digest_and_revision_are_the_pin() -> None:
    pinned = pin_flux(SOURCE, body(artifact=ARTIFACT))
    assert (pinned.kind, pinned.url, pinned.digest) == ("artifact", URL, DIGEST)
    assert (pinned.ref, pinned.revision) == ("GitRepository/podinfo", f"main@sha1:{COMMIT}")
    assert pinned.short_revision == COMMIT[:12]
    assert (pinned.path, pinned.attr) == ("nix", "pkgs")
    assert pinned.origin == "https://git.example.org/podinfo"


def test_of_an_external_artifact_no_origin_is_known() -> None:
    source = Source.model_validate({"sourceRef": {"kind": "ExternalArtifact", "name": "x"}})
    pinned = pin_flux(source, body("ExternalArtifact", artifact={**ARTIFACT, "revision": "v1.0"}))
    assert (pinned.origin, pinned.short_revision) == ("", "v1.0")


def test_the_last_good_artifact_of_an_object_that_fails_is_taken() -> None:
    failing = [{"type": "Ready", "status": "False", "message": "no route to host"}]
    assert pin_flux(SOURCE, body(artifact=ARTIFACT, conditions=failing)).digest == DIGEST


@pytest.mark.parametrize(
    ("status", "kind", "reason", "words"),
    [
        ({}, Retryable, Reason.SOURCE_UNAVAILABLE, "has no artifact yet: Flux has not said why"),
        (
            {"conditions": [{"type": "Ready", "message": "auth\x1b[31m failed"}]},
            Retryable,
            Reason.SOURCE_UNAVAILABLE,
            "GitRepository/podinfo has no artifact yet: auth failed",
        ),
        (
            {"artifact": {**ARTIFACT, "url": ""}},
            Retryable,
            Reason.SOURCE_UNAVAILABLE,
            "no artifact",
        ),
        (
            {"artifact": {**ARTIFACT, "digest": "blake3:abc"}},
            Terminal,
            Reason.INVALID_SOURCE,
            "'blake3:abc', which is no SHA-256",
        ),
        ({"artifact": {**ARTIFACT, "digest": ""}}, Terminal, Reason.INVALID_SOURCE, "no SHA-256"),
        (
            {"artifact": {**ARTIFACT, "digest": "sha256:short"}},
            Terminal,
            Reason.INVALID_SOURCE,
            "is malformed: digest",
        ),
        (
            {"artifact": {**ARTIFACT, "url": "file:///etc/passwd"}},
            Terminal,
            Reason.INVALID_SOURCE,
            "which is no HTTP URL",
        ),
        (
            {"artifact": {**ARTIFACT, "revision": "x" * 301}},
            Terminal,
            Reason.INVALID_SOURCE,
            "is malformed: revision",
        ),
    ],
)
def test_what_pins_nothing(
    status: dict[str, Any], kind: type[NixImageError], reason: Reason, words: str
) -> None:
    with pytest.raises(NixImageError) as caught:
        pin_flux(SOURCE, body(**status))
    assert (type(caught.value), caught.value.reason) == (kind, reason)
    assert words in caught.value.message
    assert caught.value.hint
