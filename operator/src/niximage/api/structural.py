"""pydantic's JSON Schema to what the API server reads.

pydantic writes JSON Schema 2020-12; the API server reads a structural subset of OpenAPI 3.0.
`structural` turns the one into the other, and refuses what has no faithful form, so that a
model which the API server would misread fails here, in a test, not on a cluster.
"""

from typing import Any, Final

# Keywords that mean the same in both languages.
_KEPT: Final = frozenset(
    {
        "default",
        "description",
        "enum",
        "format",
        "items",
        "maxItems",
        "maxLength",
        "maxProperties",
        "maximum",
        "minItems",
        "minLength",
        "minProperties",
        "minimum",
        "pattern",
        "properties",
        "required",
        "type",
    }
)
_DROPPED: Final = frozenset({"title", "$defs"})
# Formats that Kubernetes knows by the same name and meaning.
_FORMATS: Final = frozenset({"date-time", "int32", "int64"})


def structural(schema: dict[str, Any]) -> dict[str, Any]:
    """A pydantic JSON schema as a structural OpenAPI 3.0 schema.

    Args:
        schema: the output of `model_json_schema`, with its `$defs`.

    Returns:
        The schema with references inlined and only keywords that the API server reads.

    Raises:
        ValueError: a keyword or form that has no structural counterpart.
    """
    return _convert(schema, schema.get("$defs", {}), ())


def _convert(
    schema: dict[str, Any], definitions: dict[str, Any], path: tuple[str, ...]
) -> dict[str, Any]:
    if len(path) > 64:  # noqa: PLR2004 (no API of ours nests so deep: it is a cycle)
        raise ValueError(f"{_where(path)}: the models refer to each other in a circle")
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[-1]
        siblings = {k: v for k, v in schema.items() if k != "$ref"}
        return _convert({**definitions[name], **siblings}, definitions, path)
    if "anyOf" in schema:
        return _convert(_optional(schema, _where(path)), definitions, path)

    result: dict[str, Any] = {}
    for key, value in schema.items():
        result |= _keyword(key, value, definitions, path)
    return result


def _keyword(
    key: str, value: Any, definitions: dict[str, Any], path: tuple[str, ...]
) -> dict[str, Any]:
    """One keyword in the API server's language; {} for one that says nothing there."""
    match key:
        case "properties":
            inner = {n: _convert(v, definitions, (*path, n)) for n, v in value.items()}
            return {key: inner}
        case "items":
            return {key: _convert(value, definitions, (*path, "items"))}
        case "additionalProperties":
            # False is what pruning does anyway, and structural schemas forbid it.
            return {} if value is False else {key: _convert(value, definitions, (*path, "*"))}
        case "const":
            return {"enum": [value]}
        case "default":
            # The API server refuses null as a default, though only when a CRD is updated.
            given = _without_nulls(value)
            return {} if given in (None, {}, []) else {key: given}
        case "format" if value not in _FORMATS:
            raise ValueError(f"{_where(path)}: Kubernetes has no format {value!r}")
        case _ if key in _KEPT or key.startswith("x-kubernetes-"):
            return {key: value}
        case _ if key in _DROPPED:
            return {}
        case _:
            raise ValueError(f"{_where(path)}: no structural form for {key!r}")


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_nulls(v) for k, v in value.items() if v is not None}
    return value


def _where(path: tuple[str, ...]) -> str:
    return ".".join(path) or "the schema"


def _optional(schema: dict[str, Any], where: str) -> dict[str, Any]:
    """`X | None` as plain X: an absent field says the same, and explicit nulls are dropped."""
    choices = [c for c in schema["anyOf"] if c != {"type": "null"}]
    if len(choices) != 1:
        raise ValueError(f"{where}: a union has no structural form; use optional fields and CEL")
    rest = {k: v for k, v in schema.items() if k != "anyOf"}
    return {**choices[0], **rest}
