"""An SQLite database written at one go: equal rows, equal bytes.

SQLite's own library promises a format, not bytes: where rows and free space end up is its
affair, and its version stands in the file. So the file is written here: tables and indices
are sorted already, and a sorted B-tree is filled page by page from the left.

The format: https://www.sqlite.org/fileformat2.html. No record may need an overflow page.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, islice
from operator import sub
from typing import Final

PAGE: Final = 4096

Value = int | str | None
Row = tuple[Value, ...]

_FILE_HEADER: Final = 100
_SCHEMA_FORMAT: Final = 4
_UTF8: Final = 1
_LIBRARY: Final = 3_040_001  # the version of SQLite that the file says it was written by
_TABLE_INTERIOR, _TABLE_LEAF = 5, 13
_INDEX_INTERIOR, _INDEX_LEAF = 2, 10
_LEAF_HEADER: Final = 8
_INTERIOR_HEADER: Final = 12
_POINTER: Final = 2  # bytes in the page's array for each cell
# The format's: a record that is longer goes to overflow pages.
_ROW_LIMIT: Final = PAGE - 35
_KEY_LIMIT: Final = (PAGE - 12) * 64 // 255 - 23
_INTEGERS: Final = ((1, 1), (2, 2), (3, 3), (4, 4), (5, 6), (6, 8))  # serial type, bytes


@dataclass(frozen=True, slots=True)
class Index:
    """An index of a table.

    Attributes:
        name: its name; `sqlite_autoindex_<table>_<n>` for what a constraint makes.
        columns: the columns it is over, by number.
        sql: the statement that makes it, or "" for what a constraint makes.
    """

    name: str
    columns: tuple[int, ...]
    sql: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """A table and its rows, whose row IDs count from 1.

    Attributes:
        name: its name.
        sql: the statement that makes it.
        rows: all columns; None where the column is the `integer primary key`, for that is
            the row ID itself.
        indices: in the order in which SQLite would make them.
        triggers: name and statement of each.
    """

    name: str
    sql: str
    rows: Sequence[Row] = ()
    indices: tuple[Index, ...] = ()
    triggers: tuple[tuple[str, str], ...] = ()


def database(tables: Sequence[Table]) -> bytes:
    """A database of these tables.

    Raises:
        ValueError: a row that does not fit a page, or more schema than the first page holds.
    """
    pages = _Pages()
    schema: list[Row] = []
    for table in tables:
        root = pages.table(table.rows)
        schema.append(("table", table.name, table.name, root, table.sql))
        for index in table.indices:
            keys = sorted(
                (*(row[column] for column in index.columns), number)
                for number, row in enumerate(table.rows, start=1)
            )
            root = pages.index(keys)
            schema.append(("index", index.name, table.name, root, index.sql or None))
        for name, sql in table.triggers:
            schema.append(("trigger", name, table.name, 0, sql))
    first = _page(_TABLE_LEAF, _table_cells(schema), offset=_FILE_HEADER)
    body = b"".join(pages.content)
    count = 1 + len(pages.content)
    return _file_header(count) + first[_FILE_HEADER:] + body


class _Pages:
    """The pages after the first, numbered from 2."""

    def __init__(self) -> None:
        self.content: list[bytes] = []

    def table(self, rows: Sequence[Row]) -> int:
        """Write a table's B-tree; returns its root."""
        cells = list(_table_cells(rows))
        level: list[tuple[int, int]] = []  # page, its last row ID
        for start, end in _spans(cells, _LEAF_HEADER, apart=0):
            level.append((self._add(_page(_TABLE_LEAF, cells[start:end])), end))
        while len(level) > 1:
            above: list[tuple[int, int]] = []
            cells = [_child(page) + _varint(last) for page, last in level[:-1]]
            # Each page's last child is pointed at by its header: its cell stands apart.
            for start, end in _spans(cells, _INTERIOR_HEADER, apart=1):
                page, last = level[end]
                node = _page(_TABLE_INTERIOR, cells[start:end], right=page)
                above.append((self._add(node), last))
            level = above
        return level[0][0]

    def index(self, keys: Sequence[Row]) -> int:
        """Write an index's B-tree; returns its root."""
        cells = [_cell(_record(key), _KEY_LIMIT) for key in keys]
        children: list[int] = []
        apart: list[bytes] = []  # the cells between two pages, which the level above has
        for start, end in _spans(cells, _LEAF_HEADER, apart=1):
            children.append(self._add(_page(_INDEX_LEAF, cells[start:end])))
            apart += cells[end : end + 1]
        while len(children) > 1:
            cells = [_child(page) + cell for page, cell in zip(children, apart, strict=False)]
            above: list[int] = []
            between: list[bytes] = []
            for start, end in _spans(cells, _INTERIOR_HEADER, apart=1):
                node = _page(_INDEX_INTERIOR, cells[start:end], right=children[end])
                above.append(self._add(node))
                between += apart[end : end + 1]
            children, apart = above, between
        return children[0]

    def _add(self, page: bytes) -> int:
        self.content.append(page)
        return len(self.content) + 1


def _spans(cells: Sequence[bytes], header: int, *, apart: int) -> Iterator[tuple[int, int]]:
    """Share cells out among pages: the first and the last but one of each page.

    Args:
        cells: in order.
        header: bytes of a page's header.
        apart: how many cells stand between two pages, in neither.
    """
    start = 0
    while True:
        end, room = start, PAGE - header
        while end < len(cells) and room >= len(cells[end]) + _POINTER:
            room -= len(cells[end]) + _POINTER
            end += 1
        if end < len(cells) and end + apart >= len(cells):
            end -= 1  # else the next page would have no cell at all
        yield start, end
        if end >= len(cells):
            return
        start = end + apart


def _page(kind: int, cells: Sequence[bytes], *, right: int = 0, offset: int = 0) -> bytes:
    """A page of cells, packed from its end as SQLite does."""
    header = _INTERIOR_HEADER if right else _LEAF_HEADER
    top = PAGE - sum(map(len, cells))
    free = top - offset - header - _POINTER * len(cells)
    if free < 0:
        raise ValueError(f"{len(cells)} cells need {-free} bytes more than a page has")
    starts = accumulate(map(len, cells), sub, initial=PAGE)
    pointers = b"".join(start.to_bytes(2) for start in islice(starts, 1, None))
    return b"".join(
        [
            bytes(offset),
            bytes([kind]),
            bytes(2),  # no free block
            len(cells).to_bytes(2),
            top.to_bytes(2),
            bytes(1),  # no fragments
            _child(right) if right else b"",
            pointers,
            bytes(free),
            *reversed(cells),
        ]
    )


def _table_cells(rows: Sequence[Row]) -> list[bytes]:
    return [
        _cell(_record(row), _ROW_LIMIT, _varint(number)) for number, row in enumerate(rows, start=1)
    ]


def _cell(record: bytes, limit: int, row_id: bytes = b"") -> bytes:
    if len(record) > limit:
        raise ValueError(f"a record of {len(record)} bytes; the most is {limit}")
    return _varint(len(record)) + row_id + record


def _child(page: int) -> bytes:
    return page.to_bytes(4)


def _record(row: Row) -> bytes:
    types = bytearray()
    body = bytearray()
    for value in row:
        kind, data = _serial(value)
        types += _varint(kind)
        body += data
    length = len(types) + 1
    if length >= 0x80:  # noqa: PLR2004 (a length of its own that needs a second byte)
        raise ValueError("too many columns")
    return bytes([length]) + types + body


def _serial(value: Value) -> tuple[int, bytes]:
    """A value's type and bytes, as a record has them."""
    match value:
        case None:
            return 0, b""
        case 0 | 1:
            return 8 + value, b""
        case int():
            kind, size = next(
                (k, n) for k, n in _INTEGERS if -1 << 8 * n - 1 <= value < 1 << 8 * n - 1
            )
            return kind, value.to_bytes(size, signed=True)
        case str():
            data = value.encode()
            return 13 + 2 * len(data), data


def _varint(number: int) -> bytes:
    """Seven bits to a byte, the highest first; numbers below 2**56 only."""
    groups = [number & 0x7F]
    while number := number >> 7:
        groups.append(number & 0x7F | 0x80)
    return bytes(reversed(groups))


def _file_header(pages: int) -> bytes:
    numbers = [1, pages]  # the change counter, the size
    numbers += [0, 0]  # no free pages
    numbers += [1, _SCHEMA_FORMAT, 0, 0, _UTF8, 0, 0, 0]
    numbers += [0] * 5
    numbers += [1, _LIBRARY]  # the change counter again
    page = PAGE.to_bytes(2) + bytes([1, 1, 0, 64, 32, 32])  # a rollback journal; fractions
    return b"SQLite format 3\0" + page + b"".join(number.to_bytes(4) for number in numbers)
