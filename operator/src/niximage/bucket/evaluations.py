"""What packages were evaluated to before: store paths, by source, attribute, system and settings.

A pinned source gives the same packages each time, so one that any image of the namespace had is
known for all of them. What is remembered came from a step that runs what tenants wrote: it is
believed in the same namespace only, and only where a binary cache has the paths, for without
their derivations nothing could be built.
"""

from typing import Annotated, Any, Final, Literal

from pydantic import Field

from niximage.api.build import TIME_LIMIT, BuildOutputs, BuildRequest, BuiltPackage
from niximage.api.canonical import canonical_hash, canonical_json
from niximage.api.platforms import SYSTEMS, Platform
from niximage.bucket import keys
from niximage.bucket.hold import put
from niximage.bucket.records import Record, read_record
from niximage.bucket.store import ObjectStore
from niximage.bucket.threads import in_parallel

RECORD_LIMIT: Final = 64 << 10  # bytes of JSON: 32 outputs of the longest names, and more
EVALUATOR: Final = 1
"""Raised whenever the same source would be evaluated to other paths."""


class EvaluationRecord(Record):
    """One package.

    Attributes:
        package: its attribute and its chosen outputs.
        source_time: when the source's revision was committed.
    """

    kind: Literal["evaluation"] = "evaluation"
    package: BuiltPackage
    source_time: Annotated[int, Field(ge=0, le=TIME_LIMIT)]


def find_evaluation(store: ObjectStore, request: BuildRequest) -> BuildOutputs | None:
    """What the packages of a request were evaluated to.

    Returns:
        The packages of each platform for which all of them are known; None if there is none, or
        where the source may have other content by now.

    Raises:
        Retryable: the store fails.
    """
    if not request.source.is_fixed:
        return None
    records = {
        platform: found
        for platform in request.platforms
        if (found := _find_all(store, request, platform)) is not None
    }
    if not records:
        return None
    return BuildOutputs(
        packages={
            platform: [record.package for record in found] for platform, found in records.items()
        },
        source_time=max(record.source_time for found in records.values() for record in found),
    )


def save_evaluation(store: ObjectStore, request: BuildRequest, outputs: BuildOutputs) -> None:
    """Remember what the packages of a request were evaluated to, but for what was known."""
    if not request.source.is_fixed:
        return
    known = request.known.packages if request.known is not None else {}

    def save(each: tuple[Platform, BuiltPackage]) -> None:
        platform, package = each
        record = EvaluationRecord(package=package, source_time=outputs.source_time)
        name = _name(request, platform, package.attribute)
        put(store, name, canonical_json(record.to_json()))

    new = [
        (platform, package)
        for platform in request.platforms
        if platform not in known
        for package in outputs.packages[platform]
    ]
    in_parallel(save, new)


def _find_all(
    store: ObjectStore, request: BuildRequest, platform: Platform
) -> list[EvaluationRecord] | None:
    """The records of all packages for a platform, or None if one of them is not known."""

    def find(package: str) -> EvaluationRecord | None:
        name = _name(request, platform, package)
        record = read_record(store, name, EvaluationRecord, limit=RECORD_LIMIT)
        return record if record is not None and record.package.attribute == package else None

    found = in_parallel(find, request.packages)
    records = [record for record in found if record is not None]
    return records if len(records) == len(found) else None


def _name(request: BuildRequest, platform: Platform, package: str) -> str:
    document: dict[str, Any] = {
        "v": 1,
        "evaluator": EVALUATOR,
        "source": request.source.identity,
        "system": SYSTEMS[platform],
        "config": request.nixpkgs_config.to_json(),
        "package": package,
    }
    return keys.evaluation_record(request.namespace, canonical_hash(document))
