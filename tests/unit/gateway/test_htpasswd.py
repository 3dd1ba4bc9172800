"""Files of users: what htpasswd writes is read, and nothing less than bcrypt."""

from pathlib import Path

import bcrypt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from niximage.errors import Terminal
from niximage.gateway.authority import Identity
from niximage.gateway.htpasswd import HtpasswdAuthority, parse

SALT = b"$2b$04$" + b"." * 22  # always the same: the tests' names hold the hashes
HASH = bcrypt.hashpw(b"right", SALT).decode()
OTHER = bcrypt.hashpw(b"other", SALT).decode()


def test_lines_blanks_and_comments() -> None:
    users = parse(f"# who\n\nci:{HASH}\nteam:{HASH}:team-a/*, base/web \n", "users")
    assert users["ci"].patterns == ("*",)
    assert users["team"].patterns == ("team-a/*", "base/web")
    assert users["ci"].hashed == HASH.encode()


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("ci", "no bcrypt hash"),
        (f":{HASH}", "names no user"),
        ("ci:plain", "no bcrypt hash"),
        ("ci:$apr1$salt$hashhashhashhashhashha", "no bcrypt hash"),
        ("ci:{SHA}2jmj7l5rSw0yVb/vlWAYkK/YBwk=", "no bcrypt hash"),
        (f"ci:{HASH.replace('$04$', '$31$')}", "no bcrypt hash"),
        (f"ci:{HASH}:", "no list of repositories"),
        (f"ci:{HASH}:team a/*", "no list of repositories"),
        (f"ci:{HASH}\nci:{OTHER}", "another line has"),
    ],
)
def test_a_line_that_cannot_be_used_is_named(line: str, why: str) -> None:
    with pytest.raises(Terminal, match=why) as caught:
        parse(f"# a comment first\n{line}", "users")
    assert "of users" in str(caught.value)
    assert "htpasswd -B" in str(caught.value)


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        users = parse(text, "users")
    except Terminal:
        return
    assert not users  # no random text holds a hash


def users(path: Path, *lines: str) -> HtpasswdAuthority:
    path.write_text("\n".join(lines))
    return HtpasswdAuthority(path)


async def test_who_knows_the_password_is_the_user(tmp_path: Path) -> None:
    known = users(tmp_path / "users", f"ci:{HASH}")
    assert await known.identify("ci", "right") == Identity("ci")
    for name, password in (
        ("ci", "wrong"),
        ("nobody", "right"),
        ("nobody", "nobody"),
        ("ci", ""),
        ("ci", "right\0more"),
        ("ci", "x" * 73),
    ):
        assert await known.identify(name, password) is None


@pytest.mark.parametrize(
    ("patterns", "repository", "granted"),
    [
        ("", "team-a/web", True),
        (":team-a/*", "team-a/web", True),
        (":team-a/*", "team-a/deep/web", True),
        (":team-a/*", "team-ab/web", False),
        (":team-a/*", "team-b/team-a/web", False),
        (":team-a/web,team-b/*", "team-b/api", True),
        (":team-a/web", "team-a/web2", False),
    ],
)
async def test_what_a_user_may_pull(
    tmp_path: Path, patterns: str, repository: str, granted: bool
) -> None:
    known = users(tmp_path / "users", f"ci:{HASH}{patterns}")
    assert await known.may_pull(Identity("ci"), repository) is granted
    assert await known.may_pull(Identity("nobody"), repository) is False


async def test_a_changed_file_is_read_again_and_a_bad_one_is_not_used(tmp_path: Path) -> None:
    path = tmp_path / "users"
    known = users(path, f"ci:{HASH}")
    path.write_text(f"new:{HASH}\n")
    assert await known.identify("ci", "right") is None
    assert await known.identify("new", "right") == Identity("new")
    path.write_text("no line of a user")
    assert await known.identify("new", "right") == Identity("new")
    path.unlink()
    assert await known.identify("new", "right") == Identity("new")


def test_a_file_that_is_not_there_is_told_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(Terminal, match="cannot read users from"):
        HtpasswdAuthority(tmp_path / "absent")
    with pytest.raises(Terminal, match="it is no file"):
        HtpasswdAuthority(tmp_path)
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(Terminal, match="not UTF-8"):
        HtpasswdAuthority(tmp_path / "binary")
