"""A file of a binary cache to the entries of a store path, believed only once all was seen.

    chunks ── FileHash ── decompress ── NarHash ──▶ pieces ──▶ NAR ──▶ entries
              a thread of its own, some MiB ahead              the caller's thread

Both hashes are taken on the way, and nothing is kept but the few pieces between the threads.
Entries come before the hashes are known: what was made of them counts only if the last step
ended instead of raising, as `niximage.image.contents.StoreContents` promises.
"""

import base64
import hashlib
import threading
from collections.abc import Iterable, Iterator
from queue import SimpleQueue
from typing import Final

from niximage.errors import Reason, Retryable, Terminal
from niximage.image.entries import FileEntry
from niximage.nix.decompress import PIECE, decompress
from niximage.nix.nar import read_nar
from niximage.nix.narinfo import NarInfo

AHEAD: Final = 8 << 20  # bytes of a NAR that wait to be read

# What a compressor may add to what it cannot compress; each takes less.
_SLACK_SHARE: Final = 16
_SLACK: Final = 64 << 10


def nar_file_entries(chunks: Iterable[bytes], nar: NarInfo) -> Iterator[FileEntry]:
    """The entries of a store path from the file of a binary cache.

    Args:
        chunks: the file as it comes, each chunk some 256 KiB or less. It is read in a thread of
            its own, to its end, or to the next chunk after the entries failed or were closed.
        nar: what it should be.

    Raises:
        Terminal: it is something else, or has what no layer can hold.
        Retryable: it ends early, or `chunks` raises that.
    """
    info = nar.info
    pieces = verified_nar(chunks, nar)
    # A thread takes longer to start than a small NAR to read.
    ahead = _read_ahead(pieces) if info.nar_size > PIECE else pieces
    return read_nar(ahead, info.path, info.nar_size)


def verified_nar(chunks: Iterable[bytes], nar: NarInfo) -> Iterator[bytes]:
    """The NAR in the file of a binary cache, in pieces; the last step raises if it is wrong.

    See `nar_file_entries`.
    """
    info = nar.info
    most = info.nar_size + info.nar_size // _SLACK_SHARE + _SLACK
    if nar.file_size > most:
        raise _wrong(f"the file of {info.path} has {nar.file_size} bytes, its NAR {info.nar_size}")
    compressed = _checked(
        chunks,
        f"the file of {info.path}",
        size=nar.file_size or most,
        is_exact=nar.file_size > 0,
        expected=nar.file_hash,
    )
    return _checked(
        decompress(compressed, nar.compression, f"the file of {info.path}"),
        f"the NAR of {info.path}",
        size=info.nar_size,
        is_exact=True,
        expected=info.nar_hash,
    )


def _checked(
    pieces: Iterable[bytes], what: str, *, size: int, is_exact: bool, expected: str
) -> Iterator[bytes]:
    """Pass pieces on; no more of them than announced, and an error at the end if they are wrong."""
    digest = hashlib.sha256()
    count = 0
    for piece in pieces:
        count += len(piece)
        if count > size:
            raise _wrong(f"{what} has more than {size} bytes")
        digest.update(piece)
        yield piece
    if is_exact and count < size:
        raise Retryable(
            Reason.SUBSTITUTER_UNAVAILABLE,
            f"{what} ends after {count} of {size} bytes",
            hint="Try again; if it stays, remove it from the cache",
        )
    found = "sha256-" + base64.b64encode(digest.digest()).decode()
    if expected and found != expected:
        raise _wrong(f"{what} has the hash {found}, not {expected}")


def _read_ahead(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Take pieces in a thread of its own, up to `AHEAD` bytes before they are asked for."""
    ready: SimpleQueue[bytes | BaseException | None] = SimpleQueue()
    room = threading.Semaphore(AHEAD // PIECE)
    stopped = threading.Event()

    def take() -> None:
        try:
            for piece in pieces:
                room.acquire()
                if stopped.is_set():
                    return
                ready.put(piece)
        except BaseException as error:  # noqa: BLE001 (raised again where it is waited for)
            ready.put(error)
        else:
            ready.put(None)

    # A daemon, and not waited for: where reading failed, it may wait for a network for long.
    threading.Thread(target=take, name="decompress", daemon=True).start()
    try:
        while (piece := ready.get()) is not None:
            if isinstance(piece, BaseException):
                raise piece
            room.release()
            yield piece
    finally:
        stopped.set()
        room.release()


def _wrong(what: str) -> Terminal:
    return Terminal(
        Reason.HASH_MISMATCH,
        what,
        hint="The binary cache has something else in its place: remove it, or leave the cache out",
    )
