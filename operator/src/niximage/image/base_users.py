"""The users that a base has: they stay, and whom the image runs as is one of them or added."""

from dataclasses import dataclass, replace

from niximage.image.users import (
    GROUP_FIELDS,
    PASSWD_FIELDS,
    Account,
    account,
    fields_of,
    group,
    is_id,
    passwd,
)


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
        users = list(fields_of(self.passwd, PASSWD_FIELDS))
        groups = {fields[0]: int(fields[2]) for fields in fields_of(self.group, GROUP_FIELDS)}
        known = next((fields for fields in users if name in (fields[0], fields[2])), None)
        if known is not None and is_id(known[3]):
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
        if any(user.uid == int(fields[2]) for fields in fields_of(self.passwd, PASSWD_FIELDS)):
            return self.passwd
        line = f"{user.name}:x:{user.uid}:{user.gid}::{user.home}:/bin/sh\n"
        return _ended(self.passwd) + line.encode()

    def group_with(self, user: Account) -> bytes:
        """/etc/group with this user's group."""
        if not self.group:
            return group(user)
        if any(user.gid == int(fields[2]) for fields in fields_of(self.group, GROUP_FIELDS)):
            return self.group
        return _ended(self.group) + f"{user.group or user.name}:x:{user.gid}:\n".encode()


def _free(number: int, taken: set[int]) -> int:
    while number in taken:
        number += 1
    return number


def _ended(text: bytes) -> bytes:
    return text if text.endswith(b"\n") else text + b"\n"
