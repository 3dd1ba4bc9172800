"""JSON with one spelling, so that equal values have equal hashes."""

import hashlib
import json
from typing import Any


def canonical_json(value: Any) -> bytes:
    """The value as JSON with sorted keys, no blank space, UTF-8 and a final newline-free end.

    Floats are refused: their spelling differs between writers.

    Raises:
        TypeError: the value holds something that JSON, or this spelling, has no form for.
    """
    _refuse_floats(value)
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def canonical_hash(value: Any) -> str:
    """The SHA-256 over the canonical JSON of a value, 64 hex digits."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def _refuse_floats(value: Any) -> None:
    match value:
        case float():
            raise TypeError(f"a float has no canonical form: {value!r}")
        case dict():
            for key, item in value.items():
                if not isinstance(key, str):
                    raise TypeError(f"an object's key must be a string: {key!r}")
                _refuse_floats(item)
        case list() | tuple():
            for item in value:
                _refuse_floats(item)
        case _:
            pass
