"""The image of one platform: its layers in the bucket, and its documents, which name them.

Nothing of it can be seen until its manifest is published.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from niximage.api.build import BuildOutputs, BuildRequest
from niximage.api.platforms import Platform
from niximage.bucket.contents import ContentsRecord, LayerContents
from niximage.bucket.store import ObjectStore
from niximage.builder.layers import LayerInBucket, bring_layers, root_layer
from niximage.builder.prepare import PreparedImage, prepare_root
from niximage.builder.progress import Say, timed
from niximage.image.base import merge_config
from niximage.image.closure import STORE
from niximage.image.closure_document import ClosureDocument
from niximage.image.compress import CODECS
from niximage.image.descriptor import MANIFEST, Descriptor
from niximage.image.documents import config_descriptor, config_document, manifest_document


@dataclass(frozen=True, slots=True)
class AssembledImage:
    """An image for one platform whose layers are in the bucket.

    Attributes:
        platform: which.
        system: the platform, as Nix says it.
        config: its config.
        manifest: its manifest.
        contents: its layers, those of its base first, and what is in them.
        reused: for each layer, whether the bucket had it before.
        closure: what is in it, for whoever asks why.
    """

    platform: Platform
    system: str
    config: bytes
    manifest: bytes
    contents: ContentsRecord
    reused: tuple[bool, ...]
    closure: ClosureDocument

    @property
    def layers(self) -> list[Descriptor]:
        """The layers, bottom first."""
        return [layer.descriptor for layer in self.contents.layers]

    @property
    def documents(self) -> tuple[Descriptor, Descriptor]:
        """The config and the manifest."""
        return self.contents.config_descriptor, Descriptor.of(MANIFEST, self.manifest)


def assemble_image(
    request: BuildRequest,
    image: PreparedImage,
    *,
    outputs: BuildOutputs,
    bucket: ObjectStore,
    scratch: Path,
    threads: int | None,
    say: Say,
) -> AssembledImage:
    """Bring an image's layers into the bucket and make its documents; see `run_publish`.

    Raises:
        Terminal: packages provide different files of one name, or files no layer can hold.
        Retryable: binary caches, store or bucket fail.
    """
    bring = partial(
        bring_layers,
        contents=image.sources.contents,
        bucket=bucket,
        namespace=request.namespace,
        scratch=scratch,
        threads=threads,
        say=say,
    )
    with timed(say, "brought the layers", stage="pack"):
        layers = bring(image.layers)
        root = prepare_root(request, image, bucket=bucket)
        layers += bring([root_layer(root, codec=CODECS[request.compression])])
    config = config_document(
        request.config,
        system=image.system,
        layers=[each.layer for each in layers],
        ca_bundle=root.ca_bundle,
        source_time=outputs.source_time,
    )
    base = image.base
    if base is not None:
        config = merge_config(config, base.config, request.config)
    contents = _contents(config, image, layers)
    blobs = [layer.descriptor for layer in contents.layers]
    return AssembledImage(
        platform=image.platform,
        system=image.system,
        config=config,
        manifest=manifest_document(contents.config_descriptor, blobs),
        contents=contents,
        reused=(*(base.reused if base is not None else ()), *(each.reused for each in layers)),
        closure=ClosureDocument.of(
            image.closure,
            outputs.packages[image.platform],
            system=image.system,
            layers=_places(contents),
            base=None if request.base is None else str(request.base),
        ),
    )


def _places(contents: ContentsRecord) -> dict[str, int]:
    """Which layer has each store path, as far as that is known."""
    return {
        f"{STORE}{name}": number
        for number, layer in enumerate(contents.layers)
        for name in layer.paths or ()
    }


def _contents(
    config: bytes, image: PreparedImage, layers: Sequence[LayerInBucket]
) -> ContentsRecord:
    """The image's layers, the base's below its own, and what images based on it must know."""
    descriptor = config_descriptor(config)
    own = [
        LayerContents(
            digest=each.layer.descriptor.digest,
            size=each.layer.descriptor.size,
            media_type=each.layer.descriptor.media_type,
            diff_id=each.layer.diff_id,
            paths=[path.removeprefix(STORE) for path in paths] or None,
        )
        for paths, each in zip((*(w.paths for w in image.layers), ()), layers, strict=True)
    ]
    below = image.base.contents.layers if image.base is not None else []
    return ContentsRecord(
        config=descriptor.digest, config_size=descriptor.size, layers=[*below, *own]
    )
