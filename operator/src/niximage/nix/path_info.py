"""The closure of store paths, as the store's database has it.

`nix path-info --json` has had two shapes: a list of objects until Nix 2.18, an object keyed by
path since; and NAR hashes in two forms. Both are read here and nowhere else.
"""

import json
from collections.abc import Sequence
from typing import Any

from niximage.errors import Reason, Retryable, plain_text
from niximage.image.closure import Closure, PathInfo
from niximage.nix.hashes import sri
from niximage.nix.programs import NixStore, run


def query_closure(paths: Sequence[str], *, store: NixStore, timeout: float) -> Closure:
    """The closure of store paths.

    Args:
        paths: store paths, all of them in the store.
        store: the settings.
        timeout: seconds it may take.

    Raises:
        Terminal: it took too long.
        Retryable: a path is not in the store, or the answer is malformed.
    """
    arguments = ["path-info", "--json", "--recursive", *paths]
    finished = run("nix", arguments, store=store, timeout=timeout)
    if finished.code != 0:
        raise Retryable(
            Reason.BUILD_INTERRUPTED,
            "the store does not know what was built: " + plain_text(finished.stderr, 500),
            hint="Build it again; was a garbage collection running?",
        )
    closure = Closure.of(parse(finished.stdout))
    for path in paths:
        if path not in closure:
            raise _malformed(f"{path} is not in it")
    return closure


def parse(answer: bytes) -> list[PathInfo]:
    """The path infos in what `nix path-info --json` printed, in either shape.

    Raises:
        Retryable: it has neither shape, or a path is not valid in the store.
    """
    try:
        document = json.loads(answer)
    except ValueError as error:
        raise _malformed(str(error)) from None
    match document:
        case list():
            return [_info(item.get("path"), item) for item in map(_object, document)]
        case dict():
            return [_info(path, _object(item)) for path, item in document.items()]
        case _:
            raise _malformed("neither a list nor an object")


def _info(path: Any, item: dict[str, Any]) -> PathInfo:
    match {"path": path, **item}:
        case {
            "path": str(path),
            "narHash": str(nar_hash),
            "narSize": int(nar_size),
            "references": list(references),
        } if all(isinstance(reference, str) for reference in references):
            try:
                return PathInfo(path, sri(nar_hash), nar_size, tuple(references))
            except ValueError as error:
                raise _malformed(f"{path}: {error}") from None
        case _:
            raise _malformed(f"{path!s:.300} is not valid in the store")


def _object(item: Any) -> dict[str, Any]:
    return item if isinstance(item, dict) else {}


def _malformed(what: str) -> Retryable:
    return Retryable(
        Reason.RESULT_INVALID,
        f"nix path-info gave an unexpected answer: {plain_text(what, 500)}",
        hint="Build it again; is this Nix 2.8 or later?",
    )
