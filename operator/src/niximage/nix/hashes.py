"""SHA-256 hashes in the ways Nix spells them, and the store path that a hash gives.

Inside the project a hash is in SRI form, `sha256-<base64>`; Nix's own base32 is what
signatures are made over and what store paths begin with.
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Sequence
from typing import Final

from niximage.image.closure import HASH_LENGTH, STORE

_BASE32: Final = "0123456789abcdfghijklmnpqrsvwxyz"  # Nix's own: no e, o, u, t
_SHA256_BYTES: Final = 32
_BASE32_LENGTH: Final = 52
_PATH_BYTES: Final = 20
_HASH = re.compile(r"sha256[:-]([0-9A-Za-z+/=]+)")


def sri(text: str) -> str:
    """A SHA-256 in SRI form, from that, or from Nix's base32, hexadecimal or base64.

    Raises:
        ValueError: it is none of these.
    """
    found = _HASH.fullmatch(text)
    if found is None:
        raise ValueError(f"no SHA-256: {text[:80]!r}")
    digits = found[1]
    if len(digits) == 2 * _SHA256_BYTES:
        digest = bytes.fromhex(digits)
    elif len(digits) == _BASE32_LENGTH:
        digest = _from_base32(digits)
    else:
        try:
            digest = base64.b64decode(digits, validate=True)
        except binascii.Error:
            digest = b""
    if len(digest) != _SHA256_BYTES:
        raise ValueError(f"no SHA-256: {text[:80]!r}")
    return "sha256-" + base64.b64encode(digest).decode()


def digest_of(hash_: str) -> bytes:
    """The 32 bytes of a hash in SRI form."""
    return base64.b64decode(hash_.removeprefix("sha256-"), validate=True)


def nix32(hash_: str) -> str:
    """A hash in SRI form as Nix writes it: `sha256:<base32>`."""
    return "sha256:" + _to_base32(digest_of(hash_))


def content_addressed_path(nar_hash: str, references: Sequence[str], name: str) -> str:
    """The store path of a NAR that is addressed by its content and does not name itself.

    Args:
        nar_hash: its hash in SRI form.
        references: the store paths it refers to.
        name: the path's name.
    """
    kind = ":".join(["source", *sorted(references)])
    inner = digest_of(nar_hash).hex()
    outer = hashlib.sha256(f"{kind}:sha256:{inner}:{STORE.rstrip('/')}:{name}".encode()).digest()
    folded = bytearray(_PATH_BYTES)
    for index, byte in enumerate(outer):
        folded[index % _PATH_BYTES] ^= byte
    digits = _to_base32(bytes(folded))
    assert len(digits) == HASH_LENGTH
    return f"{STORE}{digits}-{name}"


def _from_base32(digits: str) -> bytes:
    """Nix's base32: the last digit holds the lowest five bits of the first byte."""
    number = 0
    for digit in digits:
        value = _BASE32.find(digit)
        if value < 0:
            raise ValueError(f"no SHA-256: {digit!r} is no digit of Nix's")
        number = number << 5 | value
    if number >> 8 * _SHA256_BYTES:
        raise ValueError("no SHA-256: too large")
    return number.to_bytes(_SHA256_BYTES, "little")


def _to_base32(data: bytes) -> str:
    number = int.from_bytes(data, "little")
    length = -(-len(data) * 8 // 5)
    return "".join(_BASE32[number >> 5 * place & 31] for place in reversed(range(length)))
