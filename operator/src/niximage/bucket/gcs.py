"""A bucket at Google Cloud Storage. Only `signing` knows Google's client besides.

The client raises what half a dozen libraries raise; `_told` makes one of it, with the bucket,
the key and what to do. Creates carry `if_generation_match=0`, so a repeat is harmless and the
client may retry by itself.
"""

import base64
import contextlib
import datetime as dt
import io
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import google_crc32c
import requests
import requests.adapters
from google.api_core.exceptions import BadRequest, NotFound, PreconditionFailed
from google.auth.credentials import AnonymousCredentials
from google.auth.exceptions import GoogleAuthError
from google.cloud import storage  # type: ignore[import-untyped]
from google.cloud.storage.retry import DEFAULT_RETRY  # type: ignore[import-untyped]

from niximage.bucket.signing import Signer
from niximage.bucket.store import DEFAULT_PATIENCE, ObjectStat, check_key
from niximage.errors import NixImageError, Reason, Retryable, plain_text

# Any other type may be transcoded or taken for Distribution's own upload sessions.
CONTENT_TYPE: Final = "application/octet-stream"
CHUNK: Final = 4 << 20  # bytes that `stream` asks for at a time
PAGE: Final = 1000  # objects per answer to a list: Google's most
CONNECTIONS: Final = 32  # threads that may use the store at once without waiting
CONNECT_TIMEOUT: Final = 10.0  # seconds
READ_TIMEOUT: Final = 60.0  # seconds without a byte


# What was asked for is told before, and without the client's parameters.
_REQUEST: Final = re.compile(r"\b(?:GET|HEAD|POST|PUT|PATCH|DELETE) https?://\S+: ")
_FIELDS: Final = "name,size,generation,metageneration,timeCreated,customTime"


class GcsStore:
    """Objects of one bucket, below an optional prefix."""

    def __init__(
        self, bucket: str, prefix: str = "", *, patience: float = DEFAULT_PATIENCE
    ) -> None:
        self._name = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        with self._told("open", ""):
            self._client = _client()
            emulator = os.environ.get("STORAGE_EMULATOR_HOST", "")
            self._signer = Signer(self._client._credentials, emulator)  # noqa: SLF001 (it tells nobody else)
        self._bucket = self._client.bucket(bucket)
        self._timeout = (min(CONNECT_TIMEOUT, patience), min(READ_TIMEOUT, patience))
        self._retry = DEFAULT_RETRY.with_timeout(patience)

    @property
    def url(self) -> str:
        """The URL that opens this bucket."""
        return f"gs://{self._name}/{self._prefix}".rstrip("/")

    def stat(self, key: str) -> ObjectStat | None:
        """What is known of an object, or None if it is not there."""
        blob = self._blob(key)
        with self._told("look at", key):
            try:
                blob.reload(timeout=self._timeout, retry=self._retry)
            except NotFound as error:
                _check_bucket(error)
                return None
            return _object(key, blob)

    def read(self, key: str, *, limit: int) -> bytes | None:
        """An object's whole content, checked against its CRC32C, or None if it is not there."""
        blob = self._blob(key)
        content = _Bounded(limit)
        with self._told("read", key):
            try:
                blob.download_to_file(
                    content,
                    raw_download=True,
                    checksum="crc32c",
                    timeout=self._timeout,
                    retry=self._retry,
                )
            except NotFound as error:
                _check_bucket(error)
                return None
            except _TooLargeError:
                raise Retryable(
                    Reason.RESULT_INVALID,
                    f"{self.url}: {key} is larger than the {limit} bytes it may have",
                    hint="Something else wrote this object: delete it",
                ) from None
        return content.getvalue()

    def stream(self, key: str, *, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        """An object's bytes from `start`, `length` of them or all the rest, in chunks.

        Each chunk is a request of its own, so that one lost connection costs one chunk.
        """
        blob = self._blob(key)
        with self._told("read", key):
            found = self.stat(key)
            if found is None:
                raise Retryable(Reason.BUCKET_UNAVAILABLE, f"{key} is not in {self.url}")
            end = found.size if length is None else min(start + length, found.size)
            for offset in range(start, end, CHUNK):
                yield blob.download_as_bytes(
                    start=offset,
                    end=min(offset + CHUNK, end) - 1,
                    raw_download=True,
                    checksum=None,  # the server has one for whole objects only
                    if_generation_match=found.generation,
                    timeout=self._timeout,
                    retry=self._retry,
                )

    def create(self, key: str, content: bytes | Path) -> ObjectStat | None:
        """See that an object is there with this content, unless another content is.

        When the answer to a create was lost, the client asks again and hears 412: then the
        checksum tells whether what is there is ours.
        """
        blob = self._blob(key)
        with self._told("write", key):
            try:
                self._upload(blob, content, if_generation_match=0)
            except PreconditionFailed:
                return self._same(blob, key, content)
            return _object(key, blob)

    def spool(self, otherwise: Path) -> Path:
        """Files are uploaded from wherever they are."""
        return otherwise

    def replace(self, key: str, content: bytes, *, seen: ObjectStat | None = None) -> bool:
        """Write a small object, whatever was there or only what was seen."""
        blob = self._blob(key)
        conditions = {} if seen is None else _conditions(seen)
        with self._told("write", key):
            try:
                self._upload(blob, content, **conditions)
            except (PreconditionFailed, NotFound) as error:
                if seen is None:
                    raise
                _check_bucket(error)
                return self._same(blob, key, content) is not None
        return True

    def touch(self, seen: ObjectStat) -> bool:
        """Set an object's time to now; False when it was written or deleted since it was seen."""
        blob = self._blob(seen.key)
        # Google refuses to set it back, and clocks differ.
        now = max(time.time(), seen.time + 0.001)
        blob.custom_time = dt.datetime.fromtimestamp(now, dt.UTC)
        with self._told("touch", seen.key):
            try:
                # Another's touch is as good as ours: only the content must be the same.
                blob.patch(
                    if_generation_match=seen.generation, timeout=self._timeout, retry=self._retry
                )
            except BadRequest:
                found = self.stat(seen.key)
                if found is None or found.generation != seen.generation or found.time < now:
                    raise
                return True  # another touched it at the same time, by a clock ahead of ours
            except (PreconditionFailed, NotFound) as error:
                _check_bucket(error)
                return False
        return True

    def list(self, prefix: str) -> Iterator[ObjectStat]:
        """The objects whose keys begin with the prefix, in key order, a thousand per request."""
        with self._told("list", prefix or "all objects"):
            for blob in self._client.list_blobs(
                self._bucket,
                prefix=self._prefix + prefix,
                page_size=PAGE,
                fields=f"items({_FIELDS}),nextPageToken",
                timeout=self._timeout,
                retry=self._retry,
            ):
                yield _object(blob.name.removeprefix(self._prefix), blob)

    def delete(self, seen: ObjectStat) -> bool:
        """Delete an object; False when it was written, touched or deleted since it was seen."""
        blob = self._blob(seen.key)
        with self._told("delete", seen.key):
            try:
                blob.delete(timeout=self._timeout, retry=self._retry, **_conditions(seen))
            except (PreconditionFailed, NotFound) as error:
                _check_bucket(error)
                return False
        return True

    def signed_url(self, key: str, lifetime: float) -> str | None:
        """Where anybody may read an object for so many seconds; None if we cannot sign.

        Raises:
            Retryable: IAM refuses to sign, or does not answer.
        """
        blob = self._blob(key)
        with self._told("sign a URL for", key):
            return self._signer.url(blob, lifetime)

    def close(self) -> None:
        """Give back connections."""
        self._client.close()

    def _blob(self, key: str) -> Any:
        check_key(key)
        return self._bucket.blob(self._prefix + key)

    def _same(self, blob: Any, key: str, content: bytes | Path) -> ObjectStat | None:
        """The object that is there, if it has this content."""
        try:
            blob.reload(timeout=self._timeout, retry=self._retry)
        except NotFound as error:
            _check_bucket(error)
            return None
        return _object(key, blob) if blob.crc32c == _crc32c(content) else None

    def _upload(self, blob: Any, content: bytes | Path, **conditions: int) -> None:
        arguments = {
            "content_type": CONTENT_TYPE,
            "checksum": "crc32c",
            "timeout": self._timeout,
            "retry": self._retry,
            **conditions,
        }
        if isinstance(content, Path):
            blob.upload_from_filename(str(content), **arguments)
        else:
            blob.upload_from_string(content, **arguments)

    @contextlib.contextmanager
    def _told(self, verb: str, key: str) -> Iterator[None]:
        try:
            yield
        except NixImageError:
            raise
        except Exception as error:  # the client lets through what any of its libraries raises
            what = f"{key} in {self.url}" if key else self.url
            raise Retryable(
                Reason.BUCKET_UNAVAILABLE,
                f"cannot {verb} {what}: {_words(error)}",
                hint=self._hint(error),
            ) from error

    def _hint(self, error: Exception) -> str:
        if isinstance(error, GoogleAuthError):
            return (
                "Give the pod's service account Workload Identity, or set "
                "GOOGLE_APPLICATION_CREDENTIALS to a key file"
            )
        match _status(error):
            case 404:
                return f"Create the bucket: gcloud storage buckets create gs://{self._name}"
            case 401 | 403:
                return (
                    f"Grant roles/storage.objectUser on gs://{self._name} to "
                    f"{self._account()}; for readers roles/storage.objectViewer is enough"
                )
            case 429:
                return "The bucket is asked too often"
            case _:
                return ""

    def _account(self) -> str:
        credentials = getattr(self._client, "_credentials", None)
        account = getattr(credentials, "service_account_email", "")
        return account if account and account != "default" else "the service account in use"


def _object(key: str, blob: Any) -> ObjectStat:
    """What an answer of the server says of an object."""
    times = [at.timestamp() for at in (blob.time_created, blob.custom_time) if at is not None]
    return ObjectStat(
        key, int(blob.size), int(blob.generation), int(blob.metageneration), max(times)
    )


def _conditions(seen: ObjectStat) -> dict[str, int]:
    return {
        "if_generation_match": seen.generation,
        "if_metageneration_match": seen.metageneration,
    }


def _crc32c(content: bytes | Path) -> str:
    """The checksum as Google spells it: big-endian, in base64."""
    value = 0
    if isinstance(content, bytes):
        value = google_crc32c.extend(value, content)
    else:
        with content.open("rb") as file:
            while piece := file.read(CHUNK):
                value = google_crc32c.extend(value, piece)
    return base64.b64encode(value.to_bytes(4, "big")).decode("ascii")


class _TooLargeError(Exception):
    """More bytes came than the reader asked for."""


class _Bounded(io.BytesIO):
    """A buffer that takes so many bytes and no more."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._limit = limit

    def write(self, data: Any) -> int:
        if self.tell() + len(data) > self._limit:
            raise _TooLargeError
        return super().write(data)


def _client() -> Any:
    emulated = bool(os.environ.get("STORAGE_EMULATOR_HOST"))
    credentials = AnonymousCredentials() if emulated else None  # type: ignore[no-untyped-call]
    # Objects need no project; without one the client would look for it and fail.
    client = storage.Client(project=None, credentials=credentials)
    # Else a background thread asks for the bucket's metadata, only to adorn traces.
    client._bucket_metadata_cache = None  # noqa: SLF001 (the client checks for None everywhere)
    adapter = requests.adapters.HTTPAdapter(CONNECTIONS, CONNECTIONS)
    session = client._http  # noqa: SLF001 (how Google's own documentation widens the pool)
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    session.hooks["response"].append(_read_failure)
    return client


def _read_failure(response: requests.Response, **_arguments: Any) -> None:
    """Read a refused download to its end, which the client leaves undone.

    Otherwise each absent object costs a connection, and the next request a new handshake.
    """
    if not response.ok:
        _ = response.content


def _check_bucket(error: Exception) -> None:
    """Let an answer pass that is about the object; raise it where the bucket is not there."""
    if "bucket does not exist" in str(error):
        raise error


def _status(error: BaseException | None) -> int | None:
    """The HTTP status behind an error, through the client's own wrappers."""
    while error is not None:
        code = getattr(error, "code", None)
        if isinstance(code, int):
            return int(code)
        status = getattr(getattr(error, "response", None), "status_code", None)
        if isinstance(status, int):
            return status
        error = getattr(error, "cause", None) or error.__cause__
    return None


def _words(error: BaseException) -> str:
    """What the error says, in one line, with the cause of a time-out."""
    cause = getattr(error, "cause", None)
    text = (
        f"{error} ({cause})" if cause is not None and str(cause) not in str(error) else str(error)
    )
    told = _REQUEST.sub("", " ".join(text.split()))
    return plain_text(told, 400).rstrip(".") or type(error).__name__
