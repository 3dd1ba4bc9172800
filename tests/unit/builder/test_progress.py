"""Sizes as people read them."""

import pytest

from niximage.builder.progress import size, timed


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (2_034_368, "2.0 MB"),
        (3 * 10**9, "3.0 GB"),
        (5 * 10**15, "5000.0 TB"),
    ],
)
def test_size(count: int, text: str) -> None:
    assert size(count) == text


def test_what_fails_is_not_said_to_be_done() -> None:
    said: list[str] = []
    with pytest.raises(RuntimeError), timed(said.append, "packed"):
        raise RuntimeError
    assert said == []
    with timed(said.append, "packed"):
        pass
    assert said == ["packed in 0.0 s"]
