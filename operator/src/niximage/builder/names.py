"""What lies in the store paths of an image, wherever they come from, without fetching them."""

from collections.abc import Iterable, Sequence

from niximage.bucket.records import find_names
from niximage.bucket.store import ObjectStore
from niximage.builder.layers import WantedLayer
from niximage.builder.sources import ImageSources
from niximage.image.closure import STORE
from niximage.image.listing import Seen, StoreOnDisk
from niximage.image.names import LayerNames, PathNames, path_names

_STORE = STORE.encode()


class ImageNames:
    """A `StoreView` of an image's closure.

    Of what comes from binary caches, names are taken from what was written down beside its
    layer; where that is lost, or its layer is a base's, from its NAR.
    """

    def __init__(
        self, sources: ImageSources, layers: Sequence[WantedLayer], bucket: ObjectStore
    ) -> None:
        self._sources = sources
        self._layer_of = {path: layer for layer in layers for path in layer.paths}
        self._bucket = bucket
        self._disk = StoreOnDisk()
        self._layers: dict[str, LayerNames | None] = {}
        self._paths: dict[str, PathNames] = {}
        self._children: dict[bytes, list[bytes]] = {}

    def look(self, path: bytes) -> Seen | None:
        """See `StoreView`."""
        top = _top(path)
        if top not in self._sources.closure:
            return None  # what is not in the image leads nowhere, whatever this machine has
        if top not in self._sources.substitutes:
            return self._disk.look(path)
        return self._names(top).get(path)

    def names(self, path: bytes) -> Iterable[bytes]:
        """See `StoreView`."""
        top = _top(path)
        if top not in self._sources.substitutes:
            return self._disk.names(path)
        self._names(top)
        return self._children.get(path, [])

    def _names(self, top: str) -> PathNames:
        found = self._paths.get(top)
        if found is None:
            found = self._paths[top] = self._written_down(top) or self._fetched(top)
            for path in found:
                parent, _, name = path.rpartition(b"/")
                self._children.setdefault(parent, []).append(name)
        return found

    def _written_down(self, top: str) -> PathNames | None:
        layer = self._layer_of.get(top)
        if layer is None or not layer.is_verified:
            return None
        if layer.key not in self._layers:
            self._layers[layer.key] = find_names(self._bucket, layer.key)
        names = self._layers[layer.key]
        return None if names is None else names.of(top.encode())

    def _fetched(self, top: str) -> PathNames:
        return path_names(self._sources.contents.entries([self._sources.closure[top]]))


def _top(path: bytes) -> str:
    """The store path that a path is in."""
    name = path[len(_STORE) :].partition(b"/")[0]
    return STORE + name.decode("utf-8", "replace")
