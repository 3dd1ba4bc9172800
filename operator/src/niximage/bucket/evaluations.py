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
    """What all packages of a request were evaluated to, or None if one of them is not known.

    Raises:
        Retryable: the store fails.
    """
    found = in_parallel(lambda package: _find(store, request, package), request.packages)
    records = [record for record in found if record is not None]
    if len(records) < len(found):
        return None
    return BuildOutputs(
        packages=[record.package for record in records],
        source_time=max(record.source_time for record in records),
    )


def save_evaluation(store: ObjectStore, request: BuildRequest, outputs: BuildOutputs) -> None:
    """Remember what the packages of a request were evaluated to."""

    def save(package: BuiltPackage) -> None:
        record = EvaluationRecord(package=package, source_time=outputs.source_time)
        put(store, _name(request, package.attribute), canonical_json(record.to_json()))

    in_parallel(save, outputs.packages)


def _find(store: ObjectStore, request: BuildRequest, package: str) -> EvaluationRecord | None:
    record = read_record(store, _name(request, package), EvaluationRecord, limit=RECORD_LIMIT)
    return record if record is not None and record.package.attribute == package else None


def _name(request: BuildRequest, package: str) -> str:
    source = request.source
    document: dict[str, Any] = {
        "v": 1,
        "evaluator": EVALUATOR,
        "source": {"revision": source.revision, "path": source.path, "attr": source.attr},
        "system": request.system,
        "config": request.nixpkgs_config.to_json(),
        "package": package,
    }
    return keys.evaluation_record(request.namespace, canonical_hash(document))
