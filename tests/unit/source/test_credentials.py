"""A Secret's keys become files, settings and variables for git, or a clear word of what lacks."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from niximage.errors import Reason, Retryable
from niximage.source.credentials import VALUE_LIMIT, Credentials, access, read_credentials

HTTPS = "https://git.example.org/team/set.git"
SSH = "ssh://git@git.example.org/team/set.git"
HOME = Path("/tmp/home of git")  # noqa: S108 (only a name)


def credentials(**values: str) -> Credentials:
    named = {name.replace("__", "."): value.encode() for name, value in values.items()}
    return Credentials("the Secret team-a/set", named)


@pytest.mark.parametrize(
    ("url", "values", "words"),
    [
        (HTTPS, {}, "does not exist, or has none of these"),
        (HTTPS, {"username": "me"}, "takes username and password, or bearerToken; it has username"),
        (HTTPS, {"username": "me", "password": " \n"}, ""),
        (HTTPS, {"identity": "x", "known_hosts": "y"}, "it has identity, known_hosts"),
        (HTTPS, {"bearerToken": "two words"}, "its bearerToken is no token"),
        (HTTPS, {"bearerToken": 'a"\n[core]'}, "its bearerToken is no token"),
        (HTTPS, {"username": "a\nb", "password": "c"}, "has control characters"),
        (HTTPS, {"password": "x" * (VALUE_LIMIT + 1), "username": "me"}, "more than 262144 bytes"),
        (SSH, {}, "takes identity and known_hosts; it does not exist, or has none of these"),
        (SSH, {"identity": "x"}, "takes identity and known_hosts; it has identity"),
        (SSH, {"identity": "x", "known_hosts": "y"}, "its identity is no private key"),
        (SSH, {"username": "me", "password": "x"}, "it has password, username"),
    ],
)
def test_what_lacks_is_told(url: str, values: dict[str, str], words: str) -> None:
    if not words:
        access(url, credentials(**values), HOME, "ssh")  # a password of a blank is one
        return
    with pytest.raises(Retryable) as caught:
        access(url, credentials(**values), HOME, "ssh")
    assert caught.value.reason is Reason.CREDENTIALS_MISSING
    assert caught.value.message.startswith("the Secret team-a/set does not open the source")
    assert words in caught.value.message
    assert caught.value.hint


plain = st.text(st.characters(min_codepoint=32, exclude_categories=["C"]), min_size=1)


@given(plain, plain)
def test_any_user_and_password_reach_git_whole(user: str, password: str) -> None:
    let_in = access(HTTPS, credentials(username=user, password=password), HOME, "ssh")
    line = let_in.files["credentials"].decode()
    assert line.endswith("\n")
    parts = urlsplit(line.removesuffix("\n"))
    assert (parts.scheme, parts.hostname) == ("https", "git.example.org")
    assert unquote(parts.username or "") == user
    assert unquote(parts.password or "") == password
    assert "'/tmp/home of git/credentials'" in let_in.settings["credential.helper"]


@given(st.text("%&/@:#Ω", min_size=1))
def test_no_secret_is_left_in_what_git_says(password: str) -> None:
    found = credentials(username="me", password=password)
    said = found.redact(f"you sent {password} twice {password}")
    assert said == "you sent … twice …"


def test_a_certificate_authority_comes_along() -> None:
    for keys in ({"bearerToken": "abc"}, {}):
        given = credentials(**keys, ca__crt="-----BEGIN CERTIFICATE-----")
        let_in = access(HTTPS, given, HOME, "ssh")
        assert let_in.environment["GIT_SSL_CAINFO"] == str(HOME / "ca.crt")
        assert let_in.files["ca.crt"].startswith(b"-----BEGIN")


def test_a_user_without_password_is_not_let_pass_for_a_certificate() -> None:
    with pytest.raises(Retryable, match="takes username and password, or bearerToken; it has ca"):
        access(HTTPS, credentials(username="me", ca__crt="-----BEGIN"), HOME, "ssh")


def test_other_keys_of_a_secret_are_not_read(tmp_path: Path) -> None:
    for name in ("username", "password", "other", "..data"):
        (tmp_path / name).write_text(name)
    assert set(read_credentials(tmp_path, "x").values) == {"username", "password"}
    assert read_credentials(tmp_path / "absent", "x").values == {}


def test_a_key_that_is_a_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "identity").mkdir()
    with pytest.raises(Retryable, match="its identity cannot be read"):
        read_credentials(tmp_path, "x")
