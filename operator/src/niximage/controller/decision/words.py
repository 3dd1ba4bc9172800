"""The sentences that conditions and events share."""

from niximage.api.image import NixImage
from niximage.api.platforms import named
from niximage.api.status import Artifact, SourceStatus


def pinned_words(source: SourceStatus) -> str:
    """What the source is at."""
    name = source.ref.removeprefix("refs/heads/").removeprefix("refs/tags/")
    return f"{name or source.url} is at {source.short_revision}"


def building_words(image: NixImage, source: SourceStatus, attempt: int) -> str:
    """What is being built."""
    count = len(image.spec.packages)
    words = f"building {count} package{'' if count == 1 else 's'}"
    if len(image.spec.platforms) > 1:
        words += f" for {named(image.spec.platforms)}"
    words += f" at {source.short_revision}"
    return f"{words}, attempt {attempt}" if attempt > 1 else words


def artifact_words(artifact: Artifact) -> str:
    """What an image is made of, and what of it was there before."""
    words = f"{_layers(artifact.layers)}, {_bytes(artifact.size)}"
    if artifact.reused_layers:
        reused = f"{_layers(artifact.reused_layers)}, {_bytes(artifact.reused_size)}"
        words += f"; {reused} reused"
    several = len(artifact.platforms) > 1
    return f"{named(artifact.platforms)}: {words}" if several else words


def _layers(count: int) -> str:
    return f"{count} layer{'' if count == 1 else 's'}"


def _bytes(count: int) -> str:
    """A count of bytes for people."""
    size = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:  # noqa: PLR2004 (the step between decimal units)
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
