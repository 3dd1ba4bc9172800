"""Who signed a store path: Nix's fingerprint and ed25519.

A signature covers the path, its NAR's hash and size, and its references: all that a closure is
made of, and nothing of where the NAR is found.
"""

import base64
import binascii
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from niximage.errors import Reason, Terminal
from niximage.image.closure import PathInfo
from niximage.nix.hashes import nix32

KEYS_LIMIT: Final = 64  # trusted keys
_KEY_BYTES: Final = 32
_SIGNATURE_BYTES: Final = 64
_NAMED = re.compile(r"([^\s:]{1,255}):([0-9A-Za-z+/]+={0,2})")


@dataclass(frozen=True, slots=True)
class Signature:
    """A signature, and the name of the key that is said to have made it.

    Attributes:
        key: the key's name: `cache.nixos.org-1`.
        data: 64 bytes.
    """

    key: str
    data: bytes

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `<key>:<base64>`.

        Raises:
            ValueError: it is not that.
        """
        return cls(*_named(text, _SIGNATURE_BYTES))


@dataclass(frozen=True, slots=True)
class TrustedKeys:
    """The public keys whose signatures count; a name may have several, while one is replaced.

    Attributes:
        keys: the keys of each name.
    """

    keys: Mapping[str, tuple[Ed25519PublicKey, ...]]

    @classmethod
    def parse(cls, texts: Iterable[str]) -> Self:
        """Read keys as Nix's `trusted-public-keys` has them: `<name>:<base64>`.

        Raises:
            Terminal: one is malformed, or there are too many.
        """
        keys: dict[str, tuple[Ed25519PublicKey, ...]] = {}
        for count, text in enumerate(texts, start=1):
            if count > KEYS_LIMIT:
                raise Terminal(Reason.INVALID_SPEC, f"more than {KEYS_LIMIT} trusted public keys")
            try:
                name, data = _named(text, _KEY_BYTES)
            except ValueError as error:
                raise Terminal(
                    Reason.INVALID_SPEC,
                    f"the trusted public key {text[:100]!r} is malformed: {error}",
                    hint="Write NAME:BASE64, as nix-store --generate-binary-cache-key does",
                ) from None
            keys[name] = (*keys.get(name, ()), Ed25519PublicKey.from_public_bytes(data))
        return cls(keys)

    def signer(self, info: PathInfo, signatures: Iterable[Signature]) -> str | None:
        """The name of a trusted key that signed a path info, or None if none did.

        Args:
            info: what is signed; its references include the path itself where it has that.
            signatures: those that came with it.
        """
        signed = fingerprint(info)
        for signature in signatures:
            for key in self.keys.get(signature.key, ()):
                try:
                    key.verify(signature.data, signed)
                except InvalidSignature:
                    continue
                return signature.key
        return None


def fingerprint(info: PathInfo) -> bytes:
    """What is signed of a path info."""
    references = ",".join(sorted(info.references))
    return f"1;{info.path};{nix32(info.nar_hash)};{info.nar_size};{references}".encode()


def _named(text: str, length: int) -> tuple[str, bytes]:
    found = _NAMED.fullmatch(text)
    if found is None:
        raise ValueError("it is not NAME:BASE64")
    try:
        data = base64.b64decode(found[2], validate=True)
    except binascii.Error:
        data = b""
    if len(data) != length:
        raise ValueError(f"what follows the name is not {length} bytes in base64")
    return found[1], data
