"""Where the files of store paths come from: one question, whoever answers it.

A local store answers with a walk of a directory, a binary cache with a NAR that is read as it
arrives. Both give the same entries, so that a layer has the same bytes whatever it is packed
from; only how a file's content is read differs, and the tar hides that.
"""

from collections.abc import Iterable, Iterator
from typing import Protocol

from niximage.image.closure import PathInfo
from niximage.image.entries import FileEntry, directory, walk


class StoreContents(Protocol):
    """The files of store paths. Safe to use from several threads."""

    def entries(self, info: PathInfo) -> Iterator[FileEntry]:
        """The entries of a store path, itself first, parents first, names by their bytes.

        Names begin with `nix/store/`. An entry with a `reader` is read, or left unread, before
        the next one is asked for. Whoever takes all entries may rely on their hash: where it
        is wrong, the last step raises instead of ending.

        Raises:
            Terminal: files that no layer can hold, or not those that the path info promises.
            Retryable: the path cannot be read now.
        """
        ...


class StoreDirectory:
    """The files of store paths in a local store."""

    def entries(self, info: PathInfo) -> Iterator[FileEntry]:
        """See `StoreContents`; content is believed, as the store's database is."""
        return walk(info.path)


def layer_entries(paths: Iterable[PathInfo], contents: StoreContents) -> Iterator[FileEntry]:
    """The entries of a layer of store paths, their parents first."""
    yield directory(b"nix")
    yield directory(b"nix/store")
    for info in sorted(paths, key=lambda info: info.path):
        yield from contents.entries(info)
