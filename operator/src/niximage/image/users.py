"""Who an image runs as: the entries in /etc/passwd and /etc/group, and a home.

Runtimes look up a name there to learn its number, and programs look up their own number to
learn their name and home. So whoever `config.user` names has an entry, a number too.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from niximage.errors import Reason, Terminal

FIRST_ID: Final = 1000  # of users that have a name only

_ROOT: Final = "root"
_NOBODY: Final = "nobody"
_KNOWN: Final = {_ROOT: 0, _NOBODY: 65534}
_KNOWN_NAMES: Final = {number: name for name, number in _KNOWN.items()}
_MAX_ID: Final = (1 << 31) - 1
PASSWD_FIELDS: Final = 7  # of a line in /etc/passwd
GROUP_FIELDS: Final = 4  # and in /etc/group
_ID: Final = re.compile(r"[0-9]{1,10}")


@dataclass(frozen=True, slots=True)
class Account:
    """A user.

    Attributes:
        name: its name.
        uid: its number.
        group: the name of its group.
        gid: the number of its group.
        home: its home, an absolute path.
    """

    name: str = _ROOT
    uid: int = 0
    group: str = _ROOT
    gid: int = 0
    home: str = "/root"


def account(user: str | None) -> Account:
    """The account that `config.user` means in an image with our own /etc/passwd.

    Args:
        user: `user` or `user:group`, each a name or a number, or None for root.

    Raises:
        Terminal: a number that no kernel takes.
    """
    if user is None:
        return Account()
    given, _, given_group = user.partition(":")
    if given.isdigit():
        uid = _number(given)
        name = _KNOWN_NAMES.get(uid, "user")
    else:
        name = given
        uid = _KNOWN.get(name, FIRST_ID)
    if not given_group:
        group, gid = name, uid
    elif given_group.isdigit():
        gid = _number(given_group)
        group = _KNOWN_NAMES.get(gid, name if gid == uid else "group")
    else:
        group = given_group
        own = uid if uid not in _KNOWN_NAMES else FIRST_ID
        gid = _KNOWN.get(group, own)
    home = {0: "/root", _KNOWN[_NOBODY]: "/var/empty"}.get(uid, f"/home/{name}")
    return Account(name, uid, group, gid, home)


def account_in(passwd: bytes, user: str | None) -> Account:
    """The account that `config.user` means in an image whose users bring their /etc/passwd.

    Raises:
        Terminal: it has no such name.
    """
    wanted = (user or _ROOT).partition(":")[0]
    for fields in fields_of(passwd, PASSWD_FIELDS):
        if wanted in {fields[0], fields[2]} and is_id(fields[3]):
            return Account(fields[0], int(fields[2]), "", int(fields[3]), fields[5] or "/")
    if wanted.isdigit():
        return Account("", _number(wanted), "", 0, "/")
    if wanted == _ROOT:
        return Account()
    raise Terminal(
        Reason.INVALID_SPEC,
        f"config.user is {wanted}, whom /etc/passwd of spec.files does not have",
        hint="Add a line for it, or leave /etc/passwd to the image",
    )


def fields_of(text: bytes, count: int) -> Iterator[list[str]]:
    """The lines of /etc/passwd or /etc/group, whoever wrote them, that mean anything.

    Args:
        text: the file.
        count: how many fields a line has; the third is a number.
    """
    for line in text.decode("utf-8", "replace").split("\n"):
        fields = line.split(":")
        if len(fields) == count and is_id(fields[2]) and "\0" not in line:
            yield fields


def is_id(text: str) -> bool:
    """Whether a text is the number of a user or group."""
    return _ID.fullmatch(text) is not None and int(text) <= _MAX_ID


def passwd(user: Account) -> bytes:
    """/etc/passwd with root, nobody and this user."""
    lines = ["root:x:0:0:root:/root:/bin/sh", "nobody:x:65534:65534:nobody:/var/empty:/bin/false"]
    if user.uid not in _KNOWN_NAMES:
        lines.append(f"{user.name}:x:{user.uid}:{user.gid}::{user.home}:/bin/sh")
    return "".join(f"{line}\n" for line in lines).encode()


def group(user: Account) -> bytes:
    """/etc/group with the groups of root, nobody and this user."""
    lines = ["root:x:0:", "nobody:x:65534:"]
    if user.gid not in _KNOWN_NAMES:
        lines.append(f"{user.group}:x:{user.gid}:")
    return "".join(f"{line}\n" for line in lines).encode()


def _number(digits: str) -> int:
    number = int(digits)
    if number > _MAX_ID:
        raise Terminal(
            Reason.INVALID_SPEC,
            f"there is no user or group {digits}",
            hint=f"Set config.user to numbers of at most {_MAX_ID}",
        )
    return number
