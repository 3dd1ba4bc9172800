"""Each request is one line of JSON; probes are none."""

import io
import json
from pathlib import Path
from typing import Any

from integration.gateway.conftest import running
from integration.tiny import tiny_image
from niximage.bucket.file import FileStore
from niximage.gateway import AccessLog

IMAGE = tiny_image(b"one")
MANIFEST = f"/v2/team/app/manifests/{IMAGE.digest}"


def logged(tmp_path: Path, *asked: tuple[str, str]) -> list[dict[str, Any]]:
    """The lines that requests leave, in their order."""
    store = FileStore(tmp_path)
    IMAGE.publish(store, "team/app")
    stream = io.BytesIO()
    with running(store, access_log=AccessLog(stream)) as client:
        for method, path in asked:
            client.ask(path, method, User_Agent='kube"let\t', Range="bytes=0-")
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_says_what_was_asked_and_answered(tmp_path: Path) -> None:
    (line,) = logged(tmp_path, ("GET", f"{MANIFEST}?x=1"))
    assert line.pop("time") > 1_700_000_000
    assert 0 <= line.pop("seconds") < 10
    assert line == {
        "method": "GET",
        "path": f"{MANIFEST}?x=1",
        "status": 200,
        "bytes": len(IMAGE.manifest),
        "remote": "127.0.0.1",
        "userAgent": 'kube"let',
        "range": "bytes=0-",
    }


def test_repeated_requests_have_lines_like_the_first(tmp_path: Path) -> None:
    lines = logged(tmp_path, *[("GET", MANIFEST)] * 4)
    for line in lines:
        del line["time"], line["seconds"]
    assert lines == [lines[0]] * 4


def test_probes_are_quiet(tmp_path: Path) -> None:
    asked = [("GET", path) for path in ("/healthz", "/readyz", "/metrics", "/v2/")]
    assert [line["path"] for line in logged(tmp_path, *asked)] == ["/v2/"]


def test_bodies_of_head_count_nothing_and_errors_what_they_have(tmp_path: Path) -> None:
    head, absent = logged(tmp_path, ("HEAD", MANIFEST), ("GET", "/v2/team/app/manifests/no"))
    assert (head["status"], head["bytes"]) == (200, 0)
    assert (absent["status"], absent["bytes"] > 0) == (404, True)
