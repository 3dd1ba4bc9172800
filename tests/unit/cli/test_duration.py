"""Durations among the options."""

import pytest

from niximage.cli.duration import length_of
from niximage.errors import Terminal


def test_durations_are_those_of_the_api() -> None:
    assert length_of("1h30m", "--timeout") == 5400


@pytest.mark.parametrize("text", ["", "soon", "10", "1h later", "x5m", "0s", "5m\n", "-1h"])
def test_what_is_no_duration_is_told_with_its_option(text: str) -> None:
    with pytest.raises(Terminal, match=r"^--timeout .* is no duration"):
        length_of(text, "--timeout")
