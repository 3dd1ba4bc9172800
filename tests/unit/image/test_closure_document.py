"""The closure that goes beside an image."""

from collections.abc import Sequence

import pytest
import zstandard
from hypothesis import given

from niximage.api.build import BuiltPackage
from niximage.api.canonical import canonical_json
from niximage.errors import Reason, Retryable
from niximage.image.closure_document import ClosureDocument
from unit.image.closures import closure, graphs, store_path

GRAPH = {"libc": (30, []), "zlib": (2, ["libc"]), "curl": (5, ["libc", "zlib"])}


def document(graph: dict[str, tuple[int, Sequence[str]]]) -> ClosureDocument:
    found = closure(graph)
    last = list(found.infos)[-1]
    layers = {path: at % 3 for at, path in enumerate(found.infos) if at % 4}
    packages = [BuiltPackage(attribute="web", outputs={"out": last})]
    return ClosureDocument.of(
        found, packages, system="x86_64-linux", layers=layers, base="team/base@sha256:" + "0" * 64
    )


@given(graph=graphs())
def test_a_closure_is_read_as_it_was_written(graph: dict[str, tuple[int, Sequence[str]]]) -> None:
    written = document(graph)
    content = written.to_bytes()
    assert content is not None
    read = ClosureDocument.from_bytes(content)
    assert read == written
    assert read.closure == closure(graph)
    assert read.layers == written.layers
    assert read.to_bytes() == content


def test_equal_closures_have_equal_bytes_in_whatever_order_they_come() -> None:
    backwards = dict(reversed(GRAPH.items()))
    assert document({**GRAPH}).to_bytes() == document({**backwards}).to_bytes()


def test_a_path_costs_some_dozen_bytes() -> None:
    many = {f"package-{i}": (i, [f"package-{i - 1}"] if i else []) for i in range(2000)}
    content = document({**many}).to_bytes()
    assert content is not None
    assert len(content) < 100 * len(many)


@pytest.mark.parametrize(
    "changes",
    [
        {"v": 2},
        {"paths": []},
        {"more": 1},
        {"system": "none"},
        {"packages": [{"attribute": "x", "outputs": {"out": store_path("elsewhere")}}]},
    ],
)
def test_what_is_no_closure_is_told(changes: dict[str, object]) -> None:
    content = canonical_json({**document({**GRAPH}).to_json(), **changes})
    with pytest.raises(Retryable, match="malformed") as told:
        ClosureDocument.from_bytes(zstandard.compress(content))
    assert told.value.reason is Reason.RESULT_INVALID


@pytest.mark.parametrize("content", [b"", b"no zstd", zstandard.compress(b"{"), b"\x28\xb5\x2f"])
def test_what_cannot_be_read_is_told(content: bytes) -> None:
    with pytest.raises(Retryable, match="malformed"):
        ClosureDocument.from_bytes(content)


def test_references_and_names_must_fit_together() -> None:
    raw = document({**GRAPH}).to_json()
    raw["paths"][0]["references"] = [7]
    with pytest.raises(Retryable, match="not listed"):
        ClosureDocument.from_bytes(zstandard.compress(canonical_json(raw)))
    raw = document({**GRAPH}).to_json()
    raw["paths"].append(raw["paths"][0])
    with pytest.raises(Retryable, match="twice"):
        ClosureDocument.from_bytes(zstandard.compress(canonical_json(raw)))
