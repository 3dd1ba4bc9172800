"""Whom an image runs as, over a base that has users of its own."""

import pytest

from niximage.image.base_users import BaseUsers
from niximage.image.users import Account, account, group, passwd

BASE = BaseUsers(
    passwd=b"root:x:0:0:root:/root:/bin/bash\nnode:x:1000:1000::/home/node:/bin/sh\n"
    b"www-data:x:33:34::/var/www:/bin/false\nbroken:x:a:b\n",
    group=b"root:x:0:\nnode:x:1000:\nwww:x:34:a,b\nstaff:x:50:",
)


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        (None, Account("root", 0, "", 0, "/root")),
        ("node", Account("node", 1000, "", 1000, "/home/node")),
        ("1000", Account("node", 1000, "", 1000, "/home/node")),
        ("www-data", Account("www-data", 33, "", 34, "/var/www")),
        ("www-data:staff", Account("www-data", 33, "staff", 50, "/var/www")),
        ("app", Account("app", 1001, "app", 1001, "/home/app")),
        ("app:staff", Account("app", 1001, "staff", 50, "/home/app")),
        ("4000", Account("user", 4000, "user", 4000, "/home/user")),
        ("4000:50", Account("user", 4000, "group", 50, "/home/user")),
    ],
)
def test_users_of_the_base_are_found_and_others_get_free_numbers(
    user: str | None, expected: Account
) -> None:
    assert BASE.account(user) == expected


def test_lines_are_added_only_for_whom_the_base_lacks() -> None:
    assert BASE.passwd_with(BASE.account("node")) == BASE.passwd
    assert BASE.group_with(BASE.account("www-data:staff")) == BASE.group
    app = BASE.account("app")
    assert BASE.passwd_with(app) == BASE.passwd + b"app:x:1001:1001::/home/app:/bin/sh\n"
    assert BASE.group_with(app) == BASE.group + b"\napp:x:1001:\n"


@pytest.mark.parametrize("number", ["9" * 5000, "\u00b2", "4294967296"])
def test_numbers_that_no_kernel_takes_are_passed_over(number: str) -> None:
    line = f"app:x:{number}:{number}::/:/bin/sh\nweb:x:33:{number}::/:/bin/sh\n"
    odd = BaseUsers(line.encode(), f"app:x:{number}:\n".encode())
    for user in ("app", "web", "33", "1000"):
        assert odd.account(user).gid < 1 << 31
        assert odd.group_with(odd.account(user)).startswith(odd.group)


@pytest.mark.parametrize("user", [None, "app", "1000:50", "nobody"])
def test_without_a_base_all_is_as_in_any_image(user: str | None) -> None:
    none = BaseUsers()
    found = none.account(user)
    assert found == account(user)
    assert none.passwd_with(found) == passwd(found)
    assert none.group_with(found) == group(found)
