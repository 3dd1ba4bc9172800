"""What the project asks of an object store: little, and all of it safe to repeat.

A missing object is an answer, not an error. What the store cannot do now is
`Retryable(BUCKET_UNAVAILABLE)`, with the key and the store's own words; credentials that are
refused and buckets that do not exist are told the same way, for an admin may mend them.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import SplitResult, unquote, urlsplit

from niximage.errors import Reason, Terminal

DEFAULT_PATIENCE: Final = 60.0  # seconds that one call may go on trying
KEY_LIMIT: Final = 1024  # bytes of a key: Google's bound

# No dot in front: what begins with a dot is a store's own business, and `..` is never a name.
_KEY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+=@-]{0,254}(?:/[A-Za-z0-9_][A-Za-z0-9._+=@-]{0,254})*")
_GCS_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]")


@dataclass(frozen=True, slots=True)
class ObjectStat:
    """What a store knows of an object.

    Attributes:
        key: the object's name below the bucket's root.
        size: bytes.
        generation: a number that changes whenever the object is written.
        metageneration: a number that changes whenever the object is touched.
        time: when it was written or last touched, in seconds since 1970.
    """

    key: str
    size: int
    generation: int
    metageneration: int
    time: float


class ObjectStore(Protocol):
    """A bucket, from whichever maker. Safe to use from several threads."""

    @property
    def url(self) -> str:
        """The URL that opens this bucket: `file:///path` or `gs://bucket/prefix`."""
        ...

    def stat(self, key: str) -> ObjectStat | None:
        """What is known of an object, or None if it is not there."""
        ...

    def read(self, key: str, *, limit: int) -> bytes | None:
        """An object's whole content, or None if it is not there.

        Raises:
            Retryable: the object is larger than `limit` bytes (`RESULT_INVALID`), or the store
                fails.
        """
        ...

    def stream(self, key: str, *, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        """An object's bytes from `start`, `length` of them or all the rest, in chunks.

        Raises:
            Retryable: the object is not there, or the store fails.
        """
        ...

    def create(self, key: str, content: bytes | Path) -> ObjectStat | None:
        """See that an object is there with this content, unless another content is.

        Safe to repeat: an answer that was lost costs nothing, for the content tells.

        Args:
            key: the object's name.
            content: the bytes, or a file that holds them.

        Returns:
            The object with this content, made now or before; None if another content is there.

        Raises:
            Retryable: the store fails, or the file cannot be read.
        """
        ...

    def spool(self, otherwise: Path) -> Path:
        """The folder to make files in that `create` shall take as they are.

        Args:
            otherwise: a folder that serves where the store has none; files are uploaded from it.

        Raises:
            Retryable: the store's folder cannot be made.
        """
        ...

    def replace(self, key: str, content: bytes, *, seen: ObjectStat | None = None) -> bool:
        """Write a small object; readers see the old or the new content, never less.

        Args:
            key: the object's name.
            content: the bytes.
            seen: what to replace, as it was last seen; None replaces whatever is there.

        Returns:
            Whether the object has this content; False when it was not as seen.
        """
        ...

    def touch(self, seen: ObjectStat) -> bool:
        """Set an object's time to now; False when it was written or deleted since it was seen.

        A delete of what was seen before does nothing from then on.
        """
        ...

    def list(self, prefix: str) -> Iterator[ObjectStat]:
        """The objects whose keys begin with the prefix, in key order, page by page.

        Args:
            prefix: what the keys begin with; need not end at a slash.
        """
        ...

    def delete(self, seen: ObjectStat) -> bool:
        """Delete an object; False when it was written, touched or deleted since it was seen."""
        ...

    def close(self) -> None:
        """Give back connections. The store is not used afterwards."""
        ...


def check_key(key: str) -> None:
    """Refuse what is no key of ours: absolute, empty components, `..`, control characters.

    Raises:
        Terminal: with the key as it is.
    """
    if len(key) > KEY_LIMIT or _KEY.fullmatch(key) is None:
        raise Terminal(
            Reason.INVALID_SPEC,
            f"{key[:KEY_LIMIT]!r} is no name of an object",
            hint="Names are relative, of letters, digits and ._+=@- between single slashes",
        )


def open_store(url: str, *, patience: float = DEFAULT_PATIENCE) -> ObjectStore:
    """Open the bucket that a URL names; nothing is asked of it yet.

    Args:
        url: `file:///absolute/folder` or `gs://bucket[/prefix]`. With `STORAGE_EMULATOR_HOST`
            set, `gs://` means that emulator, without credentials.
        patience: seconds that one call may go on trying before it fails.

    Raises:
        Terminal: the URL is none of these.
        Retryable: there are no credentials for it.
    """
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise _bad_url(url, str(error)) from None
    if parts.query or parts.fragment:
        raise _bad_url(url, "it has a query or a fragment")
    match parts.scheme:
        case "file":
            from niximage.bucket.file import FileStore

            return FileStore(_folder(url, parts), patience=patience)
        case "gs":
            # The client takes a second to import, and most commands need none of it.
            from niximage.bucket.gcs import GcsStore

            return GcsStore(*_bucket_and_prefix(url, parts), patience=patience)
        case _:
            raise _bad_url(url, f"its scheme is {parts.scheme!r}" if parts.scheme else "no scheme")


def _folder(url: str, parts: SplitResult) -> Path:
    if parts.netloc not in {"", "localhost"}:
        raise _bad_url(url, f"{parts.netloc!r} stands where a host would")
    path = unquote(parts.path)
    if not path.startswith("/") or path.strip("/") == "":
        raise _bad_url(url, "it names no absolute folder below the root")
    if "\0" in path or ".." in path.split("/"):
        raise _bad_url(url, "its path holds '..' or NUL")
    return Path(path)


def _bucket_and_prefix(url: str, parts: SplitResult) -> tuple[str, str]:
    if _GCS_BUCKET.fullmatch(parts.netloc) is None:
        raise _bad_url(url, f"{parts.netloc!r} is no name of a bucket")
    prefix = parts.path.removeprefix("/").removesuffix("/")
    if prefix and _KEY.fullmatch(prefix) is None:
        raise _bad_url(url, f"{prefix!r} is no prefix of object names")
    return parts.netloc, prefix


def _bad_url(url: str, why: str) -> Terminal:
    return Terminal(
        Reason.INVALID_SPEC,
        f"{url[:256]!r} is no bucket: {why}",
        hint="Write file:///absolute/folder or gs://bucket or gs://bucket/prefix",
    )
