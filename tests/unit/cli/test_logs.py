"""Logs on a terminal: what a build writes is shown, and steers nothing."""

import codecs

import pytest

from niximage.cli.cluster.logs import printable

HOSTILE = "a\x1b[2Jb\x1b]0;title\x07c\x9b31md\re\u202ef\tg\nä"


@pytest.mark.parametrize("width", [1, 2, 3, 100])
def test_control_characters_never_reach_a_terminal(width: int) -> None:
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    data = HOSTILE.encode()
    pieces = (data[start : start + width] for start in range(0, len(data), width))
    shown = b"".join(printable(decoder, piece) for piece in pieces).decode()
    assert shown == "a[2Jb]0;titlec31mdef\tg\nä"
