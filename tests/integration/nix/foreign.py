"""A binary cache with packages of two platforms, of which this machine can build for one.

What the cache has for arm64 is what was built here, under the names that the same packages have
there, with references of that platform, and with Debian's arm64 busybox in place of ours.
"""

import hashlib
import os
import shutil
import stat
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from integration.nix.caches import SigningKey, copy_to_cache, register
from integration.nix.demo import SYSTEM
from niximage.nix.evaluate import evaluate
from niximage.nix.programs import NixStore
from niximage.nix.realise import realise
from support.debian_arm64 import busybox

FOREIGN = "aarch64-linux"


@dataclass(frozen=True)
class TwoPlatforms:
    """A package set, and a cache with some of its packages for both platforms.

    Attributes:
        source: the folder with the set.
        folder: the cache.
        key: what signed it.
        paths: the outputs in it that are not for this machine, by attribute.
    """

    source: Path
    folder: Path
    key: SigningKey
    paths: Mapping[str, str]

    @classmethod
    def make(cls, source: Path, folder: Path, packages: Sequence[str]) -> "TwoPlatforms":
        """Fill a cache.

        Args:
            source: a package set.
            folder: an empty folder.
            packages: of the set, with all that they refer to.
        """
        nix = NixStore()

        def found(system: str) -> dict[str, str]:
            answer = evaluate(
                source, packages, attribute=None, system=system, store=nix, timeout=60
            )
            if system == SYSTEM:
                realise(answer, store=nix, timeout=120, roots=folder)
            return {each.attribute: each.outputs["out"] for each in answer}

        own, foreign = found(SYSTEM), found(FOREIGN)
        names = {own[attribute]: foreign[attribute] for attribute in packages}
        for path, other in names.items():
            _copy(Path(path), Path(other), names)
        # A path is registered after those that it refers to.
        for path in _output("nix-store", "--query", "--requisites", *names).split():
            if path in names:
                references = _output("nix-store", "--query", "--references", path).split()
                _register(names[path], [names[each] for each in references])
        key = SigningKey.make(folder)
        cache = copy_to_cache(folder / "cache", [*names, *names.values()], key=key)
        _output("nix-store", "--delete", *names.values())
        return cls(source, cache, key, foreign)

    def nix(self, url: str = "") -> NixStore:
        """Settings that take outputs from the cache, or from where it is served."""
        return NixStore(
            substituters=(url or self.folder.as_uri(),), trusted_public_keys=(self.key.public,)
        )

    @property
    def file_size(self) -> int:
        """Bytes of all NARs as the cache has them."""
        texts = (file.read_text() for file in self.folder.glob("*.narinfo"))
        return sum(int(text.partition("FileSize: ")[2].split("\n")[0]) for text in texts)

    def in_store(self) -> list[str]:
        """The outputs for the other platform that came into this machine's store: none should."""
        return [path for path in self.paths.values() if Path(path).exists()]


def _copy(source: Path, target: Path, names: Mapping[str, str]) -> None:
    shutil.copytree(source, target, symlinks=True, copy_function=shutil.copy)
    for folder, _, files in os.walk(target):
        Path(folder).chmod(0o755)
        for name in files:
            file = Path(folder, name)
            if file.is_symlink():
                continue
            content = busybox() if name == "busybox" else file.read_bytes()
            for own, foreign in names.items():
                content = content.replace(own.encode(), foreign.encode())
            mode = 0o555 if file.stat().st_mode & stat.S_IXUSR else 0o444
            file.chmod(0o644)
            file.write_bytes(content)
            file.chmod(mode)


def _register(path: str, references: Sequence[str]) -> None:
    nar = subprocess.run(
        ["nix-store", "--dump", path], check=True, capture_output=True, timeout=60
    ).stdout
    register(path, hashlib.sha256(nar).hexdigest(), len(nar), references)


def _output(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
