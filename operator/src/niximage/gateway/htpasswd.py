"""Users in a file, as Apache's `htpasswd -B` writes it, with what each may pull.

    ci:$2y$10$…                      everything
    team-a:$2y$10$…:team-a/*,base/*  what the patterns match

The file is read again when it changes; one that cannot be read then leaves things as they are.
"""

import asyncio
import fnmatch
import logging
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import bcrypt

from niximage.errors import Reason, Terminal
from niximage.gateway.authority import Identity

LOGGER = logging.getLogger("niximage.gateway")

FILE_LIMIT: Final = 1 << 20  # bytes
CHECKS: Final = 2  # passwords looked at at once; whoever guesses waits, and nobody else
PASSWORD_LIMIT: Final = 72  # bytes that bcrypt looks at

# The cost is two to this power: 14 takes a second.
_HASH = re.compile(r"\$2[aby]\$(?:0[4-9]|1[0-4])\$[./A-Za-z0-9]{53}")
_PATTERN = re.compile(r"[a-z0-9._/*-]{1,255}")
# Checked for unknown users, so that the time does not tell who is known.
_NOBODY: Final = b"$2b$10$VpVWd01Z0QRcvKXGm4FX6urhY6gsYFtVVbtA32N9w0HZZcN6v1F.a"


@dataclass(frozen=True, slots=True)
class User:
    """One line.

    Attributes:
        hashed: bcrypt's hash of the password.
        patterns: repositories that may be pulled; `*` stands for anything.
    """

    hashed: bytes
    patterns: tuple[str, ...]


def parse(text: str, where: str) -> dict[str, User]:
    """The users of a file. Pure.

    Raises:
        Terminal: with the line that is none.
    """
    users: dict[str, User] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        name, _, rest = line.strip().partition(":")
        hashed, limited, patterns = rest.partition(":")
        named = tuple(part.strip() for part in patterns.split(",")) if limited else ("*",)
        if not name or name in users:
            raise _bad_line(where, number, "it names no user, or one that another line has")
        if _HASH.fullmatch(hashed) is None:
            raise _bad_line(where, number, "its password is no bcrypt hash of a cost from 4 to 14")
        if not all(_PATTERN.fullmatch(part) for part in named):
            raise _bad_line(where, number, "what the user may pull is no list of repositories")
        users[name] = User(hashed.encode(), named)
    return users


class HtpasswdAuthority:
    """Knows the users of a file."""

    takes_tokens = False

    def __init__(self, path: Path) -> None:
        """Read the file.

        Raises:
            Terminal: it cannot be read, or a line is wrong.
        """
        self._path = path
        self._turns = asyncio.Semaphore(CHECKS)
        self._seen = _mark(path)
        self._users = _load(path)

    async def identify(self, user: str, password: str) -> Identity | None:
        """Who this is, or None if the password is wrong or there is no such user."""
        self._load_again()
        known = self._users.get(user)
        given = password.encode()
        if len(given) > PASSWORD_LIMIT or b"\0" in given:
            return None
        hashed = _NOBODY if known is None else known.hashed
        # A tenth of a second of work: not in the event loop, and not on all processors.
        async with self._turns:
            right = await asyncio.to_thread(bcrypt.checkpw, given, hashed)
        return Identity(user) if right and known is not None else None

    async def may_pull(self, identity: Identity, repository: str) -> bool:
        """Whether one of the user's patterns matches."""
        self._load_again()
        known = self._users.get(identity.name)
        return known is not None and any(
            fnmatch.fnmatchcase(repository, pattern) for pattern in known.patterns
        )

    def _load_again(self) -> None:
        mark = _mark(self._path)
        if mark in (None, self._seen):
            return
        self._seen = mark
        try:
            self._users = _load(self._path)
        except Terminal as error:
            LOGGER.error("%s; the users known before stay", error)  # noqa: TRY400 (told to an admin, no bug)
        else:
            LOGGER.info("%s has changed: %d users", self._path, len(self._users))


def _mark(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size


def _load(path: Path) -> dict[str, User]:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise _bad_file(path, "it is no file")
        with path.open("rb") as file:
            content = file.read(FILE_LIMIT + 1)
        text = content.decode()
    except OSError as error:
        raise _bad_file(path, error.strerror or str(error)) from None
    except UnicodeDecodeError:
        raise _bad_file(path, "it is not UTF-8") from None
    if len(content) > FILE_LIMIT:
        raise _bad_file(path, f"it is larger than {FILE_LIMIT} bytes")
    return parse(text, str(path))


def _bad_file(path: Path, why: str) -> Terminal:
    return Terminal(
        Reason.INVALID_SPEC,
        f"cannot read users from {path}: {why}",
        hint="Make it with: htpasswd -B -c FILE USER",
    )


def _bad_line(where: str, number: int, why: str) -> Terminal:
    return Terminal(
        Reason.INVALID_SPEC,
        f"line {number} of {where} cannot be used: {why}",
        hint="Lines are USER:HASH or USER:HASH:REPOSITORY,…; htpasswd -B makes the hash",
    )
