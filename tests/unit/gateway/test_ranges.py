"""Ranges and entity tags, as RFC 9110 has them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from niximage.gateway.ranges import Span, UnsatisfiableError, etag_matches, parse_range

SIZE = 100


@pytest.mark.parametrize(
    ("header", "start", "length"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=10-19", 10, 10),
        ("bytes=10-", 10, 90),
        ("bytes=-10", 90, 10),
        ("bytes=-1000", 0, 100),
        ("bytes=50-1000", 50, 50),
        ("bytes= 1-2 ", 1, 2),
    ],
)
def test_a_range(header: str, start: int, length: int) -> None:
    assert parse_range(header, SIZE) == Span(start, length, SIZE)


def test_its_content_range() -> None:
    assert Span(10, 10, SIZE).content_range == "bytes 10-19/100"


@pytest.mark.parametrize(
    "header",
    [
        *(None, "", "bytes", "bytes=", "bytes=-", "bytes=a-b", "bytes=0-1,5-6", "items=0-1"),
        *("bytes=9-1", "bytes=--1", "bytes=1-2-3", "bytes=" + "9" * 30 + "-", "bytes=²-"),
    ],
)
def test_what_is_answered_with_the_whole(header: str | None) -> None:
    assert parse_range(header, SIZE) is None


@pytest.mark.parametrize("header", ["bytes=100-", "bytes=100-200", "bytes=-0"])
def test_what_no_byte_satisfies(header: str) -> None:
    with pytest.raises(UnsatisfiableError):
        parse_range(header, SIZE)


@pytest.mark.parametrize("header", ["bytes=0-", "bytes=-1", "bytes=0-0"])
def test_nothing_has_no_range(header: str) -> None:
    with pytest.raises(UnsatisfiableError):
        parse_range(header, 0)


@given(st.integers(0, 50), st.integers(0, 50), st.integers(1, 40))
def test_a_range_is_a_slice(first: int, last: int, size: int) -> None:
    content = bytes(range(size))
    try:
        span = parse_range(f"bytes={first}-{last}", size)
    except UnsatisfiableError:
        assert content[first : last + 1] == b""
    else:
        if span is None:
            assert last < first
        else:
            expected = content[first : last + 1]
            assert content[span.start : span.start + span.length] == expected
            assert span.length > 0


@pytest.mark.parametrize(
    ("header", "matches"),
    [
        (None, False),
        ("", False),
        ('"a"', True),
        ('W/"a"', True),
        ('"b", "a"', True),
        ("*", True),
        ('"b"', False),
        ("a", False),
    ],
)
def test_if_none_match(header: str | None, matches: bool) -> None:
    assert etag_matches(header, '"a"') is matches
