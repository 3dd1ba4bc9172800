"""What Google may answer, from a server that answers what it is told."""

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from integration.conftest import free_port
from niximage.bucket import ObjectStat, ObjectStore, open_store
from niximage.errors import Reason, Retryable

SEEN = ObjectStat("a/key", 3, 7, 2, 1000.0)
FOUND = {"name": "a/key", "size": "1", "generation": "9", "metageneration": "1"}
FOUND["timeCreated"] = "2026-01-01T00:00:00Z"


@dataclass
class Script:
    """What the server answers, one after another and the last for ever; what it was asked."""

    answers: list[tuple[int, str]]
    asked: list[str] = field(default_factory=list)
    connections: int = 0


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Iterator[Script]:
    script = Script([])

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            script.connections += 1
            super().setup()

        def _answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            script.asked.append(f"{self.command} {self.path}")
            status, message = script.answers[0]
            if len(script.answers) > 1:
                script.answers.pop(0)
            if status == 0:  # the answer is lost
                self.close_connection = True
                return
            body = json.dumps({"error": {"code": status, "message": message}}).encode()
            if status == 200:
                body = message.encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _answer  # noqa: N815 (named by http.server)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (so named above)
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{server.server_port}")
    yield script
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def gcs(script: Script) -> Iterator[ObjectStore]:
    opened = open_store("gs://images", patience=2)
    yield opened
    opened.close()


CALLS: dict[str, Callable[[ObjectStore], object]] = {
    "stat": lambda store: store.stat("a/key"),
    "read": lambda store: store.read("a/key", limit=10),
    "stream": lambda store: list(store.stream("a/key")),
    "create": lambda store: store.create("a/key", b"x"),
    "replace": lambda store: store.replace("a/key", b"x"),
    "replace seen": lambda store: store.replace("a/key", b"x", seen=SEEN),
    "touch": lambda store: store.touch(SEEN),
    "list": lambda store: list(store.list("a/")),
    "delete": lambda store: store.delete(SEEN),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        ((403, "does not have storage.objects.get access"), "Grant roles/storage.objectUser"),
        ((401, "Anonymous caller"), "Workload Identity"),
        ((404, "The specified bucket does not exist"), "Create the bucket"),
        ((400, "who knows"), ""),
    ],
)
def test_a_refusal_names_bucket_and_key_and_what_to_do(
    gcs: ObjectStore,
    script: Script,
    call: Callable[[ObjectStore], object],
    answer: tuple[int, str],
    hint: str,
) -> None:
    script.answers = [answer]
    with pytest.raises(Retryable, match=r"a/(key)? in gs://images") as caught:
        call(gcs)
    assert caught.value.reason is Reason.BUCKET_UNAVAILABLE
    assert hint in caught.value.hint
    assert "?" not in caught.value.message, "the client's own parameters say nothing"
    assert (answer[1] in caught.value.message) is (answer[0] != 401)  # the client refreshes first


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_bucket_that_stays_away_ends_in_an_error_in_time(
    gcs: ObjectStore, script: Script, call: Callable[[ObjectStore], object]
) -> None:
    script.answers = [(503, "try later")]
    with pytest.raises(Retryable, match=r"cannot \w+( at)? a/"):
        call(gcs)


def test_a_passing_fault_is_tried_again(gcs: ObjectStore, script: Script) -> None:
    script.answers = [(503, "later"), (200, json.dumps(FOUND))]
    found = gcs.stat("a/key")
    assert found is not None
    assert (found.size, found.generation) == (1, 9)
    assert len(script.asked) == 2


def test_absent_objects_cost_no_connections(gcs: ObjectStore, script: Script) -> None:
    script.answers = [(404, "No such object")]
    assert [gcs.read("a/key", limit=10) for _ in range(5)] == [None] * 5
    assert len(script.asked) == 5
    assert script.connections == 1


@pytest.mark.parametrize(("checksum", "ours"), [("qTxfkw==", True), ("AAAAAA==", False)])
def test_a_create_whose_answer_was_lost_knows_its_object(
    gcs: ObjectStore, script: Script, checksum: str, ours: bool
) -> None:
    script.answers = [
        (0, "lost"),
        (412, "conditionNotMet"),
        (200, json.dumps({**FOUND, "crc32c": checksum})),
    ]
    assert (gcs.create("a/key", b"x") is not None) is ours
    assert all("ifGenerationMatch=0" in line for line in script.asked[:2])
    assert len(script.asked) == 3


def test_a_delete_is_conditional(gcs: ObjectStore, script: Script) -> None:
    script.answers = [(412, "conditionNotMet")]
    assert gcs.delete(SEEN) is False
    assert "ifGenerationMatch=7" in script.asked[0]


def test_an_answer_that_is_no_json_is_told(gcs: ObjectStore, script: Script) -> None:
    script.answers = [(200, "<html>a captive portal</html>")]
    with pytest.raises(Retryable, match="gs://images"):
        gcs.stat("a/key")


def test_an_unreachable_host_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{free_port()}")
    store = open_store("gs://images", patience=1)
    with pytest.raises(Retryable, match=r"cannot look at a/key in gs://images.*refused"):
        store.stat("a/key")
    store.close()


def test_missing_credentials_are_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "absent.json"))
    with pytest.raises(Retryable, match="cannot open gs://images") as caught:
        open_store("gs://images")
    assert "Workload Identity" in caught.value.hint
