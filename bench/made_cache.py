"""A binary cache made by hand: narinfos that a key signed, of whatever a benchmark needs."""

import base64
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from niximage.image.closure import PathInfo
from niximage.nix.hashes import nix32
from niximage.nix.signature import fingerprint

_KEY: Final = "bench-1"


@dataclass(frozen=True)
class MadeCache:
    """A folder that is a binary cache."""

    folder: Path
    key: Ed25519PrivateKey

    @classmethod
    def make(cls, folder: Path) -> Self:
        """An empty one."""
        folder.mkdir(exist_ok=True)
        (folder / "nix-cache-info").write_text("StoreDir: /nix/store\n")
        return cls(folder, Ed25519PrivateKey.generate())

    @property
    def public_key(self) -> str:
        """The key as Nix's `trusted-public-keys` has it."""
        data = self.key.public_key().public_bytes_raw()
        return f"{_KEY}:{base64.b64encode(data).decode()}"

    def add(self, info: PathInfo, *, url: str, compression: str, file_hash: str, size: int) -> None:
        """Write the narinfo of a store path.

        Args:
            info: the path.
            url: where its NAR is.
            compression: how that is compressed.
            file_hash: of the NAR as it lies there, in SRI form.
            size: bytes of that.
        """
        signature = base64.b64encode(self.key.sign(fingerprint(info))).decode()
        fields = {
            "StorePath": info.path,
            "URL": url,
            "Compression": compression,
            "FileHash": nix32(file_hash),
            "FileSize": str(size),
            "NarHash": nix32(info.nar_hash),
            "NarSize": str(info.nar_size),
            "References": " ".join(Path(reference).name for reference in info.references),
            "Sig": f"{_KEY}:{signature}",
        }
        text = "".join(f"{name}: {value}\n" for name, value in fields.items())
        (self.folder / f"{Path(info.path).name[:32]}.narinfo").write_text(text)


def sri(digest: bytes) -> str:
    """A SHA-256 as the project has it."""
    return "sha256-" + base64.b64encode(digest).decode()


def store_path(name: str) -> str:
    """A store path that nobody else has: Nix writes no e in them."""
    return f"/nix/store/{hashlib.sha256(name.encode()).hexdigest()[:32].replace('e', 'z')}-{name}"
