"""Popularity data from a URL: read once, bounded, and told of where it is no good."""

import http.server
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import pytest

from niximage.api.contents import Layering
from niximage.builder.popularity import layer_strategy
from niximage.errors import Reason, Retryable, Terminal
from niximage.image.popularity import DATA_LIMIT, Popularity

POPULAR: Final = Layering(strategy="Popularity")


@dataclass
class Served:
    """What a server answers, and what it was asked."""

    url: str = ""
    answers: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)


@pytest.fixture
def served() -> Iterator[Served]:
    found = Served()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found.asked.append(self.path)
            status, body = found.answers.get(self.path, (404, b""))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (the base class's name)
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    found.url = f"http://127.0.0.1:{server.server_address[1]}"
    yield found
    server.shutdown()
    server.server_close()


def test_data_is_read_where_the_strategy_wants_it(served: Served) -> None:
    served.answers["/data/popularity.json"] = (200, json.dumps({"openssl-3.0.8": 512}).encode())
    url = f"{served.url}/data/popularity.json"
    found = layer_strategy(POPULAR, url)
    assert isinstance(found, Popularity)
    assert found.counts == {"openssl-3.0.8": 512}
    assert layer_strategy(Layering(), url) is None
    assert served.asked == ["/data/popularity.json"]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((404, b""), "there is nothing"),
        ((200, b"<html>"), "it is not JSON"),
        ((200, b" " * (DATA_LIMIT + 1)), "cannot be used"),
    ],
)
def test_what_is_no_data_is_the_admins_to_mend(
    served: Served, answer: tuple[int, bytes], words: str
) -> None:
    served.answers["/x.json"] = answer
    with pytest.raises(Terminal, match=words) as refused:
        layer_strategy(POPULAR, f"{served.url}/x.json")
    assert refused.value.reason is Reason.INVALID_SPEC


def test_a_server_that_is_away_is_tried_again_later() -> None:
    with pytest.raises(Retryable, match="the popularity data") as away:
        layer_strategy(POPULAR, "http://127.0.0.1:9/x.json")
    assert away.value.reason is Reason.SOURCE_UNAVAILABLE


def test_without_a_url_it_says_who_can_give_one() -> None:
    with pytest.raises(Terminal, match="Set popularityURL in the NixBuildClass"):
        layer_strategy(POPULAR, "")
