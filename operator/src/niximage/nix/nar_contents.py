"""The files of store paths straight from the NARs of binary caches; nothing is unpacked.

While one NAR is packed the next ones begin to arrive: small NARs take longer to ask for than to
send. How much of them waits in memory is bounded.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

from niximage.image.closure import PathInfo
from niximage.image.entries import FileEntry
from niximage.nix.binary_cache import Substitute
from niximage.nix.download import BUFFER, Download
from niximage.nix.nar_file import nar_file_entries
from niximage.nix.substituters import Substituters

AHEAD: Final = 16 << 20  # bytes that may wait of NARs to come
DOWNLOADS: Final = 16  # at once, for one layer


class NarContents:
    """The files of store paths that binary caches have; see `StoreContents`.

    Args:
        caches: where NARs are fetched from.
        substitutes: which, by store path.
        on_fetched: told, from the packing threads, how many bytes were fetched.
    """

    def __init__(
        self,
        caches: Substituters,
        substitutes: Mapping[str, Substitute],
        on_fetched: Callable[[int], None],
    ) -> None:
        self._caches = caches
        self._substitutes = substitutes
        self._on_fetched = on_fetched
        self._lock = threading.Lock()
        self._downloads: set[Download] = set()
        self._is_stopped = False

    def stop(self) -> None:
        """See `StoreContents`."""
        with self._lock:
            self._is_stopped = True
            for download in self._downloads:
                download.close()

    def entries(self, infos: Iterable[PathInfo]) -> Iterator[FileEntry]:
        """See `StoreContents`; content is believed once all of a path's hashes were right."""
        waiting = deque(self._substitutes[info.path] for info in infos)
        coming: deque[tuple[Substitute, Download]] = deque()
        held = 0
        try:
            while waiting or coming:
                while waiting and (
                    not coming or (len(coming) < DOWNLOADS and held + _held(waiting[0]) <= AHEAD)
                ):
                    held += _held(waiting[0])
                    coming.append((waiting[0], self._open(waiting[0])))
                    waiting.popleft()
                substitute, download = coming[0]
                yield from self._read(substitute, download)
                held -= _held(substitute)
                coming.popleft()
        finally:
            for _, download in coming:
                self._close(download)

    def _read(self, substitute: Substitute, download: Download) -> Iterator[FileEntry]:
        try:
            for entry in nar_file_entries(download, substitute.nar):  # noqa: UP028 (closed after the download, which wakes whoever waits for it in there)
                yield entry
        finally:
            self._close(download)
            self._on_fetched(download.size)

    def _open(self, substitute: Substitute) -> Download:
        with self._lock:
            download = self._caches.open(substitute)
            if self._is_stopped:
                download.close()
            self._downloads.add(download)
        return download

    def _close(self, download: Download) -> None:
        with self._lock:
            self._downloads.discard(download)
        download.close()


def _held(substitute: Substitute) -> int:
    """The most bytes of a NAR that wait in memory."""
    nar = substitute.nar
    return min(nar.file_size or nar.info.nar_size, BUFFER)
