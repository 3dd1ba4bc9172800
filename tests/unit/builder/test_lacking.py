"""What is wrong with several platforms is told at once, and once."""

import pytest

from niximage.api.platforms import SYSTEMS, Platform, in_order
from niximage.builder.lacking import for_each
from niximage.errors import Reason, Retryable, Terminal
from niximage.image.documents import platform, platform_name

BOTH = in_order(SYSTEMS)


def wrong(**errors: Terminal) -> Terminal:
    """What is told of these errors, by architecture."""

    def look(platform: Platform) -> str:
        if (error := errors.get(platform.partition("/")[2])) is not None:
            raise error
        return platform

    with pytest.raises(Terminal) as caught:
        for_each(BOTH, look)
    return caught.value


def terminal(message: str, reason: Reason = Reason.PACKAGE_NOT_FOUND) -> Terminal:
    return Terminal(reason, message, hint="Look again")


def test_each_platform_is_looked_at() -> None:
    assert for_each(BOTH, str.upper) == {each: each.upper() for each in BOTH}
    assert for_each([], str.upper) == {}


def test_what_is_wrong_with_one_is_told_with_its_name() -> None:
    told = wrong(arm64=terminal("no hello"))
    assert told.message == "for linux/arm64: no hello"
    assert (told.reason, told.hint) == (Reason.PACKAGE_NOT_FOUND, "Look again")


def test_what_is_wrong_with_all_in_the_same_way_is_told_once() -> None:
    told = wrong(amd64=terminal("no hello"), arm64=terminal("no hello"))
    assert told.message == "no hello"


def test_different_troubles_are_told_together() -> None:
    told = wrong(amd64=terminal("no a"), arm64=Terminal(Reason.EVALUATION_FAILED, "b throws"))
    assert told.message == "for linux/amd64: no a. Look again\nfor linux/arm64: b throws"
    assert (told.reason, told.hint) == (Reason.PACKAGE_NOT_FOUND, "")


@pytest.mark.parametrize(
    "error",
    [terminal("too slow", Reason.BUILD_TIMEOUT), Retryable(Reason.SOURCE_UNAVAILABLE, "away")],
)
def test_what_a_further_platform_cannot_help_ends_it(error: Terminal | Retryable) -> None:
    looked: list[Platform] = []

    def look(platform: Platform) -> None:
        looked.append(platform)
        raise error

    with pytest.raises(type(error)) as caught:
        for_each(BOTH, look)
    assert caught.value is error
    assert looked == BOTH[:1]


def test_platforms_are_named_as_their_systems_documents_are() -> None:
    assert [platform_name(platform(SYSTEMS[each])) for each in BOTH] == BOTH
