"""An artifact of Flux: a tar.gz by URL and digest, downloaded, verified, unpacked with care.

The digest is checked over the whole file before any of it is read as an archive. What the
archive then says is still what somebody in the namespace wrote: nothing of it may come to lie
outside the folder, and its size is bounded however well it is compressed.
"""

import asyncio
import errno
import gzip
import hashlib
import posixpath
import sys
import tempfile
import zlib
from pathlib import Path
from typing import IO, Final

import aiohttp

from niximage.api.build import PinnedSource
from niximage.errors import NixImageError, Reason, Retryable, Terminal, plain_text
from niximage.source.failures import shown_url
from niximage.source.fetch import Fetched, inside
from niximage.source.folder import FILES_LIMIT, SIZE_LIMIT
from niximage.source.git import Deadline

if sys.version_info >= (3, 11, 4):
    import tarfile
else:  # Debian 12's has no filters
    from backports import tarfile  # type: ignore[import-not-found,no-redef]

ARCHIVE_LIMIT: Final = 1 << 30  # bytes of the archive, compressed
ANSWER_TIMEOUT: Final = 30.0  # seconds without a byte
TRIES: Final = 4
FIRST_WAIT: Final = 0.5  # seconds before the second try; twice as long before each other

_CHUNK: Final = 1 << 18
_READ_LIMIT: Final = 1 << 20  # bytes of one header: a longer name is nobody's
_OVERHEAD: Final = 2048  # bytes per entry: headers and padding


def fetch_artifact(source: PinnedSource, folder: Path, *, timeout: float) -> Fetched:
    """Put an artifact's files into a folder. Not for use inside a running event loop.

    Args:
        source: what to fetch.
        folder: where to; made if absent, and must be empty.
        timeout: seconds for all of it.

    Returns:
        As `niximage.source.fetch.fetch` does; the time is 1970, for an archive has none.

    Raises:
        Retryable: it cannot be had now, or has another digest.
        Terminal: it is no archive that can be unpacked here, or the path is not in it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    deadline = Deadline.after(timeout)
    with tempfile.TemporaryFile(dir=folder.parent) as file:
        asyncio.run(_download(source, file, deadline))
        file.seek(0)
        _unpack(source, file, folder, deadline)
    return Fetched(inside(folder, source), 0)


# Download ----------------------------------------------------------------------------------------


async def _download(source: PinnedSource, file: IO[bytes], deadline: Deadline) -> None:
    """Download an artifact, trying again what may pass."""
    patience = aiohttp.ClientTimeout(
        total=None, sock_connect=ANSWER_TIMEOUT, sock_read=ANSWER_TIMEOUT
    )
    headers = {"User-Agent": "niximage", "Accept-Encoding": "identity"}
    try:
        async with (
            asyncio.timeout(deadline.left),
            aiohttp.ClientSession(
                timeout=patience, headers=headers, auto_decompress=False, trust_env=True
            ) as session,
        ):
            for number in range(TRIES):
                try:
                    return await _download_once(session, source, file)
                except Retryable:
                    if number == TRIES - 1:
                        raise
                    await asyncio.sleep(FIRST_WAIT * 2**number)
    except TimeoutError:
        raise _unavailable(source, f"it was not there within {deadline.timeout:g} s") from None


async def _download_once(
    session: aiohttp.ClientSession, source: PinnedSource, file: IO[bytes]
) -> None:
    file.seek(0)
    file.truncate()
    digest = hashlib.sha256()
    size = 0
    try:
        # Flux's storage redirects nobody, and nobody else is asked.
        async with session.get(source.url, allow_redirects=False) as answer:
            if answer.status != 200:  # noqa: PLR2004 (HTTP's own number)
                raise _unavailable(source, f"the server answers {answer.status}")
            async for chunk in answer.content.iter_chunked(_CHUNK):
                size += len(chunk)
                if size > ARCHIVE_LIMIT:
                    raise _refused(source, f"it has more than {ARCHIVE_LIMIT >> 30} GiB")
                digest.update(chunk)
                file.write(chunk)
    except aiohttp.InvalidURL:
        raise _refused(source, "that is no URL") from None
    except (aiohttp.ClientError, OSError) as error:
        words = plain_text(f"{type(error).__name__} {error}", 300)
        raise _unavailable(source, words) from None
    found = f"sha256:{digest.hexdigest()}"
    if found != source.digest:
        raise Retryable(
            Reason.HASH_MISMATCH,
            f"the artifact at {shown_url(source.url)} has the digest {found}, not {source.digest}",
            hint="The next try takes the digest that the object of Flux has then",
        )


# Unpacking ---------------------------------------------------------------------------------------


class _Bounded:
    """A stream whose headers and whole length are bounded; what `tarfile` reads from."""

    def __init__(self, stream: gzip.GzipFile) -> None:
        self._stream = stream

    def read(self, size: int) -> bytes:
        if not 0 <= size <= _READ_LIMIT:
            raise tarfile.ReadError(f"a header of {size} bytes")
        self._check()
        return self._stream.read(size)

    def seek(self, offset: int) -> int:
        if offset > SIZE_LIMIT + FILES_LIMIT * _OVERHEAD:
            raise tarfile.ReadError("it is too large")
        return self._stream.seek(offset)

    def tell(self) -> int:
        return self._stream.tell()

    def _check(self) -> None:
        if self._stream.tell() > SIZE_LIMIT + FILES_LIMIT * _OVERHEAD:
            raise tarfile.ReadError("it is too large")


def _unpack(source: PinnedSource, file: IO[bytes], folder: Path, deadline: Deadline) -> None:
    count = size = 0
    links: set[str] = set()
    name = ""
    try:
        with gzip.GzipFile(fileobj=file) as stream, _open(_Bounded(stream)) as archive:
            for member in archive:
                name = member.name
                count += 1
                size += member.size
                if count > FILES_LIMIT or size > SIZE_LIMIT:
                    raise _refused(
                        source, f"it has more than {FILES_LIMIT} files or {SIZE_LIMIT >> 30} GiB"
                    )
                if deadline.left == 0:
                    raise _unavailable(source, f"it took more than {deadline.timeout:g} s")
                if not _lies_well(member, links):
                    raise _refused(source, f"its entry {name[:200]!r} leads outside")
                archive.extract(member, folder, filter=tarfile.data_filter)
    except NixImageError:
        raise
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise Retryable(
                Reason.BUILD_INTERRUPTED,
                f"there is no room to unpack {shown_url(source.url)}: {error.strerror}",
                hint="Give build pods more ephemeral storage",
            ) from None
        raise _malformed(source, name, error) from None
    except (tarfile.TarError, EOFError, zlib.error, ValueError, RecursionError) as error:
        raise _malformed(source, name, error) from None


def _open(stream: _Bounded) -> tarfile.TarFile:
    return tarfile.open(fileobj=stream, mode="r:")  # type: ignore[call-overload,no-any-return]  # it reads, seeks and tells: all that is asked of it


def _lies_well(member: tarfile.TarInfo, links: set[str]) -> bool:
    """Whether an entry stays in the folder by its text alone, and passes through no link.

    `tarfile`'s own filter asks the file system the same; two looks are better than one.
    """
    name = posixpath.normpath(member.name)
    if _leads_out(name):
        return False
    parts = name.split("/")
    if any("/".join(parts[:n]) in links for n in range(1, len(parts))):
        return False
    if member.issym():
        links.add(name)
        return not _leads_out(posixpath.normpath(posixpath.join(*parts[:-1], member.linkname)))
    return not member.islnk() or not _leads_out(posixpath.normpath(member.linkname))


def _leads_out(path: str) -> bool:
    return path == ".." or path.startswith(("/", "../"))


# Errors ------------------------------------------------------------------------------------------


def _unavailable(source: PinnedSource, what: str) -> Retryable:
    return Retryable(
        Reason.SOURCE_UNAVAILABLE,
        f"the artifact at {shown_url(source.url)} cannot be downloaded: {what}",
        hint="Can pods of this namespace reach Flux's source-controller?",
    )


def _refused(source: PinnedSource, what: str) -> Terminal:
    return Terminal(
        Reason.INVALID_SOURCE,
        f"the artifact at {shown_url(source.url)} cannot be used: {what}",
        hint="See what the object of Flux packs",
    )


def _malformed(source: PinnedSource, name: str, error: Exception) -> Terminal:
    where = f" at {name[:200]!r}" if name else ""
    return _refused(source, f"it is no tar.gz{where}: {plain_text(str(error), 200)}")
