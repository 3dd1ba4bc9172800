"""Delays are spread a little, so that images applied together do not ask together for ever."""

from niximage.controller.operator import JITTER, spread


def test_a_delay_is_never_shorter_and_little_longer() -> None:
    delays = {spread(600.0) for _ in range(200)}
    assert min(delays) >= 600
    assert max(delays) <= 600 * (1 + JITTER)
    assert max(delays) - min(delays) > 10, "spread over a good part of half a minute"
