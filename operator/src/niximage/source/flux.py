"""What an object of Flux says of its artifact, as a pinned source. Pure.

Flux's source-controller fetches, verifies and packs; we take the archive that its status names,
and believe nothing but the digest.
"""

from collections.abc import Mapping
from typing import Any, Final

import pydantic

from niximage.api.build import PinnedSource
from niximage.api.image import explain
from niximage.api.source import FluxSource, Source
from niximage.errors import Reason, Retryable, Terminal, plain_text
from niximage.source.resolve import wanted

GROUP: Final = "source.toolkit.fluxcd.io"
VERSION: Final = "v1"
PLURALS: Final = {"GitRepository": "gitrepositories", "ExternalArtifact": "externalartifacts"}

_WORDS_LIMIT: Final = 300  # bytes of Flux's own words in a message


def pin_flux(source: Source, body: Mapping[str, Any]) -> PinnedSource:
    """Pin a source to the artifact that an object of Flux has now.

    An object that is not Ready may still have an artifact: it is the last good one, and taken.

    Args:
        source: what the spec says, with its `sourceRef`.
        body: the object, as the API server gives it.

    Raises:
        Retryable: it has no artifact yet.
        Terminal: its artifact is not one that can be used.
    """
    assert source.source_ref is not None
    flux = source.source_ref
    status = body.get("status") or {}
    artifact = status.get("artifact")
    if not isinstance(artifact, Mapping) or not artifact.get("url"):
        raise Retryable(
            Reason.SOURCE_UNAVAILABLE,
            f"{flux} has no artifact yet: {_why(status)}",
            hint=f"It is looked at again; see: kubectl describe {flux}",
        )
    digest, url = str(artifact.get("digest") or ""), str(artifact["url"])
    if not digest.startswith("sha256:"):
        raise Terminal(
            Reason.INVALID_SOURCE,
            f"the artifact of {flux} has the digest {digest[:100]!r}, which is no SHA-256",
            hint="Run source-controller with --artifact-digest-algo=sha256",
        )
    if not url.startswith(("http://", "https://")):
        raise Terminal(
            Reason.INVALID_SOURCE,
            f"the artifact of {flux} is at {url[:200]!r}, which is no HTTP URL",
            hint="See the object's status.artifact.url",
        )
    try:
        return wanted(source, "").pinned(
            str(artifact.get("revision") or digest), digest=digest, url=url, origin=_origin(body)
        )
    except pydantic.ValidationError as error:
        raise Terminal(
            Reason.INVALID_SOURCE,
            f"the artifact of {flux} is malformed: {explain(error)}",
            hint="See the object's status.artifact",
        ) from None


def not_found(flux: FluxSource, namespace: str) -> Retryable:
    """The error of an object that is not there; it may be applied after the image."""
    return Retryable(
        Reason.REFERENCE_NOT_FOUND,
        f"there is no {flux} in the namespace {namespace}",
        hint="Create it, or correct source.sourceRef: it is looked for again",
    )


def not_served(flux: FluxSource) -> Retryable:
    """The error of a cluster without Flux."""
    return Retryable(
        Reason.SOURCE_UNAVAILABLE,
        f"the cluster has no {flux.kind} of {flux.api_version}",
        hint="Install Flux with its source-controller, of a version that has this kind",
    )


def not_readable(flux: FluxSource) -> Retryable:
    """The error of an operator that may not read objects of Flux."""
    return Retryable(
        Reason.CREDENTIALS_NOT_GRANTED,
        f"the operator may not get {PLURALS[flux.kind]}.{GROUP}",
        hint="Grant its ServiceAccount get, list and watch on them, as its manifests do",
    )


def _why(status: Mapping[str, Any]) -> str:
    """The words of the condition Ready, or that there are none."""
    for condition in status.get("conditions") or ():
        if condition.get("type") == "Ready" and condition.get("message"):
            return plain_text(str(condition["message"]), _WORDS_LIMIT)
    return "Flux has not said why"


def _origin(body: Mapping[str, Any]) -> str:
    """The repository that a GitRepository follows; of an ExternalArtifact nothing is known."""
    if body.get("kind") != "GitRepository":
        return ""
    return str((body.get("spec") or {}).get("url") or "")
