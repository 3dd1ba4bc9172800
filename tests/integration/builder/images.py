"""Images made by the builder, in a folder that tests look into."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from niximage.api.base_image import Base, NixImageReference
from niximage.api.build import PinnedBase, PinnedSource, PublishResult
from niximage.api.image import Metadata, NixImage
from niximage.api.source import GitRef, GitSource, Source
from niximage.api.spec import Config, NixImageSpec
from niximage.bucket import ObjectStore, keys, open_store
from niximage.builder.local import build_image
from niximage.builder.local_build import LocalBuild
from niximage.nix.programs import NixStore


def nix_image(
    name: str, *packages: str, config: Config | None = None, **spec_fields: Any
) -> NixImage:
    """A NixImage of the namespace `team`."""
    source = Source(git=GitSource(url="https://example.org/set", ref=GitRef(branch="nixos-26.05")))
    spec = NixImageSpec(
        packages=list(packages), source=source, config=config or Config(), **spec_fields
    )
    return NixImage(metadata=Metadata(name=name, namespace="team"), spec=spec)


class PackageSet(Protocol):
    """Where packages come from: the demo's set, or another."""

    @property
    def source(self) -> PinnedSource:
        """The set at one revision."""
        ...


@dataclass(frozen=True)
class Folder:
    """A file:// bucket."""

    path: Path
    store: ObjectStore

    @classmethod
    def open(cls, path: Path) -> "Folder":
        """The bucket of a folder, made if absent."""
        path.mkdir(exist_ok=True)
        return cls(path, open_store(path.as_uri()))

    def build(
        self,
        package_set: PackageSet,
        *packages: str,
        name: str = "image",
        config: Config | None = None,
        threads: int | None = None,
        said: list[str] | None = None,
        base: PinnedBase | None = None,
        **spec_fields: Any,
    ) -> PublishResult:
        """Build an image of a package set into this bucket."""
        if base is not None and base.image:
            spec_fields["base"] = Base(image=str(base))
        elif base is not None:
            spec_fields["base"] = Base(niximage=NixImageReference(name="base"))
        build = LocalBuild(
            image=nix_image(name, *packages, config=config, **spec_fields),
            source=package_set.source,
            nix=NixStore(),
            base=base,
            allow_file=True,
            threads=threads,
        )
        return build_image(
            build,
            self.store,
            say=(said if said is not None else []).append,
        )

    def blob(self, digest: str) -> Path:
        """The file of a blob."""
        return self.path / keys.blob(digest)

    def read(self, digest: str) -> dict[str, Any]:
        """A JSON blob."""
        found: dict[str, Any] = json.loads(self.blob(digest).read_bytes())
        return found

    def layers(self, digest: str) -> list[str]:
        """The digests of an image's layers, bottom first."""
        return [layer["digest"] for layer in self.read(digest)["layers"]]

    def config(self, digest: str) -> dict[str, Any]:
        """An image's config."""
        return self.read(self.read(digest)["config"]["digest"])

    def layout(self, digest: str, folder: Path) -> Path:
        """An OCI image layout with the image, tagged `latest`."""
        blobs = folder / "blobs" / "sha256"
        blobs.mkdir(parents=True)
        manifest = self.read(digest)
        for each in [digest, manifest["config"]["digest"], *self.layers(digest)]:
            (blobs / each.removeprefix("sha256:")).hardlink_to(self.blob(each))
        (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
        descriptor = {
            "mediaType": manifest["mediaType"],
            "digest": digest,
            "size": self.blob(digest).stat().st_size,
            "annotations": {"org.opencontainers.image.ref.name": "latest"},
        }
        (folder / "index.json").write_text(
            json.dumps({"schemaVersion": 2, "manifests": [descriptor]})
        )
        return folder
