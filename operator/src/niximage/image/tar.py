"""Entries to a tar, byte for byte the same everywhere.

The format is POSIX ustar, with a pax header only before an entry whose name, link target,
size or owner does not fit. Owners without names (0:0 but for users' `files`) and a time of one
second after the epoch (zero means "no time" to some tools) stand in every header. Python's
`tarfile` spends 80 µs on an entry, six times what this takes, and its bytes are not promised to
stay.

Contents are read straight into blocks, the pieces in which they are compressed and hashed:
nothing is copied, and memory is bounded whatever the sizes of files.
"""

import os
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from niximage.errors import Reason, Retryable
from niximage.image.entries import (
    READ_FLAGS,
    WHITEOUT,
    FileEntry,
    Kind,
    Reader,
    names_deletion,
    unreadable,
)

PACKER_ID: Final = "ustar-1"
"""Raised whenever the same entries would give another tar: part of every layer key."""

RECORD: Final = 512  # what headers and contents are multiples of
BLOCK: Final = 4 << 20  # bytes that are handed on at once
MTIME: Final = 1

_NAME_LIMIT: Final = 100
_PREFIX_LIMIT: Final = 155
_SIZE_LIMIT: Final = 8 << 30  # eleven octal digits
_ID_LIMIT: Final = 8**7  # seven octal digits
_TYPES: Final = {Kind.FILE: b"0", Kind.DIRECTORY: b"5", Kind.SYMLINK: b"2"}
_PAX: Final = b"x"
_PAX_NAME: Final = b"././@PaxHeader"
# magic, version, user and group name, device numbers: one constant between target and prefix.
_MIDDLE: Final = b"ustar\x0000" + bytes(64) + b"0000000\x000000000\x00"
_ZEROS: Final = bytes(RECORD)
# Name, numbers, checksum, type, link target, the constant, prefix; NUL fills what is left.
_HEADER: Final = struct.Struct("100s 48s 8s 1s 100s 88s 155s 12x")
_CHECKSUM: Final = 148  # where it stands
_BLANKS: Final = b" " * 8
_BELOW_WHITEOUT: Final = b"/" + WHITEOUT

Take = Callable[[], bytearray]
"""Gives a buffer of at least a block and one byte, which nobody else writes to."""


def fresh() -> bytearray:
    """A buffer that nobody had before."""
    return bytearray(BLOCK + 1)


def tar(
    entries: Iterable[FileEntry], *, block: int = BLOCK, take: Take = fresh
) -> Iterator[memoryview]:
    """The tar of entries, in blocks.

    Args:
        entries: what it holds, parents first, the names in a directory by their bytes.
        block: bytes of each block; the last may be shorter.
        take: gives the buffers. Blocks are views of them, so that nothing is copied: a buffer
            may be given again as soon as its block is done with.

    Raises:
        Terminal: a name that says in a layer what is deleted.
        Retryable: a file cannot be read, or has another size than its entry says.
        ValueError: a name is no relative one, comes twice or too late: a bug of the caller's.
    """
    last = b""
    filling = _Filling(block, take)
    for entry in entries:
        last = _check_name(entry.name, last)
        padding = _ZEROS[: -entry.size % RECORD]
        if entry.origin:
            yield from filling.put(header(entry))
            yield from filling.put_file(entry)
            yield from filling.put(padding)
        elif entry.reader is not None:
            yield from filling.put(header(entry))
            yield from filling.put_stream(entry, entry.reader)
            yield from filling.put(padding)
        else:
            yield from filling.put(header(entry) + entry.content + padding)
    yield from filling.put(_ZEROS * 2)
    yield filling.rest()


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
    uid, gid = entry.uid, entry.gid
    if uid >= _ID_LIMIT:
        records.append((b"uid", str(uid).encode()))
        uid = 0
    if gid >= _ID_LIMIT:
        records.append((b"gid", str(gid).encode()))
        gid = 0
    prefix, last = fitting
    block = _block(
        last,
        mode=entry.mode,
        size=size,
        kind=_TYPES[entry.kind],
        target=target,
        prefix=prefix,
        uid=uid,
        gid=gid,
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
    return block + body + _ZEROS[: -len(body) % RECORD]


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
    uid: int = 0,
    gid: int = 0,
) -> bytes:
    numbers = b"%07o\0%07o\0%07o\0%011o\0%011o\0" % (mode, uid, gid, size, MTIME)
    # The checksum is taken with blanks in its own place.
    blank = _HEADER.pack(name, numbers, _BLANKS, kind, target, _MIDDLE, prefix)
    # Adler-32's lower half is one more than the sum, modulo a prime that 512 times ASCII is
    # below: the quickest sum there is.
    checksum = (zlib.adler32(blank) & 0xFFFF) - 1
    return b"%b%06o\0 %b" % (blank[:_CHECKSUM], checksum, blank[_CHECKSUM + len(_BLANKS) :])


class _Filling:
    """The block that is being filled, and its turn into the next one."""

    __slots__ = ("_block", "_take", "_used", "_view")

    def __init__(self, block: int, take: Take) -> None:
        self._block = block
        self._take = take
        self._view = memoryview(take())
        self._used = 0

    def put(self, data: bytes) -> Iterator[memoryview]:
        """Add bytes at hand."""
        used = self._used
        end = used + len(data)
        if end <= self._block:
            self._view[used:end] = data
            self._used = end
            return
        left = memoryview(data)
        while left:
            if self._used == self._block:
                yield self.rest()
                self._renew()
            part = left[: self._block - self._used]
            self._view[self._used : self._used + len(part)] = part
            self._used += len(part)
            left = left[len(part) :]

    def put_file(self, entry: FileEntry) -> Iterator[memoryview]:
        """Add a file's content, exactly as many bytes as its entry says."""
        left = entry.size
        try:
            descriptor = os.open(entry.origin, READ_FLAGS)
            try:
                while True:
                    if left and self._used == self._block:
                        yield self.rest()
                        self._renew()
                    used = self._used
                    room = self._block - used
                    # One byte more than there should be shows a file that has grown.
                    wanted = left + 1 if left <= room else room
                    got = os.readv(descriptor, (self._view[used : used + wanted],))
                    if got > left or not got:
                        break
                    self._used = used + got
                    left -= got
                    if not left:
                        return
            finally:
                os.close(descriptor)
        except OSError as error:
            # Reading knows no name, unlike opening.
            error.filename = error.filename or entry.origin
            raise unreadable(error) from None
        if got or left:
            raise Retryable(
                Reason.BUILD_INTERRUPTED,
                f"{os.fsdecode(entry.origin)} changed while it was packed",
                hint="Build it again",
            )

    def put_stream(self, entry: FileEntry, read: Reader) -> Iterator[memoryview]:
        """Add what a stream has of a file, exactly as many bytes as its entry says."""
        left = entry.size
        while left:
            if self._used == self._block:
                yield self.rest()
                self._renew()
            used = self._used
            got = read(self._view[used : min(used + left, self._block)])
            if not got:
                raise Retryable(
                    Reason.BUILD_INTERRUPTED,
                    f"{os.fsdecode(entry.name)} ended {left} bytes early",
                    hint="Build it again",
                )
            self._used = used + got
            left -= got

    def rest(self) -> memoryview:
        """What was filled since the last block."""
        return self._view[: self._used]

    def _renew(self) -> None:
        # Only once the full block was handed on: who waits for a buffer must hold none.
        self._view = memoryview(self._take())
        self._used = 0


def _check_name(name: bytes, last: bytes) -> bytes:
    """The name in the form that the next one's is compared with: slashes sort before all else.

    That is how a walk's names rise, and a NAR's. So a name that comes twice is seen without
    a list of all names, which strangers could make as long as they like.
    """
    if not name or name[:1] == b"/" or name[-1:] == b"/" or b"\0" in name:
        raise ValueError(f"no relative name: {name!r}")
    if _BELOW_WHITEOUT in name or name.startswith(WHITEOUT):
        raise names_deletion(name)
    this = name.replace(b"/", b"\0")
    if this <= last:
        raise ValueError(f"{name!r} comes twice, or too late")
    return this
