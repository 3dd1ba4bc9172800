"""The image's own Nix database: what makes `nix` work inside the image.

Its paths are registered as `nix-store --load-db` would, but with one time for all, and without
derivers and signatures, which differ between machines; the bytes are the same everywhere.
Links among the garbage collector's roots keep what the image was asked for.
"""

import base64
import re
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from typing import Any, Final

from niximage.errors import Reason, Terminal
from niximage.image.closure import PATH_LIMIT, Closure, PathInfo, is_store_path
from niximage.image.entries import FileEntry, directory, file, symlink
from niximage.image.sqlite import Index, Row, Table, database

SCHEMA_VERSION: Final = 10  # of Nix since 2.0

_STATE: Final = b"nix/var/nix"
DATABASE_NAME: Final = _STATE + b"/db/db.sqlite"
JOURNALS: Final = tuple(DATABASE_NAME + end for end in (b"-journal", b"-shm", b"-wal"))
"""What SQLite keeps beside a database while it is open, and believes when it opens one."""

_HASH = re.compile(r"sha256:([0-9a-f]{64})")
_STEPS_LIMIT: Final = 100_000_000  # of SQLite's machine: a hundred times what a large store takes
_STEPS: Final = 1_000_000  # between two looks at that
_REFERENCES: Final = """SELECT a.path, b.path FROM Refs
    JOIN ValidPaths AS a ON a.id = referrer JOIN ValidPaths AS b ON b.id = reference LIMIT ?"""
_REFERENCES_LIMIT: Final = 50 * PATH_LIMIT
_REGISTERED: Final = 1  # seconds since 1970, as the files in the store
_FILE_MODE: Final = 0o644
# Without it, Nix as root looks for a group of build users, and fails to build where none is.
_SETTINGS: Final = b"build-users-group =\n"

_VALID_PATHS: Final = """CREATE TABLE ValidPaths (
    id               integer primary key autoincrement not null,
    path             text unique not null,
    hash             text not null,
    registrationTime integer not null,
    deriver          text,
    narSize          integer,
    ultimate         integer,
    sigs             text,
    ca               text
)"""
_REFS: Final = """CREATE TABLE Refs (
    referrer  integer not null,
    reference integer not null,
    primary key (referrer, reference),
    foreign key (referrer) references ValidPaths(id) on delete cascade,
    foreign key (reference) references ValidPaths(id) on delete restrict
)"""
_DELETE_SELF_REFS: Final = """CREATE TRIGGER DeleteSelfRefs before delete on ValidPaths
  begin
    delete from Refs where referrer = old.id and reference = old.id;
  end"""
_DERIVATION_OUTPUTS: Final = """CREATE TABLE DerivationOutputs (
    drv  integer not null,
    id   text not null,
    path text not null,
    primary key (drv, id),
    foreign key (drv) references ValidPaths(id) on delete cascade
)"""


def database_entries(
    closure: Closure, roots: Iterable[str], *, uid: int = 0, gid: int = 0
) -> Iterator[FileEntry]:
    """What Nix needs inside an image, parents first, but for directories that need no owner.

    Args:
        closure: the store paths of the image.
        roots: those of them that no garbage collection inside may take away.
        uid: who uses Nix inside the image, and so owns store and database.
        gid: their group.
    """
    for name in (b"nix/store", _STATE, *(_STATE + b"/" + n for n in (b"db", b"gcroots"))):
        yield directory(name, uid=uid, gid=gid)
    registered = nix_database(closure)
    yield file(DATABASE_NAME, registered, _FILE_MODE, uid=uid, gid=gid)
    version = str(SCHEMA_VERSION).encode()
    yield file(_STATE + b"/db/schema", version, _FILE_MODE, uid=uid, gid=gid)
    for path in sorted(set(roots)):
        name = path.rpartition("/")[2].encode()
        yield symlink(_STATE + b"/gcroots/niximage/" + name, path.encode())
    yield symlink(_STATE + b"/gcroots/profiles", b"/nix/var/nix/profiles")
    for name in (_STATE + b"/profiles", _STATE + b"/temproots", b"nix/var/log/nix"):
        yield directory(name, uid=uid, gid=gid)
    yield file(b"etc/nix/nix.conf", _SETTINGS, _FILE_MODE)


def emptied(journals: Iterable[bytes], registered: FileEntry) -> Iterator[FileEntry]:
    """Empty files in the place of a base's journals: they are of its database, not of ours.

    Whoever was killed with the base's database open left them; SQLite would play them back into
    the one that lies there now.

    Args:
        journals: the names of those of `JOURNALS` that the base has.
        registered: the entry of the image's own database.
    """
    for name in journals:
        yield replace(registered, name=name, content=b"", size=0)


def nix_database(closure: Closure) -> bytes:
    """The database in which exactly a closure's paths are valid."""
    numbers = {path: number for number, path in enumerate(closure.infos, start=1)}
    paths: list[Row] = []
    references: list[Row] = []
    for info in closure:
        digest = base64.b64decode(info.nar_hash.removeprefix("sha256-")).hex()
        paths.append(
            (None, info.path, f"sha256:{digest}", _REGISTERED, None, info.nar_size, *[None] * 3)
        )
        own = [info.path] if info.refers_to_itself else []
        references += [
            (numbers[info.path], numbers[reference])
            for reference in sorted([*info.references, *own])
        ]
    return database(
        [
            Table(
                "ValidPaths",
                _VALID_PATHS,
                paths,
                indices=(Index("sqlite_autoindex_ValidPaths_1", (1,)),),
                triggers=(("DeleteSelfRefs", _DELETE_SELF_REFS),),
            ),
            Table(
                "sqlite_sequence",
                "CREATE TABLE sqlite_sequence(name,seq)",
                [("ValidPaths", len(paths))],
            ),
            Table(
                "Refs",
                _REFS,
                references,
                indices=(
                    Index("sqlite_autoindex_Refs_1", (0, 1)),
                    Index("IndexReferrer", (0,), "CREATE INDEX IndexReferrer on Refs(referrer)"),
                    Index("IndexReference", (1,), "CREATE INDEX IndexReference on Refs(reference)"),
                ),
            ),
            Table(
                "DerivationOutputs",
                _DERIVATION_OUTPUTS,
                indices=(
                    Index("sqlite_autoindex_DerivationOutputs_1", (0, 1)),
                    Index(
                        "IndexDerivationOutputs",
                        (2,),
                        "CREATE INDEX IndexDerivationOutputs on DerivationOutputs(path)",
                    ),
                ),
            ),
        ]
    )


def registered_paths(content: bytes, there: Collection[str]) -> Mapping[str, PathInfo]:
    """The paths that are valid in a database that anybody may have made.

    Args:
        content: the database.
        there: the names, `<hash>-<name>`, of the store paths that are really in its image.

    Returns:
        Path to info, for those paths that are there with all that they refer to.

    Raises:
        Terminal: it is no database of Nix, or too large.
    """
    # A journal that Nix kept beside it, if any, is not in reach: read what is in the file.
    plain = content[:18] + b"\x01\x01" + content[20:]
    left = iter(range(_STEPS_LIMIT // _STEPS))
    try:
        with closing(sqlite3.connect(":memory:")) as connection:
            connection.deserialize(plain)
            connection.execute("PRAGMA trusted_schema = OFF")
            connection.set_progress_handler(lambda: next(left, None) is None, _STEPS)
            rows = connection.execute(
                "SELECT path, hash, narSize FROM ValidPaths LIMIT ?", [PATH_LIMIT + 1]
            ).fetchall()
            references = connection.execute(_REFERENCES, [_REFERENCES_LIMIT]).fetchall()
    except (sqlite3.Error, OverflowError, UnicodeDecodeError) as error:
        raise _unreadable(str(error)) from None
    if len(rows) > PATH_LIMIT:
        raise _unreadable(f"it has more than {PATH_LIMIT} paths")
    refers: dict[Any, list[Any]] = {}
    for referrer, reference in references:
        refers.setdefault(referrer, []).append(reference)
    found: dict[str, PathInfo] = {}
    for path, digest, size in rows:
        if not (isinstance(path, str) and is_store_path(path) and path[11:] in there):
            continue
        match = _HASH.fullmatch(digest) if isinstance(digest, str) else None
        if match is not None and isinstance(size, int) and size >= 0:
            nar_hash = base64.b64encode(bytes.fromhex(match[1])).decode()
            # Whoever made it may refer to anything: what is no text is not found below.
            others = tuple(sorted({r for r in refers.get(path, ()) if r != path}, key=str))
            info = PathInfo(path, f"sha256-{nar_hash}", size, others)
            found[path] = replace(info, refers_to_itself=path in refers.get(path, ()))
    return _whole(found)


def _whole(found: dict[str, PathInfo]) -> dict[str, PathInfo]:
    """Those of the paths that are there with all that they refer to, over any number of steps."""
    users: dict[Any, list[str]] = {}
    for path, info in found.items():
        for reference in info.references:
            users.setdefault(reference, []).append(path)
    lacking = [path for reference in users.keys() - found.keys() for path in users[reference]]
    while lacking:
        if found.pop(gone := lacking.pop(), None) is not None:
            lacking += users.get(gone, ())
    return found


def _unreadable(why: str) -> Terminal:
    return Terminal(
        Reason.INVALID_SPEC,
        f"the Nix database of the base cannot be read: {why}",
        hint="Choose another base, or leave spec.nixDatabase out",
    )
