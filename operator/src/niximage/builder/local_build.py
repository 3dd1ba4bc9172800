"""What a build on this machine is told; apart from the build, for those who only want its name."""

from dataclasses import dataclass

from niximage.api.build import PinnedBase, PinnedSource
from niximage.api.image import NixImage
from niximage.nix.programs import NixStore
from niximage.source.credentials import Credentials


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalBuild:
    """An image to build, with all that it is made from pinned.

    Attributes:
        image: what to build.
        source: its source.
        nix: how the Nix programs are set up.
        base: its base; None exactly where the image has none.
        allow_file: whether the source may be a `file://` URL, or a folder of this machine.
        credentials: what opens the source, if it is private.
        threads: how many blocks are compressed at once; the digest does not depend on it.
        popularity_url: where the data is that the layering strategy Popularity wants.
    """

    image: NixImage
    source: PinnedSource
    nix: NixStore
    base: PinnedBase | None = None
    allow_file: bool = False
    credentials: Credentials | None = None
    threads: int | None = None
    popularity_url: str = ""
