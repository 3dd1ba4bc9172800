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

    def entries(self, infos: Iterable[PathInfo]) -> Iterator[FileEntry]:
        """The entries of store paths, one path after the other.

        Of each path itself comes first, then parents before children, names by their bytes;
        all names begin with `nix/store/`. An entry with a `reader` is read, or left unread,
        before the next one is asked for. Whoever takes all entries may rely on the paths'
        hashes: where one is wrong, the last step of its path raises instead of ending.

        Raises:
            Terminal: files that no layer can hold, or not those that the path info promises.
            Retryable: a path cannot be read now, or `stop`.
        """
        ...

    def stop(self) -> None:
        """Let whoever waits for entries fail at once, now and later; from any thread."""
        ...


class StoreDirectory:
    """The files of store paths in a local store."""

    def entries(self, infos: Iterable[PathInfo]) -> Iterator[FileEntry]:
        """See `StoreContents`; content is believed, as the store's database is."""
        for info in infos:
            yield from walk(info.path)

    def stop(self) -> None:
        """See `StoreContents`: a folder makes nobody wait."""


def layer_entries(infos: Iterable[PathInfo], contents: StoreContents) -> Iterator[FileEntry]:
    """The entries of a layer of store paths, their parents first."""
    yield directory(b"nix")
    yield directory(b"nix/store")
    yield from contents.entries(sorted(infos, key=lambda info: info.path))
