"""buildah, with a storage of its own in the cache: the machine's images are left alone."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from console import ClusterError, run


@dataclass(frozen=True)
class Buildah:
    """Builds images without a daemon, as root, with neither network nor user namespaces."""

    driver: str
    storage: Path

    @classmethod
    def open(cls, cache: Path) -> Buildah:
        """Use the faster storage driver that works here.

        `overlay` mounts layers; `vfs` copies them, and works inside any container, too.
        """
        overlay = cls("overlay", cache / "storage-overlay")
        try:
            container = run([*overlay._command, "from", "--quiet", "scratch"]).strip()
            run([*overlay._command, "mount", container])
            run([*overlay._command, "rm", container])
        except ClusterError:
            return cls("vfs", cache / "storage-vfs")
        return overlay

    @property
    def _command(self) -> list[str | Path]:
        folders: list[str | Path] = ["--root", self.storage, "--runroot", self.storage / "run"]
        return ["buildah", "--storage-driver", self.driver, *folders]

    def has(self, reference: str) -> bool:
        """Whether the storage holds an image."""
        command = [*self._command, "inspect", "--type", "image", reference]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    def build(
        self,
        recipe: Path,
        context: Path,
        reference: str,
        *,
        target: str | None = None,
        arguments: Mapping[str, str] | None = None,
    ) -> None:
        """Build a Containerfile; nothing is pulled."""
        flags: list[str | Path] = ["--isolation", "chroot", "--pull-never", "--network", "host"]
        flags += ["--file", recipe, "--tag", reference]
        for name, value in (arguments or {}).items():
            flags += ["--build-arg", f"{name}={value}"]
        if target:
            flags += ["--target", target]
        run([*self._command, "build", *flags, context])

    def export(self, reference: str, archive: Path) -> None:
        """Write an image into an OCI archive: whole, or not at all."""
        new = archive.with_suffix(".new")
        new.unlink(missing_ok=True)
        # zstd is what takes least time here, to write and to load
        push = ["push", "--quiet", "--compression-format", "zstd"]
        run([*self._command, *push, reference, f"oci-archive:{new}:{reference}"])
        new.replace(archive)

    def remove(self, reference: str) -> None:
        """Forget an image; layers that others use stay."""
        run([*self._command, "rmi", reference])

    def keep_only(self, reference: str) -> None:
        """Forget other tags of the same name."""
        name = reference.rpartition(":")[0]
        query = ["images", "--noheading", "--format", "{{.Name}}:{{.Tag}}"]
        for other in set(run([*self._command, *query]).split()) - {reference}:
            if other.startswith(f"{name}:"):
                self.remove(other)
