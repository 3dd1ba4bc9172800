"""The Nix database and the SQLite writer below it, against SQLite itself."""

import hashlib
import itertools
import sqlite3
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from niximage.errors import Terminal
from niximage.image.closure import Closure, PathInfo
from niximage.image.database import nix_database, registered_paths
from niximage.image.sqlite import PAGE, Index, Row, Table, database
from unit.image.closures import closure, graphs, info, store_path

Graph = dict[str, tuple[int, list[str]]]


def opened(data: bytes) -> sqlite3.Connection:
    """The database in memory, once SQLite finds no fault in it."""
    connection = sqlite3.connect(":memory:")
    connection.deserialize(data)
    assert connection.execute("pragma integrity_check").fetchall() == [("ok",)]
    assert connection.execute("pragma foreign_key_check").fetchall() == []
    return connection


def query(data: bytes, text: str) -> list[Row]:
    with closing(opened(data)) as connection:
        return connection.execute(text).fetchall()


@pytest.mark.parametrize("count", [0, 1, 2, 15, 40, 400, 3000])
def test_sqlite_reads_closures_of_every_size(count: int) -> None:
    """From one page for all to trees of three levels."""
    names = [f"p{number}-{'x' * (number * 37 % 180)}" for number in range(count)]
    infos = [
        PathInfo(
            store_path(name),
            info(name).nar_hash,
            number << number % 40,
            tuple(store_path(names[other]) for other in {number // 2, number // 3, number}),
        )
        for number, name in enumerate(names)
    ]
    made = Closure.of(infos)
    data = nix_database(made)
    assert len(data) % PAGE == 0
    paths = query(data, "select path, hash, registrationTime, narSize from ValidPaths order by id")
    assert [row[0] for row in paths] == list(made.infos)
    assert [row[3] for row in paths] == [each.nar_size for each in made]
    assert {row[2] for row in paths} <= {1}
    references = query(
        data,
        "select a.path, b.path from Refs, ValidPaths a, ValidPaths b"
        " where a.id = referrer and b.id = reference",
    )
    assert sorted(references) == sorted(
        (each.path, reference) for each in infos for reference in each.references
    )


def test_the_indices_are_what_sqlite_uses() -> None:
    data = nix_database(closure({f"p{n}": (n, []) for n in range(500)}))
    with closing(opened(data)) as connection:
        where = "select id, narSize from ValidPaths where path = ?"
        plan = connection.execute(f"explain query plan {where}", ["x"]).fetchall()
        assert "USING INDEX sqlite_autoindex_ValidPaths_1" in plan[0][3]
        for number in range(500):
            found = connection.execute(where, [store_path(f"p{number}")]).fetchone()
            assert found[1] == number


def test_hashes_are_as_nix_writes_them() -> None:
    data = nix_database(closure({"a": (1000, [])}))
    digest = hashlib.sha256(b"a|1000|").hexdigest()
    assert query(data, "select hash from ValidPaths") == [(f"sha256:{digest}",)]


@settings(deadline=None, max_examples=30)
@given(graphs(), st.randoms(use_true_random=False))
def test_equal_closures_have_equal_databases(graph: Graph, chance: object) -> None:
    infos = list(closure(graph))
    chance.shuffle(infos)  # type: ignore[attr-defined]
    assert nix_database(Closure.of(infos)) == nix_database(closure(graph))


def test_the_bytes_are_what_they_always_were() -> None:
    """On every machine, whatever version of SQLite it has."""
    data = nix_database(closure({f"p{n}": (n, [f"p{n // 2}"]) for n in range(100)}))
    assert (
        hashlib.sha256(data).hexdigest()
        == "85c88e86d51959e51d2d1d1582e45e455f8dcf716ee812ecf8bd42b8da4a846c"
    )


def test_the_schema_is_that_of_nix() -> None:
    """Column by column as in the database of the Nix that is installed here."""
    installed = Path("/nix/var/nix/db/db.sqlite")
    made = nix_database(closure({}))
    with closing(sqlite3.connect(f"file:{installed}?mode=ro", uri=True)) as theirs:
        for table in ("ValidPaths", "Refs", "DerivationOutputs"):
            columns = f"pragma table_info({table})"
            assert query(made, columns) == theirs.execute(columns).fetchall()
            keys = f"pragma foreign_key_list({table})"
            assert query(made, keys) == theirs.execute(keys).fetchall()
        names = "select type, name, tbl_name from sqlite_master where name <> 'SchemaMigrations'"
        ours = set(query(made, names))
        assert ours <= set(theirs.execute(names).fetchall())
        assert len(ours) == 11


def test_nix_may_go_on_writing() -> None:
    data = nix_database(closure({"a": (1, ["b"]), "b": (2, [])}))
    with closing(opened(data)) as connection:
        connection.execute("pragma foreign_keys = on")  # only outside a transaction
        connection.execute(
            "insert into ValidPaths (path, hash, registrationTime) values ('/nix/store/c', 'x', 2)"
        )
        assert connection.execute("select max(id) from ValidPaths").fetchone() == (3,)
        connection.execute("delete from ValidPaths where path like '%-a'")
        assert connection.execute("select count(*) from Refs").fetchone() == (0,)
        assert connection.execute("pragma integrity_check").fetchall() == [("ok",)]


NUMBERS = st.one_of(
    st.sampled_from(
        [n * s + d for n in (1 << 7, 1 << 15, 1 << 31) for s in (1, -1) for d in (0, 1)]
    ),
    st.integers(-(1 << 63), (1 << 63) - 1),
)
VALUES = st.one_of(st.none(), NUMBERS, st.text("abäz\0", max_size=300))


@settings(deadline=None)
@given(st.lists(st.tuples(VALUES, VALUES), max_size=200))
def test_sqlite_reads_back_every_value(rows: Sequence[Row]) -> None:
    data = database([Table("t", "CREATE TABLE t(a,b)", rows)])
    assert query(data, "select * from t") == rows


@settings(deadline=None)
@given(st.lists(st.tuples(st.text("abc", max_size=200), st.integers(0, 9)), max_size=300))
def test_sqlite_finds_every_row_by_its_index(rows: list[Row]) -> None:
    index = Index("i", (1, 0), "CREATE INDEX i on t(b,a)")
    data = database([Table("t", "CREATE TABLE t(a text,b integer)", rows, (index,))])
    found = query(data, "select a, b from t indexed by i where b >= 0 order by b, a, rowid")
    assert found == sorted(rows, key=lambda row: (row[1], row[0]))


def test_what_does_not_fit_a_page_is_refused() -> None:
    table = Table("t", "CREATE TABLE t(a)", [("x" * 4058,)])
    assert query(database([table]), "select length(a) from t") == [(4058,)]
    with pytest.raises(ValueError, match="a record of 4062 bytes; the most is 4061"):
        database([Table("t", "CREATE TABLE t(a)", [("x" * 4059,)])])
    index = Index("i", (0,), "CREATE INDEX i on t(a)")
    with pytest.raises(ValueError, match="1005 bytes; the most is 1002"):
        database([Table("t", "CREATE TABLE t(a)", [("x" * 1001,)], (index,))])
    with pytest.raises(ValueError, match="more than a page has"):
        database([Table(f"t{n}", f"CREATE TABLE t{n}(a)") for n in range(200)])


# Reading one that anybody may have made ----------------------------------------------------------


GRAPH = closure({"lib": (10, []), "app": (20, ["lib", "app"]), "data": (30, [])})


def base_names(graph: Closure) -> set[str]:
    return {path.removeprefix("/nix/store/") for path in graph.infos}


def test_what_was_registered_is_read_back() -> None:
    assert registered_paths(nix_database(GRAPH), base_names(GRAPH)) == GRAPH.infos


def test_a_database_with_a_journal_of_its_own_is_read() -> None:
    content = nix_database(GRAPH)
    content = content[:18] + b"\x02\x02" + content[20:]
    assert registered_paths(content, base_names(GRAPH)) == GRAPH.infos


def test_what_is_not_there_is_left_out_with_all_that_needs_it() -> None:
    there = {name for name in base_names(GRAPH) if not name.endswith("-lib")}
    found = registered_paths(nix_database(GRAPH), there)
    assert {info.name for info in found.values()} == {"data"}


def test_a_long_chain_to_what_is_not_there_takes_no_longer_than_its_length() -> None:
    names = [f"p{n:05}" for n in range(20_000)]
    graph = closure({a: (1, [b]) for a, b in itertools.pairwise(names)} | {names[-1]: (1, [])})
    there = {name for name in base_names(graph) if not name.endswith(names[-1])}
    began = time.process_time()
    assert registered_paths(nix_database(graph), there) == {}
    assert time.process_time() - began < 5


def test_references_of_any_type_are_no_paths() -> None:
    row = (1, next(iter(GRAPH)).path, f"sha256:{'0' * 64}", 1)
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("CREATE TABLE ValidPaths (id, path, hash, narSize)")
        connection.execute("CREATE TABLE Refs (referrer, reference)")
        others = [(2, 7, "", 1), (3, b"x", "", 1), (4, None, "", 1), (5, "text", "", 1)]
        connection.executemany("INSERT INTO ValidPaths VALUES (?, ?, ?, ?)", [row, *others])
        connection.executemany("INSERT INTO Refs VALUES (1, ?)", [(n,) for n in range(2, 6)])
        content = connection.serialize()
    assert registered_paths(content, base_names(GRAPH)) == {}


@pytest.mark.parametrize(
    "content",
    [b"", b"\0" * 4096, b"SQLite format 3\0", nix_database(closure({"a": (1, [])}))[:4096]],
)
def test_what_is_no_database_is_told_so(content: bytes) -> None:
    with pytest.raises(Terminal) as caught:
        registered_paths(content, set())
    assert caught.value.message.startswith("the Nix database of the base cannot be read: ")


def test_a_database_that_would_count_for_ever_is_given_up() -> None:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute(
            "CREATE VIEW ValidPaths AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 "
            "FROM n) SELECT i AS id, 'x' AS path, 'y' AS hash, 1 AS narSize FROM n WHERE i < 0"
        )
        connection.execute("CREATE TABLE Refs (referrer, reference)")
        content = connection.serialize()
    with pytest.raises(Terminal, match="interrupted"):
        registered_paths(content, set())


@pytest.mark.parametrize(
    ("column", "value"),
    [("path", "/etc/passwd"), ("hash", "md5:x"), ("narSize", -1), ("path", None), ("hash", 7)],
)
def test_odd_rows_are_left_out(column: str, value: object) -> None:
    info = next(iter(GRAPH))
    row = {"path": info.path, "hash": f"sha256:{'0' * 64}", "narSize": 1, column: value}
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("CREATE TABLE ValidPaths (id, path, hash, narSize)")
        connection.execute("CREATE TABLE Refs (referrer, reference)")
        connection.execute("INSERT INTO ValidPaths VALUES (1, :path, :hash, :narSize)", row)
        content = connection.serialize()
    assert registered_paths(content, base_names(GRAPH)) == {}
