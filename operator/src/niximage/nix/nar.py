"""NARs as file entries: the same as a walk over what they unpack to.

A NAR is a tree in one canonical form: parents first, the names in a directory by their bytes.
So is what a layer is packed from, and nothing needs to be unpacked or sorted in between. The
reader holds a piece of the NAR at a time, whatever the sizes of files.

It takes the canonical form and nothing else: who writes the entries down as a NAR again gets
the same bytes. In particular no name can come twice, lead elsewhere, or hide another.

    nar    = "nix-archive-1" node
    node   = "(" "type" ( "regular" ["executable" ""] "contents" TEXT
                        | "symlink" "target" TEXT
                        | "directory" { "entry" "(" "name" TEXT "node" node ")" } ) ")"

where each string is its length in 8 bytes, itself, and zeros up to a multiple of 8. Source: the
Nix manual, "Nix Archive (NAR) format".
"""

import os
from collections.abc import Iterable, Iterator
from typing import Final

from niximage.errors import NixImageError, Reason, Retryable, Terminal
from niximage.image.entries import (
    DEPTH_LIMIT,
    DIRECTORY_MODE,
    EXECUTABLE_MODE,
    FILE_MODE,
    NAME_LIMIT,
    PATH_LIMIT,
    TARGET_LIMIT,
    FileEntry,
    Kind,
    directory,
    name_too_long,
    nested_too_deep,
    symlink,
)

_WORD: Final = 8
_ZEROS: Final = bytes(_WORD)
_LOOK_AHEAD: Final = 8 << 10  # more than there can be between the contents of two files


def _text(*strings: bytes) -> bytes:
    """Strings as a NAR has them."""
    return b"".join(
        len(each).to_bytes(_WORD, "little") + each + bytes(-len(each) % _WORD) for each in strings
    )


# Whatever always follows one another is compared at once.
_NODE: Final = _text(b"(", b"type")
_START: Final = _text(b"nix-archive-1") + _NODE
_FILE: Final = _text(b"regular", b"contents")
_EXECUTABLE: Final = _text(b"regular", b"executable", b"", b"contents")
_SYMLINK: Final = _text(b"symlink", b"target")
_DIRECTORY: Final = _text(b"directory")
_ENTRY: Final = _text(b"entry", b"(", b"name")
_ENTRY_NODE: Final = _text(b"node") + _NODE
_CLOSE: Final = _text(b")")


def read_nar(pieces: Iterable[bytes], path: str, size: int) -> Iterator[FileEntry]:
    """The entries of a NAR, its root first.

    Args:
        pieces: the NAR; taken to the end.
        path: the absolute path of its root, which the entries' names begin with.
        size: its bytes, as announced: nothing in it may say that it is longer.

    Returns:
        The entries. A file has a `reader`, good until the next entry is asked for.

    Raises:
        Terminal: it is no NAR in canonical form, or has what no layer can hold.
        Retryable: it ends early.
    """
    nar = _Nar(pieces, path, size)
    nar.expect(_START, "the start of a NAR")
    name = os.fsencode(path)[1:]
    above: list[bytes] = []  # the directories that we are in, by their names
    last: list[bytes] = []  # the name that came last in each of them
    while True:
        nar.fill()
        nar.name = name
        if nar.skip(_DIRECTORY):
            if len(above) > DEPTH_LIMIT:
                raise nested_too_deep(name)
            yield directory(name, DIRECTORY_MODE)
            above.append(name)
            last.append(b"")
        else:
            if nar.skip(_SYMLINK):
                yield symlink(name, nar.string(TARGET_LIMIT, "a link's target"))
            else:
                is_executable = nar.skip(_EXECUTABLE)
                if not is_executable:
                    nar.expect(_FILE, "a file, a directory or a symbolic link")
                length = nar.open_content()
                mode = EXECUTABLE_MODE if is_executable else FILE_MODE
                yield FileEntry(name, Kind.FILE, mode, size=length, reader=nar.read)
                nar.close_content(length)
            nar.close(within=above)
        while above and not nar.skip(_ENTRY):
            above.pop()
            last.pop()
            nar.close(within=above)
        if not above:
            break
        last[-1] = child = nar.child(after=last[-1])
        name = above[-1] + b"/" + child
        if len(name) > PATH_LIMIT:
            raise name_too_long(name)
        nar.expect(_ENTRY_NODE, "a node")
    nar.end()


class _Nar:
    """The bytes of a NAR as they come: a piece of it, and how far it was read.

    Attributes:
        name: of the entry that is being read, for errors.
    """

    __slots__ = ("_at", "_before", "_left", "_path", "_piece", "_pieces", "_size", "name")

    def __init__(self, pieces: Iterable[bytes], path: str, size: int) -> None:
        self._pieces = iter(pieces)
        self._path = path
        self._size = size
        self._piece = b""
        self._at = 0  # where in the piece
        self._before = 0  # bytes before the piece
        self._left = 0  # of a file's content
        self.name = b""
        self.fill()

    def fill(self) -> None:
        """See that whatever may stand between two contents is at hand, if it is there."""
        if len(self._piece) - self._at >= _LOOK_AHEAD:
            return
        pieces = [self._piece[self._at :]]
        there = len(pieces[0])
        self._before += self._at
        self._at = 0
        while there < _LOOK_AHEAD and (piece := next(self._pieces, None)) is not None:
            pieces.append(piece)
            there += len(piece)
        self._piece = b"".join(pieces)

    def skip(self, token: bytes) -> bool:
        """Whether this comes now; if so, it is passed."""
        if self._piece.startswith(token, self._at):
            self._at += len(token)
            return True
        return False

    def expect(self, token: bytes, what: str) -> None:
        """Pass what must come now."""
        if not self.skip(token):
            raise self._unexpected(what)

    def close(self, within: list[bytes]) -> None:
        """Pass the end of a node, and if it is within a directory that of its entry."""
        self.fill()
        self.expect(_CLOSE * 2 if within else _CLOSE, "the end of a node")

    def string(self, limit: int, what: str) -> bytes:
        """A string of 1 up to so many bytes, none of them zero."""
        length = self._number()
        if not 0 < length <= limit:
            raise self.malformed(f"{what} of {length} bytes: there may be 1 to {limit}")
        found = self._piece[self._at : self._at + length]
        if b"\0" in found:
            raise self.malformed(f"{what} with a NUL in it: {found[:200]!r}")
        if len(found) < length:
            raise self._unexpected(what)
        self._at += length
        self._pad(length)
        return found

    def child(self, after: bytes) -> bytes:
        """The name of a directory's next entry, which comes after the last one's."""
        found = self.string(NAME_LIMIT, "a name")
        if b"/" in found or found in {b".", b".."}:
            raise self.malformed(f"{found!r} is no file's name")
        if found <= after:
            raise self.malformed(f"{found!r} comes after {after!r}")
        return found

    def open_content(self) -> int:
        """The size of a file's content, which comes next."""
        length = self._number()
        # A node's end follows at least.
        if length > self._size - self._before - self._at - len(_CLOSE):
            raise self.malformed(f"a file of {length} bytes: the NAR has {self._size}")
        self._left = length
        return length

    def read(self, into: memoryview) -> int:
        """Read the next bytes of a file's content; 0 at its end."""
        if not self._left:
            return 0
        if self._at == len(self._piece):
            self._next_piece()
        end = self._at + min(len(into), self._left, len(self._piece) - self._at)
        got = end - self._at
        into[:got] = memoryview(self._piece)[self._at : end]
        self._at = end
        self._left -= got
        return got

    def close_content(self, length: int) -> None:
        """Pass what nobody read of a file's content, and its padding."""
        while self._left:
            if self._at == len(self._piece):
                self._next_piece()
            step = min(self._left, len(self._piece) - self._at)
            self._at += step
            self._left -= step
        self.fill()
        self._pad(length)

    def end(self) -> None:
        """See that nothing follows."""
        self.fill()
        if self._at < len(self._piece):
            raise self.malformed("there is more after its end")

    def malformed(self, what: str) -> Terminal:
        """The error of a NAR that is not in canonical form."""
        return Terminal(Reason.HASH_MISMATCH, f"{self._where()}: {what}", hint=_HINT)

    def _next_piece(self) -> None:
        """Take the next piece, once all of this was read."""
        self._before += self._at
        self._at = 0
        self._piece = b""
        while not self._piece:
            piece = next(self._pieces, None)
            if piece is None:
                raise self._early()
            self._piece = piece

    def _number(self) -> int:
        word = self._piece[self._at : self._at + _WORD]
        if len(word) < _WORD:
            raise self._unexpected("a length")
        self._at += _WORD
        return int.from_bytes(word, "little")

    def _pad(self, length: int) -> None:
        self.expect(_ZEROS[: -length % _WORD], "zeros up to a multiple of 8")

    def _unexpected(self, what: str) -> NixImageError:
        """The error where something else comes than must, or nothing."""
        self.fill()
        there = len(self._piece) - self._at
        if there < _LOOK_AHEAD and self._before + len(self._piece) < self._size:
            return self._early()
        return self.malformed(f"{what} should be there")

    def _early(self) -> Retryable:
        return Retryable(
            Reason.SUBSTITUTER_UNAVAILABLE,
            f"{self._where()}: it ends early",
            hint="Try again; if it stays, remove it from the cache",
        )

    def _where(self) -> str:
        below = self.name[len(os.fsencode(self._path)) :]
        inside = f", in {below[-200:]!r}" if below else ""
        return f"the NAR of {self._path} at byte {self._before + self._at}{inside}"


_HINT: Final = "The binary cache has something else in its place: remove it, or leave the cache out"
