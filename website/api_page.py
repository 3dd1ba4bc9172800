"""The API reference, made from the same schemas as the CRDs. Pure."""

import json
from collections.abc import Iterator
from typing import Any, Final

from niximage.api.base import API_VERSION
from niximage.api.crd import crds

INTRODUCTION: Final = f"""# API

Kinds of `{API_VERSION}`, as `kubectl explain` tells them. A field without a default may be left out
unless it is required. Lists and texts are bounded as noted; the API server refuses what is not.
"""


def api_page() -> str:
    """The page as Markdown."""
    parts = [INTRODUCTION]
    for definition in crds():
        kind = definition["spec"]["names"]["kind"]
        scope = definition["spec"]["scope"].lower()
        schema = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        parts.append(f"## {kind}\n\n{_text(schema)}\n\nScope: {scope}.\n")
        for part in ("spec", "status"):
            inner = schema["properties"].get(part)
            if inner is not None:
                parts += _sections(f"{kind}.{part}", inner)
    return "\n".join(parts)


def _sections(path: str, schema: dict[str, Any]) -> Iterator[str]:
    """A section for an object, and one for each object in it."""
    fields = schema.get("properties") or {}
    if not fields:
        return
    required = set(schema.get("required") or [])
    lines = [f"### {path}\n", _text(schema), "", "| field | type | |", "|---|---|---|"]
    for name, field in fields.items():
        bounds = ["required"] if name in required else []
        bounds += _bounds(field)
        about = f"{_text(field)} *{'; '.join(bounds)}*" if bounds else _text(field)
        words = about.strip().replace("|", "\\|").replace("\n", " ")
        lines.append(f"| `{name}` | {_type(field)} | {words} |")
    yield "\n".join(lines) + "\n" + _rules(schema)
    for name, field in fields.items():
        inner = field.get("items", field)
        yield from _sections(f"{path}.{name}", inner)


def _type(field: dict[str, Any]) -> str:
    match field:
        case {"items": inner}:
            return f"list of {_type(inner)}"
        case {"additionalProperties": dict(inner)}:
            return f"map of {_type(inner)}"
        case {"x-kubernetes-int-or-string": True}:
            return "integer or string"
        case {"type": kind, **rest}:
            return str(rest.get("format") or kind)
        case _:
            return "any"


def _bounds(field: dict[str, Any]) -> Iterator[str]:
    if "default" in field and not isinstance(field["default"], dict) and field["default"] != []:
        yield f"default `{json.dumps(field['default'])}`"
    if "enum" in field:
        yield "one of " + ", ".join(f"`{value}`" for value in field["enum"])
    low, high = field.get("minimum"), field.get("maximum")
    if low is not None and high is not None:
        yield f"{low} to {high}"
    if (most := field.get("maxItems")) is not None:
        yield f"at most {most}"
    inner = field.get("items", field)
    if (length := inner.get("maxLength")) is not None:
        yield f"up to {length} characters" + (" each" if inner is not field else "")
    yield from (rule["message"] for rule in field.get("x-kubernetes-validations", ()))


def _rules(schema: dict[str, Any]) -> str:
    rules = schema.get("x-kubernetes-validations") or []
    return "".join(f"\n- {rule['message']}" for rule in rules) + "\n"


def _text(schema: dict[str, Any]) -> str:
    return str(schema.get("description") or "").strip()
