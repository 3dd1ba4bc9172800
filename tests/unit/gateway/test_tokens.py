"""Tokens say what may be pulled, for a while, and cannot be made by others."""

import time

import jwt
import pytest

from niximage.gateway.tokens import LIFETIME, SERVICE, Tokens, wanted_repositories

KEY = b"k" * 32


def test_a_token_says_what_it_was_made_for() -> None:
    made = Tokens(KEY).make("ci", ["team-a/web", "team-b/api"])
    assert made["token"] == made["access_token"]
    assert made["expires_in"] == LIFETIME
    claims = Tokens(KEY).read(made["token"])
    assert claims is not None
    assert (claims.user, set(claims.repositories)) == (
        "ci",
        {"team-a/web", "team-b/api"},
    )
    assert claims.expires == pytest.approx(time.time() + LIFETIME, abs=5)


def claims(**changes: object) -> dict[str, object]:
    now = int(time.time())
    good: dict[str, object] = {
        "iss": SERVICE,
        "aud": SERVICE,
        "sub": "ci",
        "exp": now + 60,
        "access": [{"type": "repository", "name": "team-a/web", "actions": ["pull"]}],
    }
    return {name: value for name, value in {**good, **changes}.items() if value is not None}


def test_what_is_signed_right_is_read() -> None:
    assert Tokens(KEY).read(jwt.encode(claims(), KEY, "HS256")) is not None


@pytest.mark.parametrize(
    "changes",
    [
        {"exp": int(time.time()) - 1},
        {"exp": None},
        {"iss": "another"},
        {"aud": "another"},
        {"sub": None},
        {"access": None},
        {"access": "all"},
        {"access": [{"type": "repository"}]},
    ],
)
def test_what_is_not_ours_or_over_is_not_believed(changes: dict[str, object]) -> None:
    assert Tokens(KEY).read(jwt.encode(claims(**changes), KEY, "HS256")) is None


def test_what_another_signed_or_nobody_is_not_believed() -> None:
    assert Tokens(KEY).read(jwt.encode(claims(), b"x" * 32, "HS256")) is None
    assert Tokens(KEY).read(jwt.encode(claims(), KEY * 2, "HS512")) is None
    assert Tokens(KEY).read(jwt.encode(claims(), "", "none")) is None
    for text in ("", "a.b.c", "é", "x" * 9000):
        assert Tokens(KEY).read(text) is None


@pytest.mark.parametrize(
    ("scopes", "wanted"),
    [
        ([], []),
        (["repository:team-a/web:pull"], ["team-a/web"]),
        (["repository:team-a/web:pull,push"], ["team-a/web"]),
        (["repository:team-a/web:*"], ["team-a/web"]),
        (["repository:a:pull repository:b:pull", "repository:a:pull"], ["a", "b"]),
        (["repository(plugin):team-a/web:pull"], ["team-a/web"]),
        (["repository:team-a/web:push"], []),
        (["registry:catalog:*", "", "repository::pull", "repository:UP:pull"], []),
        (["repository:../x:pull", "nonsense"], []),
    ],
)
def test_what_scopes_ask_for(scopes: list[str], wanted: list[str]) -> None:
    assert wanted_repositories(scopes) == wanted


def test_scopes_are_bounded() -> None:
    assert len(wanted_repositories([f"repository:r{n}:pull" for n in range(1000)])) == 100
