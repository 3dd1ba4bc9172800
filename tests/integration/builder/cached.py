"""A package set whose outputs are in a binary cache, and no longer in this machine's store."""

import contextlib
import secrets
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from integration.builder.images import Folder, nix_image
from integration.nix.caches import (
    CacheServer,
    SigningKey,
    copy_to_cache,
    file_size,
    narinfo_file,
    serving,
)
from integration.nix.demo import SYSTEM
from niximage.api.build import PublishResult
from niximage.builder.local import build_image
from niximage.builder.local_build import LocalBuild
from niximage.builder.progress import Say, silent
from niximage.nix.evaluate import evaluate
from niximage.nix.programs import NixStore
from niximage.nix.realise import realise
from niximage.source.folder import pin_folder

# Two programs share a library; `part` and `own` are what the cache may lack.
_SET = """
{{ system ? builtins.currentSystem, ... }}:
let
  bootstrap = {bootstrap};
  build = name: script: derivation {{
    inherit name system;
    salt = "{salt}";
    builder = "${{bootstrap}}/bin/sh";
    args = [ "-euc" "${{script}}\\nexit 0" ];
    PATH = "${{bootstrap}}/bin";
  }};
  data = seed: size: "yes ${{seed}}-$salt | head -c ${{toString size}}";
in rec {{
  library = build "library-1.0" ''
    mkdir -p $out/lib/empty
    ${{data "library" 6000000}} > $out/lib/data
    ln -s data $out/lib/link
  '';
  program = build "program-1.0" ''
    mkdir -p $out/bin
    echo ${{library}}/lib/data $out > $out/bin/program
    chmod +x $out/bin/program
    ln -s ${{library}}/lib $out/lib
    ${{data "program" 2000000}} > $out/data
  '';
  other = build "other-1.0" ''
    mkdir -p $out/bin
    echo ${{library}}/lib/data > $out/bin/other
    ${{data "other" 300000}} > $out/other-data
  '';
  part = build "part-1.0" "mkdir -p $out; ${{data "part" 9000}} > $out/part";
  own = build "own-1.0" ''
    mkdir -p $out/bin
    echo ${{library}} ${{part}} > $out/bin/own
    ${{data "own" 5000}} > $out/own-data
  '';
}}
"""


@dataclass
class Cached:
    """The package set, and its binary cache.

    Attributes:
        source: the folder with the set.
        paths: the outputs, by attribute.
        key: what signed them.
        cache: the cache's folder, for tests to copy.
    """

    source: Path
    paths: dict[str, str]
    key: SigningKey
    cache: Path
    digests: dict[tuple[str, ...], str]

    @classmethod
    def make(cls, folder: Path, bootstrap: Path, bucket: Folder) -> "Cached":
        """Build the set, publish images of it from the store, fill the cache, empty the store."""
        source = folder / "set"
        source.mkdir()
        text = _SET.format(bootstrap=bootstrap / "bootstrap", salt=secrets.token_hex(8))
        (source / "default.nix").write_text(text)
        names = ["library", "program", "other", "part", "own"]
        nix = NixStore()
        found = evaluate(source, names, attribute=None, system=SYSTEM, store=nix, timeout=60)
        realise(found, store=nix, timeout=120, roots=folder)
        paths = {package.attribute: package.outputs["out"] for package in found}
        key = SigningKey.make(folder)
        cache = copy_to_cache(folder / "cache", list(paths.values()), key=key)
        made = cls(source, paths, key, cache, {})
        for packages in (("program",), ("library",), ("own", "program")):
            made.digests[packages] = made.build(bucket, *packages, nix=nix).digest
        for root in folder.glob("output*"):
            root.unlink()
        made.forget()
        return made

    def build(
        self,
        bucket: Folder,
        *packages: str,
        nix: NixStore,
        namespace: str = "team",
        say: Say = silent,
        **spec: Any,
    ) -> PublishResult:
        """Build an image of the set."""
        image = nix_image("image", *packages, **spec)
        image = image.model_copy(
            update={"metadata": image.metadata.model_copy(update={"namespace": namespace})}
        )
        source = pin_folder(self.source, path=".", attr=None)
        build = LocalBuild(image=image, source=source, nix=nix, allow_file=True)
        return build_image(build, bucket.store, say=say)

    def nix(self, *urls: str) -> NixStore:
        """Settings that take outputs from caches."""
        return NixStore(substituters=urls, trusted_public_keys=(self.key.public,))

    def forget(self) -> None:
        """Delete the outputs from the store."""
        there = [path for path in self.paths.values() if Path(path).exists()]
        if there:
            command = ["nix-store", "--delete", *there]
            subprocess.run(command, check=True, capture_output=True, timeout=60)

    def here(self) -> set[str]:
        """Which of the outputs are in the store."""
        return {name for name, path in self.paths.items() if Path(path).exists()}

    @contextlib.contextmanager
    def serving(self, folder: Path, *, without: tuple[str, ...] = ()) -> Iterator[CacheServer]:
        """Serve a copy of the cache that lacks some outputs."""
        subprocess.run(["cp", "-a", self.cache, folder], check=True, timeout=60)
        for name in without:
            narinfo_file(folder, self.paths[name]).unlink()
        with serving(folder) as server:
            yield server

    def nar_size(self, server: CacheServer, *names: str) -> int:
        """Bytes of outputs' NARs as the cache has them."""
        return sum(file_size(server.folder, self.paths[name]) for name in names)
