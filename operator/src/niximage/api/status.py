"""The status of a NixImage: what users, kubectl, Flux and Argo CD read.

`image` and `digest` are always the last good ones; a failing rebuild never clears them.
"""

import enum
from typing import Annotated, Any, Literal

from pydantic import Field

from niximage.api.base import Model, Time, list_map, list_set
from niximage.errors import Reason

Text = Annotated[str, Field(max_length=1024)]
Revision = Annotated[str, Field(max_length=300)]


class ConditionType(enum.StrEnum):
    """The conditions a NixImage may have.

    `Reconciling` and `Stalled` are there only while True, and never together: kstatus takes
    whichever comes first.
    """

    READY = "Ready"
    RECONCILING = "Reconciling"
    STALLED = "Stalled"
    SOURCE_RESOLVED = "SourceResolved"
    BUILD_SUCCEEDED = "BuildSucceeded"
    PUBLISHED = "Published"
    OUTDATED = "Outdated"


class ConditionStatus(enum.StrEnum):
    """Kubernetes' three values of truth."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class Condition(Model):
    """One observation of the object's state, in the form of `metav1.Condition`."""

    type: Annotated[str, Field(max_length=64)]
    status: ConditionStatus
    reason: Annotated[
        str, Field(pattern=r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$", max_length=64)
    ]
    message: Annotated[str, Field(max_length=2048)] = ""
    last_transition_time: Time
    observed_generation: Annotated[int, Field(ge=0)] = 0


class SourceStatus(Model):
    """The revision that the source was pinned to."""

    url: Text
    ref: Annotated[str, Field(max_length=300)] = Field(
        default="", description="The full ref, or the object of Flux, that has the revision."
    )
    revision: Revision
    digest: Annotated[str, Field(max_length=71)] | None = Field(
        default=None, description="Of an artifact of Flux: what its bytes hash to."
    )
    short_revision: Annotated[str, Field(max_length=12)]
    resolved_time: Time = Field(description="When the source first had this revision.")


class Artifact(Model):
    """What the published image is made of."""

    input_hash: Annotated[str, Field(max_length=64)] = Field(
        description="What the image was made from; a tag of this name names it, too."
    )
    revision: Revision
    source_digest: Annotated[str, Field(max_length=71)] | None = Field(
        default=None, description="Of the artifact of Flux that it was built from."
    )
    platforms: Annotated[
        list[Annotated[str, Field(max_length=32)]],
        Field(max_length=8, json_schema_extra=list_set()),
    ] = Field(default_factory=list, description="What it runs on.")
    layers: Annotated[int, Field(ge=0)] = Field(description="Of all platforms together.")
    size: Annotated[int, Field(ge=0)] = Field(description="Bytes of all blobs, compressed.")
    reused_layers: Annotated[int, Field(ge=0)] = Field(
        description="Layers that were in the bucket before."
    )
    reused_size: Annotated[int, Field(ge=0)] = Field(description="Bytes of those layers.")
    last_update_time: Time
    tags: Annotated[
        list[Annotated[str, Field(max_length=128)]],
        Field(max_length=10, json_schema_extra=list_set()),
    ] = Field(default_factory=list, description="The tags that name it, beside its input hash.")


class Progress(Model):
    """How far a build is, as its pod tells; looked at a few times a minute."""

    phase: Annotated[str, Field(max_length=32)] = Field(
        description="Of the pod: Pending, start or Lost. Of its step: fetch, evaluate, realise, "
        "build, plan, pack or publish."
    )
    done: Annotated[int, Field(ge=0)] = 0
    total: Annotated[int, Field(ge=0)] = 0
    message: Annotated[str, Field(max_length=600)] = ""


class CurrentBuild(Model):
    """The build that runs now."""

    job_name: Annotated[str, Field(max_length=63)]
    input_hash: Annotated[str, Field(max_length=64)]
    attempt: Annotated[int, Field(ge=1)]
    start_time: Time
    progress: Progress | None = None


class Failure(Model):
    """Why the last attempt failed."""

    reason: Annotated[str, Field(max_length=64)]
    message: Annotated[str, Field(max_length=1024)]
    input_hash: Annotated[str, Field(max_length=64)] = ""
    derivation: Annotated[str, Field(max_length=300)] = ""
    log_tail: Annotated[str, Field(max_length=2048)] = ""
    attempts: Annotated[int, Field(ge=1)] = Field(
        default=1, description="How often in a row these inputs have failed."
    )
    tries: Annotated[int, Field(ge=0)] = Field(
        default=1,
        description="How often since the spec changed, or a reconcile was requested: what "
        "build.retry.limit bounds.",
    )
    last_failure_time: Time
    next_retry_time: Time | None = None


class BuildResult(Model):
    """A build that ended."""

    id: Annotated[str, Field(max_length=64)] = Field(
        description="The uid of its Job; the input hash of what the bucket had already."
    )
    job_name: Annotated[str, Field(max_length=63)] = Field(
        description="Empty for what the bucket had already."
    )
    result: Literal["Succeeded", "Failed"]
    reason: Annotated[str, Field(max_length=64)]
    message: Annotated[str, Field(max_length=300)] = ""
    revision: Revision
    digest: Annotated[str, Field(max_length=71)] | None = None
    start_time: Time
    completion_time: Time
    log: Annotated[str, Field(max_length=160)] | None = Field(
        default=None, description="The key of its log in the bucket: text, compressed by gzip."
    )


Token = Annotated[str, Field(max_length=256)]


class NixImageStatus(Model):
    """What the operator saw and did."""

    observed_generation: int = -1
    last_handled_reconcile_at: Token | None = Field(
        default=None, description="The reconcile.fluxcd.io/requestedAt that was answered last."
    )
    last_handled_force_at: Token | None = Field(
        default=None, description="The reconcile.fluxcd.io/forceAt that was answered last."
    )
    conditions: Annotated[
        list[Condition],
        Field(
            max_length=16,
            json_schema_extra=list_map("type"),
        ),
    ] = Field(default_factory=list)
    image: Annotated[str, Field(max_length=512)] | None = Field(
        default=None, description="The last good image, by digest: what a pod should name."
    )
    digest: Annotated[str, Field(max_length=71)] | None = None
    config_map: Annotated[str, Field(max_length=63)] | None = Field(
        default=None, description="The ConfigMap that names the image, where the spec wants one."
    )
    source: SourceStatus | None = None
    artifact: Artifact | None = None
    suspended: bool | None = Field(
        default=None, description="True while spec.suspend is answered; absent otherwise."
    )
    current_build: CurrentBuild | None = None
    failure: Failure | None = None
    history: Annotated[
        list[BuildResult], Field(max_length=20, json_schema_extra=list_map("id"))
    ] = Field(default_factory=list, description="The latest builds that ended, newest first.")

    def condition(self, kind: ConditionType) -> Condition | None:
        """The condition of one type, if there."""
        return next((c for c in self.conditions if c.type == kind), None)

    def is_true(self, kind: ConditionType) -> bool:
        """Whether the condition of one type is there and True."""
        found = self.condition(kind)
        return found is not None and found.status is ConditionStatus.TRUE

    def has_reason(self, kind: ConditionType, reason: Reason) -> bool:
        """Whether the condition of one type is there with this reason."""
        found = self.condition(kind)
        return found is not None and found.reason == reason

    def merge_patch_from(self, old: dict[str, Any]) -> dict[str, Any]:
        """The JSON merge patch that turns a stored status into this one; {} when equal."""
        return _merge_patch(old, self.to_json())


def _merge_patch(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """RFC 7396: what to send so that `old` becomes `new`; lists are replaced whole."""
    patch: dict[str, Any] = {key: None for key in old if key not in new}
    for key, value in new.items():
        before = old.get(key)
        if isinstance(value, dict) and isinstance(before, dict):
            inner = _merge_patch(before, value)
            if inner:
                patch[key] = inner
        elif value != before:
            patch[key] = value
    return patch
