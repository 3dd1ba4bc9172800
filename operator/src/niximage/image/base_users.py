"""The users that a base has: they stay, and whom the image runs as is one of them or added."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from niximage.image.users import Account, account, group, passwd

_PASSWD_FIELDS = 7
_GROUP_FIELDS = 4


@dataclass(frozen=True, slots=True)
class BaseUsers:
    """/etc/passwd and /etc/group of a base, empty where there is none."""

    passwd: bytes = b""
    group: bytes = b""

    def account(self, user: str | None) -> Account:
        """The account that `config.user` means; a new one has numbers that nobody has.

        Raises:
            Terminal: a number that no kernel takes.
        """
        own = account(user)
        name, _, group_name = (user or "root").partition(":")
        users = list(_lines(self.passwd, _PASSWD_FIELDS))
        groups = {fields[0]: int(fields[2]) for fields in _lines(self.group, _GROUP_FIELDS)}
        known = next((fields for fields in users if name in (fields[0], fields[2])), None)
        if known is not None and known[3].isdigit():
            own = replace(own, name=known[0], uid=int(known[2]), home=known[5] or "/")
            if not group_name:
                return replace(own, group="", gid=int(known[3]))
        elif not name.isdigit():
            own = replace(own, uid=_free(own.uid, {int(fields[2]) for fields in users}))
        if own.group in groups:
            return replace(own, gid=groups[own.group])
        if group_name.isdigit() or (name.isdigit() and not group_name):
            return own
        return replace(own, gid=_free(own.gid, set(groups.values())))

    def passwd_with(self, user: Account) -> bytes:
        """/etc/passwd with this user."""
        if not self.passwd:
            return passwd(user)
        if any(user.uid == int(f[2]) for f in _lines(self.passwd, _PASSWD_FIELDS)):
            return self.passwd
        line = f"{user.name}:x:{user.uid}:{user.gid}::{user.home}:/bin/sh\n"
        return _ended(self.passwd) + line.encode()

    def group_with(self, user: Account) -> bytes:
        """/etc/group with this user's group."""
        if not self.group:
            return group(user)
        if any(user.gid == int(fields[2]) for fields in _lines(self.group, _GROUP_FIELDS)):
            return self.group
        return _ended(self.group) + f"{user.group or user.name}:x:{user.gid}:\n".encode()


def _lines(text: bytes, fields: int) -> Iterator[list[str]]:
    """The lines of this many fields whose third is a number."""
    for line in text.decode("utf-8", "replace").splitlines():
        parts = line.split(":")
        if len(parts) == fields and parts[2].isdecimal() and parts[2].isascii():
            yield parts


def _free(number: int, taken: set[int]) -> int:
    while number in taken:
        number += 1
    return number


def _ended(text: bytes) -> bytes:
    return text if text.endswith(b"\n") else text + b"\n"
