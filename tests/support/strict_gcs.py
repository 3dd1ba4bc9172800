"""Google Cloud Storage as its documentation has it, and as badly as it may behave.

Emulators leave out what the project's safety stands on: metageneration, preconditions on
every verb, the checks of uploads. This one has them all under one lock, and faults on demand.
Only what the project and its clients call is here; anything else is answered 501.

Source: cloud.google.com/storage/docs/json_api/v1/objects and .../request-preconditions.
"""

import base64
import bisect
import datetime as dt
import itertools
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final
from urllib.parse import parse_qs, unquote, urlsplit

import google_crc32c

PAGE: Final = 1000  # objects in one answer to a list, the most Google gives


@dataclass(frozen=True)
class StoredObject:
    """One generation of one object."""

    content: bytes
    generation: int
    created: float
    metageneration: int = 1
    custom_time: float | None = None

    @property
    def crc32c(self) -> str:
        return checksum(self.content)

    def to_json(self, name: str) -> dict[str, Any]:
        document = {
            "kind": "storage#object",
            "name": name,
            "size": str(len(self.content)),
            "generation": str(self.generation),
            "metageneration": str(self.metageneration),
            "timeCreated": rfc3339(self.created),
            "crc32c": self.crc32c,
        }
        if self.custom_time is not None:
            document["customTime"] = rfc3339(self.custom_time)
        return document


@dataclass
class Fault:
    """What goes wrong with requests that match, so many times.

    Attributes:
        match: searched in "METHOD /path?query".
        status: answer this instead, and do nothing.
        cut: send so many bytes of the body of the answer, then hang up.
        lost: do what was asked, then hang up without an answer.
        refused: read so many bytes of the request's body, then hang up.
        times: how many requests; the first that match.
        skip: let so many of those that match pass before.
    """

    match: str
    status: int = 0
    cut: int | None = None
    lost: bool = False
    refused: int | None = None
    times: int = 1
    skip: int = 0


class Refused(Exception):  # noqa: N818 (reads as what it is)
    """An answer that is no success."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass
class StrictGcs:
    """The state of all buckets.

    Attributes:
        buckets: name to object name to object.
        faults: what goes wrong; used up as it happens.
        asked: the requests, as "METHOD /path?query".
        connections: how many were opened.
        clock: seconds since 1970.
        upload_limit: writes per second and object before 429; None for no limit.
    """

    buckets: dict[str, dict[str, StoredObject]] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    connections: int = 0
    clock: Callable[[], float] = time.time
    sessions: dict[str, dict[str, Any]] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)
    url: str = ""
    _names: dict[str, list[str]] = field(default_factory=dict)
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1_700_000_000_000_001))

    def bucket(self, name: str) -> dict[str, StoredObject]:
        if name not in self.buckets:
            raise Refused(404, "The specified bucket does not exist.")
        return self.buckets[name]

    def get(self, bucket: str, name: str, query: dict[str, str]) -> StoredObject:
        found = self.bucket(bucket).get(name)
        if found is None:
            raise Refused(404, f"No such object: {bucket}/{name}")
        self.check(found, query)
        return found

    def check(self, found: StoredObject | None, query: dict[str, str]) -> None:
        """The four preconditions, of which each may be given."""
        generation = found.generation if found else 0
        metageneration = found.metageneration if found else 0
        for parameter, value, wanted in (
            ("ifGenerationMatch", generation, True),
            ("ifGenerationNotMatch", generation, False),
            ("ifMetagenerationMatch", metageneration, True),
            ("ifMetagenerationNotMatch", metageneration, False),
        ):
            if parameter in query and (int(query[parameter]) == value) is not wanted:
                raise Refused(412, "At least one of the pre-conditions you specified did not hold.")

    def put(
        self, bucket: str, name: str, content: bytes, query: dict[str, str], said: dict[str, Any]
    ) -> StoredObject:
        """Make a new generation, if checksums and preconditions hold."""
        self.check(self.bucket(bucket).get(name), query)
        if not name or len(name.encode()) > 1024:
            raise Refused(400, "Invalid object name")
        if said.get("crc32c", checksum(content)) != checksum(content):
            raise Refused(400, "Provided CRC32C does not match")
        custom = said.get("customTime")
        made = StoredObject(
            content,
            next(self._numbers),
            self.clock(),
            custom_time=None if custom is None else dt.datetime.fromisoformat(custom).timestamp(),
        )
        if name not in self.buckets[bucket]:
            bisect.insort(self._names.setdefault(bucket, []), name)
        self.buckets[bucket][name] = made
        return made

    def patch(
        self, bucket: str, name: str, query: dict[str, str], said: dict[str, Any]
    ) -> StoredObject:
        found = self.get(bucket, name, query)
        if unknown := set(said) - {"customTime"}:
            raise Refused(501, f"cannot patch {unknown}")
        at = dt.datetime.fromisoformat(said["customTime"]).timestamp()
        if found.custom_time is not None and at < found.custom_time:
            raise Refused(400, "customTime cannot be set to an earlier time.")
        changed = replace(found, custom_time=at, metageneration=found.metageneration + 1)
        self.buckets[bucket][name] = changed
        return changed

    def delete(self, bucket: str, name: str, query: dict[str, str]) -> None:
        self.get(bucket, name, query)
        del self.buckets[bucket][name]
        names = self._names[bucket]
        del names[bisect.bisect_left(names, name)]

    def page(self, bucket: str, query: dict[str, str]) -> dict[str, Any]:
        objects = self.bucket(bucket)
        names = self._names.get(bucket, [])
        prefix = query.get("prefix", "")
        token = query.get("pageToken", "")
        if "delimiter" in query:
            raise Refused(501, "no delimiters here")
        limit = min(int(query.get("maxResults", PAGE)), PAGE)
        first = bisect.bisect_left(names, max(prefix, token))
        shown: list[dict[str, Any]] = []
        for name in itertools.islice(names, first, None):
            if not name.startswith(prefix) or query.get("endOffset", "\U0010ffff") <= name:
                break
            if len(shown) == limit:
                return {"items": shown, "nextPageToken": name}
            shown.append(objects[name].to_json(name))
        return {"items": shown} if shown else {}

    def fault(self, request: str) -> Fault | None:
        """What goes wrong with this request, and one time less from now on."""
        for fault in self.faults:
            if re.search(fault.match, request) and fault.times > 0:
                if fault.skip > 0:
                    fault.skip -= 1
                    continue
                fault.times -= 1
                return fault
        return None


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1  # one packet per answer: no waiting for acknowledgements
    disable_nagle_algorithm = True
    gcs: StrictGcs

    def setup(self) -> None:
        self.gcs.connections += 1
        super().setup()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (so named above)
        pass

    def _serve(self) -> None:
        request = f"{self.command} {self.path}"
        with self.gcs.lock:
            self.gcs.asked.append(request)
            fault = self.gcs.fault(request) or Fault("")
        length = int(self.headers.get("Content-Length", 0))
        if fault.refused is not None:
            self.rfile.read(min(fault.refused, length))
            self._hang_up()
            return
        body = self.rfile.read(length)
        if fault.status:
            self._refuse(Refused(fault.status, "told to"))
            return
        try:
            with self.gcs.lock:
                status, headers, content = self._answer(body)
        except Refused as refused:
            self._refuse(refused)
            return
        if fault.lost:
            self._hang_up()
            return
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content if fault.cut is None else content[: fault.cut])
        if fault.cut is not None:
            self._hang_up()

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _serve  # noqa: N815 (named by http.server)

    def _hang_up(self) -> None:
        self.wfile.flush()
        self.close_connection = True

    def _refuse(self, refused: Refused) -> None:
        body = json.dumps({"error": {"code": refused.status, "message": str(refused)}}).encode()
        self.send_response(refused.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _answer(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        parts = urlsplit(self.path)
        query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        match parts.path.split("/"):
            case ["", "upload", "storage", "v1", "b", bucket, "o"]:
                return self._upload(bucket, query, body)
            case ["", "download", "storage", "v1", "b", bucket, "o", name]:
                return self._download(self.gcs.get(bucket, unquote(name), query))
            case ["", "storage", "v1", "b", bucket, "o"] if self.command == "GET":
                return as_json(self.gcs.page(bucket, query))
            case ["", "storage", "v1", "b", bucket, "o", name]:
                return self._object(bucket, unquote(name), query, body)
            case ["", bucket, *name] if self.command in {"GET", "HEAD"}:
                return self._download(self.gcs.get(bucket, unquote("/".join(name)), query))
            case _:
                raise Refused(501, f"not here: {self.path}")

    def _object(
        self, bucket: str, name: str, query: dict[str, str], body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        match self.command:
            case "GET" if query.get("alt") == "media":
                return self._download(self.gcs.get(bucket, name, query))
            case "GET":
                return as_json(self.gcs.get(bucket, name, query).to_json(name))
            case "PATCH":
                said = json.loads(body)
                return as_json(self.gcs.patch(bucket, name, query, said).to_json(name))
            case "DELETE":
                self.gcs.delete(bucket, name, query)
                return 204, {}, b""
            case _:
                raise Refused(501, f"not here: {self.command}")

    def _upload(
        self, bucket: str, query: dict[str, str], body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        if self.command == "PUT":
            return self._resume(query["upload_id"], body)
        match query.get("uploadType"):
            case "multipart":
                boundary = self.headers["Content-Type"].partition("boundary=")[2].strip("\"'")
                _, first, rest = body.split(f"--{boundary}\r\n".encode(), 2)
                said = json.loads(first.partition(b"\r\n\r\n")[2])
                end = rest.rindex(f"\r\n--{boundary}--".encode())
                content = rest[:end].partition(b"\r\n\r\n")[2]
                made = self.gcs.put(bucket, said["name"], content, query, said)
                return as_json(made.to_json(said["name"]))
            case "resumable":
                said = json.loads(body)
                self.gcs.check(self.gcs.bucket(bucket).get(said["name"]), query)
                number = str(len(self.gcs.sessions))
                session = {"bucket": bucket, "query": query, "said": said, "content": b""}
                self.gcs.sessions[number] = session
                place = f"{self.gcs.url}/upload/storage/v1/b/{bucket}/o?upload_id={number}"
                return 200, {"Location": place}, b""
            case kind:
                raise Refused(501, f"no uploads of type {kind}")

    def _resume(self, number: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
        session = self.gcs.sessions.get(number)
        if session is None:
            raise Refused(410, "the session is gone")
        if (done := session.get("done")) is not None:
            return as_json(done)
        span = re.fullmatch(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)", self.headers["Content-Range"])
        if span is None:
            raise Refused(400, "no Content-Range")
        start, _end, total = span.groups()
        if start is not None:
            if int(start) != len(session["content"]):
                raise Refused(503, "out of step")
            session["content"] += body
        held = len(session["content"])
        if total == "*" or held < int(total):
            headers = {"Range": f"bytes=0-{held - 1}"} if held else {}
            return 308, headers, b""
        name = session["said"]["name"]
        # A final request carries the checksum in a header.
        hashes = dict(part.split("=", 1) for part in self.headers.get_all("X-Goog-Hash", []))
        said = {**session["said"], **hashes}
        made = self.gcs.put(session["bucket"], name, session["content"], session["query"], said)
        session["done"] = made.to_json(name)
        return as_json(session["done"])

    def _download(self, found: StoredObject) -> tuple[int, dict[str, str], bytes]:
        headers = {
            "Content-Type": "application/octet-stream",
            "X-Goog-Hash": f"crc32c={found.crc32c}",
            "X-Goog-Generation": str(found.generation),
            "X-Goog-Metageneration": str(found.metageneration),
            "X-Goog-Stored-Content-Length": str(len(found.content)),
            "Accept-Ranges": "bytes",
        }
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if wanted is None:
            return 200, headers, found.content
        start, size = int(wanted[1]), len(found.content)
        if start >= size:
            raise Refused(416, "the range cannot be satisfied")
        end = min(int(wanted[2]) if wanted[2] else size - 1, size - 1)
        headers["Content-Range"] = f"bytes {start}-{end}/{size}"
        return 206, headers, found.content[start : end + 1]


def as_json(document: dict[str, Any]) -> tuple[int, dict[str, str], bytes]:
    return 200, {"Content-Type": "application/json"}, json.dumps(document).encode()


def checksum(content: bytes) -> str:
    return base64.b64encode(google_crc32c.value(content).to_bytes(4, "big")).decode()


def rfc3339(seconds: float) -> str:
    return dt.datetime.fromtimestamp(seconds, dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


@contextmanager
def serving(gcs: StrictGcs) -> Iterator[StrictGcs]:
    """Serve on a port of loopback; `gcs.url` says where."""

    class Bound(Handler):
        pass

    Bound.gcs = gcs
    server = ThreadingHTTPServer(("127.0.0.1", 0), Bound)
    server.daemon_threads = True
    gcs.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield gcs
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
