"""The CRD: structural, bounded, small, and in step with the models."""

from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from niximage.api.crd import crds, nix_image_crd, to_yaml
from niximage.api.structural import structural


def schema_of(crd: dict[str, Any]) -> dict[str, Any]:
    schema: dict[str, Any] = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return schema


SCHEMA = schema_of(nix_image_crd())


def nodes(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, schema
    for name, inner in schema.get("properties", {}).items():
        yield from nodes(inner, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            yield from nodes(schema[key], f"{path}.{key}")


SPEC_AND_STATUS = [
    (crd["spec"]["names"]["kind"] + path, node)
    for crd in crds()
    for path, node in nodes(schema_of(crd))
    if path.startswith((".spec", ".status"))
]


@pytest.mark.parametrize(("path", "node"), SPEC_AND_STATUS, ids=[p for p, _ in SPEC_AND_STATUS])
def test_every_field_is_typed_and_bounded(path: str, node: dict[str, Any]) -> None:
    if node.get("x-kubernetes-int-or-string"):
        assert "type" not in node, "the API server refuses both"
        assert "maxLength" in node
        return
    match node["type"]:
        case "string":
            bounded = "maxLength" in node or "enum" in node or node.get("format") == "date-time"
            fixed = "pattern" in node and "{" in node["pattern"]
            assert bounded or fixed, "a string without a bound costs CEL budget and etcd"
        case "array":
            assert "maxItems" in node
            assert isinstance(node["items"], dict)
        case "object":
            assert "properties" in node or "maxProperties" in node
        case "integer" | "boolean":
            pass
        case other:
            pytest.fail(f"{path} has type {other}")


@pytest.mark.parametrize(("path", "node"), SPEC_AND_STATUS, ids=[p for p, _ in SPEC_AND_STATUS])
def test_no_keyword_that_the_api_server_refuses(path: str, node: dict[str, Any]) -> None:
    for refused in ("$ref", "anyOf", "oneOf", "const", "title", "uniqueItems", "exclusiveMinimum"):
        assert refused not in node, path
    assert "default" not in node or node["default"] is not None


@pytest.mark.parametrize("crd", crds(), ids=lambda crd: str(crd["metadata"]["name"]))
def test_it_fits_kubectl_apply(crd: dict[str, Any]) -> None:
    assert len(to_yaml(crd)) < 262_144


def test_the_status_is_unseen_until_it_is_seen() -> None:
    assert SCHEMA["properties"]["status"]["default"] == {"observedGeneration": -1}


@pytest.mark.parametrize("crd", crds(), ids=lambda crd: str(crd["metadata"]["name"]))
def test_the_yaml_is_the_crd(crd: dict[str, Any]) -> None:
    assert yaml.safe_load(to_yaml(crd)) == crd


class Node(BaseModel):
    child: "Node | None" = None


class Union(BaseModel):
    either: int | str


class Span(BaseModel):
    size: float = 1.0
    model_config = {"json_schema_extra": {"multipleOf": 2}}


@pytest.mark.parametrize(
    ("model", "words"),
    [(Node, "circle"), (Union, "union"), (Span, "no structural form for 'multipleOf'")],
)
def test_a_model_without_a_structural_form_is_refused(model: type[BaseModel], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        structural(model.model_json_schema())
