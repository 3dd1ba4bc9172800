"""The documents of a binary cache: what it is, and what it has of a store path.

Both come over a network from a machine that may be anyone's, so nothing is taken from them
that was not looked at. Of a narinfo, signatures cover path, hash, size and references; URL,
compression, and hash and size of the compressed file are the cache's word alone, so they are
only ever used to find and to bound, and the NAR's own hash decides.
"""

import contextlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal, get_args

from niximage.image.closure import HASH_LENGTH, STORE, PathInfo, is_store_path
from niximage.nix.hashes import content_addressed_path, sri
from niximage.nix.signature import Signature, TrustedKeys

NARINFO_LIMIT: Final = 1 << 20  # bytes: ten thousand references
CACHE_INFO_LIMIT: Final = 16 << 10  # bytes
NAR_LIMIT: Final = 1 << 40  # bytes of one NAR
REFERENCES_LIMIT: Final = 10_000
SIGNATURES_LIMIT: Final = 32
DEFAULT_PRIORITY: Final = 50  # of a cache that names none, as Nix has it
PRIORITY_LIMIT: Final = 1_000_000

Compression = Literal["none", "xz", "zstd", "bzip2", "gzip", "br"]
"""How a NAR is compressed, in a narinfo's words."""

_FIELD = re.compile(r"([A-Za-z]{1,64}): ?([\x20-\x7e]*)")
_URL = re.compile(
    r"[A-Za-z0-9_][A-Za-z0-9._+=~-]*(?:/[A-Za-z0-9_][A-Za-z0-9._+=~-]*)*"
    r"(?:\?[A-Za-z0-9._~=&%+-]{0,512})?"
)
_URL_LIMIT: Final = 1024
_NUMBER = re.compile(r"[0-9]{1,15}")
# What may come more than once; of everything else a second one is a trick.
_REPEATED: Final = frozenset({"Sig"})


@dataclass(frozen=True, slots=True)
class NarInfo:
    """What a binary cache says of a store path.

    Attributes:
        info: the path, with the hash and the size of its NAR and its references, which
            include the path itself where its files have it.
        url: where the NAR is, relative to the cache.
        compression: how it is compressed there.
        file_hash: the SHA-256 of the compressed file in SRI form, or "".
        file_size: its bytes; 0 where the cache does not say.
        signatures: of `info`; not verified.
        content_address: as Nix writes it, or "".
    """

    info: PathInfo
    url: str
    compression: Compression
    file_hash: str = ""
    file_size: int = 0
    signatures: tuple[Signature, ...] = ()
    content_address: str = ""

    def trusted_by(self, keys: TrustedKeys) -> str | None:
        """Why this can be believed: a key's name, or the content's address; None if it cannot."""
        if self._is_its_own_address():
            return self.content_address
        return keys.signer(self.info, self.signatures)

    def _is_its_own_address(self) -> bool:
        """Whether the path follows from the NAR's hash: then a right hash proves all."""
        info = self.info
        if not self.content_address.startswith("fixed:r:sha256:"):
            return False
        try:
            addressed = sri(self.content_address.removeprefix("fixed:r:"))
        except ValueError:
            return False
        path = content_addressed_path(info.nar_hash, info.references, info.name)
        return addressed == info.nar_hash and path == info.path


@dataclass(frozen=True, slots=True)
class CacheInfo:
    """What a binary cache says of itself.

    Attributes:
        priority: the lower, the earlier it is asked.
    """

    priority: int


def parse_narinfo(data: bytes, hash_part: str) -> NarInfo:
    """Read a narinfo.

    Args:
        data: its bytes.
        hash_part: the 32 characters that it was asked for by.

    Raises:
        ValueError: it is malformed, or about another path; the text says how.
    """
    if len(data) > NARINFO_LIMIT:
        raise ValueError(f"it has more than {NARINFO_LIMIT} bytes")
    fields: dict[str, str] = {}
    signatures: list[Signature] = []
    count = 0
    for name, value in _fields(data):
        if name == "Sig":
            count += 1
            if count > SIGNATURES_LIMIT:
                raise ValueError(f"it has more than {SIGNATURES_LIMIT} signatures")
            with contextlib.suppress(ValueError):  # of a kind that we do not know: it counts not
                signatures.append(Signature.parse(value))
        fields[name] = value
    path = _needed(fields, "StorePath")
    if not is_store_path(path):
        raise ValueError(f"StorePath {path[:300]!r} is no store path")
    if path[len(STORE) :][:HASH_LENGTH] != hash_part:
        raise ValueError(f"it is about {path}, not about {hash_part}")
    info = PathInfo(
        path,
        _hash(fields, "NarHash"),
        _size(_needed(fields, "NarSize"), "NarSize"),
        _references(fields.get("References", "")),
    )
    if not info.nar_size:
        raise ValueError("NarSize is 0")
    url = _needed(fields, "URL")
    if len(url) > _URL_LIMIT or _URL.fullmatch(url) is None or ".." in url:
        raise ValueError(f"URL {url[:200]!r} does not stay within the cache")
    return NarInfo(
        info,
        url,
        _compression(fields.get("Compression", "") or "bzip2"),
        _hash(fields, "FileHash") if fields.get("FileHash") else "",
        _size(fields.get("FileSize") or "0", "FileSize"),
        tuple(signatures),
        fields.get("CA", ""),
    )


def parse_cache_info(data: bytes) -> CacheInfo:
    """Read a nix-cache-info.

    Raises:
        ValueError: it is malformed, or the cache is of another store; the text says how.
    """
    if len(data) > CACHE_INFO_LIMIT:
        raise ValueError(f"it has more than {CACHE_INFO_LIMIT} bytes")
    fields = dict(_fields(data))
    store = fields.get("StoreDir") or STORE.rstrip("/")
    if store.rstrip("/") != STORE.rstrip("/"):
        raise ValueError(f"its store is {store[:200]!r}, not {STORE.rstrip('/')}")
    return CacheInfo(parse_priority(fields.get("Priority") or str(DEFAULT_PRIORITY)))


def parse_priority(text: str) -> int:
    """Read a priority.

    Raises:
        ValueError: it is no number of reasonable size.
    """
    if _NUMBER.fullmatch(text) is None or int(text) > PRIORITY_LIMIT:
        raise ValueError(f"the priority {text[:40]!r} is no number up to {PRIORITY_LIMIT}")
    return int(text)


def _fields(data: bytes) -> Iterator[tuple[str, str]]:
    """The lines `Name: value`; unknown names are passed on, for later versions have more."""
    seen: set[str] = set()
    try:
        lines = data.decode("ascii").split("\n")
    except UnicodeDecodeError:
        raise ValueError("it is not ASCII") from None
    for number, line in enumerate(lines, start=1):
        if not line and number == len(lines):
            return
        found = _FIELD.fullmatch(line)
        if found is None:
            raise ValueError(f"line {number} is not NAME: VALUE: {line[:80]!r}")
        name, value = found[1], found[2].strip()
        if name in seen and name not in _REPEATED:
            raise ValueError(f"it has {name} twice")
        seen.add(name)
        yield name, value


def _needed(fields: Mapping[str, str], name: str) -> str:
    value = fields.get(name)
    if not value:
        raise ValueError(f"it has no {name}")
    return value


def _hash(fields: Mapping[str, str], name: str) -> str:
    try:
        return sri(_needed(fields, name))
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def _size(text: str, name: str) -> int:
    if _NUMBER.fullmatch(text) is None or int(text) > NAR_LIMIT:
        raise ValueError(f"{name} {text[:40]!r} is no number of bytes up to {NAR_LIMIT}")
    return int(text)


def _references(text: str) -> tuple[str, ...]:
    names = text.split()
    if len(names) > REFERENCES_LIMIT:
        raise ValueError(f"it has more than {REFERENCES_LIMIT} references")
    paths = tuple(STORE + name for name in names)
    for path in paths:
        if not is_store_path(path):
            raise ValueError(f"the reference {path[len(STORE) :][:300]!r} is no store path")
    return paths


def _compression(text: str) -> Compression:
    for known in get_args(Compression):
        if text == known:
            found: Compression = known
            return found
    raise ValueError(f"the compression {text[:40]!r} is not known")
