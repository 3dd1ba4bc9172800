"""Closures for tests, real enough for every rule."""

import base64
import hashlib
from collections.abc import Mapping, Sequence

from hypothesis import strategies as st

from niximage.image.closure import Closure, PathInfo

_DIGITS = "0123456789abcdfghijklmnpqrsvwxyz"


def store_path(name: str, salt: str = "") -> str:
    """A store path with this name; the salt gives it another hash."""
    number = int.from_bytes(hashlib.sha256(f"{name}|{salt}".encode()).digest()[:20])
    digits = "".join(_DIGITS[number >> 5 * i & 31] for i in range(32))
    return f"/nix/store/{digits}-{name}"


def info(name: str, size: int = 1000, references: Sequence[str] = (), salt: str = "") -> PathInfo:
    """A path info; references are names."""
    digest = hashlib.sha256(f"{name}|{size}|{salt}".encode()).digest()
    return PathInfo(
        store_path(name, salt),
        "sha256-" + base64.b64encode(digest).decode(),
        size,
        tuple(store_path(reference, salt) for reference in references),
    )


def closure(graph: Mapping[str, tuple[int, Sequence[str]]], salt: str = "") -> Closure:
    """The closure of a table: name to size and names of references."""
    return Closure.of(info(n, size, refs, salt) for n, (size, refs) in graph.items())


@st.composite
def graphs(draw: st.DrawFn) -> dict[str, tuple[int, list[str]]]:
    """Tables of up to forty paths without cycles."""
    count = draw(st.integers(1, 40))
    size = st.one_of(st.integers(0, 1000), st.integers(60_000, 70_000), st.integers(0, 10**9))
    # The bits of a number, a quarter of them: lists would take five times as long to draw.
    row = st.tuples(size, st.integers(0, 2 << count).map(lambda bits: bits & bits >> 1))
    rows = draw(st.lists(row, min_size=count, max_size=count))
    return {
        f"p{i}": (size_of, [f"p{j}" for j in range(i) if bits >> j & 1])
        for i, (size_of, bits) in enumerate(rows)
    }
