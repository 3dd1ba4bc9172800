"""The logs of builds that ended, whole and compressed.

Statuses have room for the last lines of a failure only, and a Job's pod goes after an hour. The
operator writes a log when a build has ended and names its key in `status.history`; garbage
collection takes it once no history names it any more.
"""

import gzip
import re
import zlib
from typing import Final

from niximage.bucket import keys
from niximage.bucket.hold import put
from niximage.bucket.store import ObjectStore
from niximage.errors import Reason, Retryable, Terminal

LOG_LIMIT: Final = 1 << 20  # bytes of a log's text, UTF-8
_STORED_LIMIT: Final = LOG_LIMIT + (64 << 10)  # what cannot be compressed grows a little
_LEVEL: Final = 6
_GZIP: Final = 16 + zlib.MAX_WBITS
_KEY: Final = re.compile(rf"{re.escape(keys.LOGS)}[a-z0-9-]{{1,63}}/[a-z0-9-]{{1,64}}\.gz")


def log_keys(text: str) -> set[str]:
    """All keys of logs that a text names, for example NixImages as JSON. Pure."""
    return set(_KEY.findall(text))


def save_log(store: ObjectStore, namespace: str, build: str, text: str) -> str:
    """Write the log of a build.

    Args:
        store: the bucket.
        namespace: the build's.
        build: the uid of its Job.
        text: the log, at most `LOG_LIMIT` bytes.

    Returns:
        Its key.

    Raises:
        Terminal: the namespace or the uid has no valid form.
        Retryable: the store fails.
    """
    data = text.encode("utf-8", "replace")
    assert len(data) <= LOG_LIMIT
    key = keys.log(namespace, build)
    put(store, key, gzip.compress(data, _LEVEL, mtime=0))
    return key


def read_log(store: ObjectStore, key: str) -> str | None:
    """A log's text, or None if it is not there any more.

    Args:
        store: the bucket.
        key: as `status.history[].log` names it.

    Raises:
        Terminal: the key is not one of a log.
        Retryable: what is there is no log, or the store fails.
    """
    if _KEY.fullmatch(key) is None:
        raise Terminal(Reason.INVALID_SPEC, f"{key[:300]!r} is no key of a build's log")
    content = store.read(key, limit=_STORED_LIMIT)
    if content is None:
        return None
    unpacker = zlib.decompressobj(_GZIP)
    try:
        data = unpacker.decompress(content, LOG_LIMIT)
    except zlib.error as error:
        raise _damaged(store, key, str(error)) from None
    if not unpacker.eof:
        raise _damaged(store, key, "it ends too early, or is too long")
    return data.decode("utf-8", "replace")


def _damaged(store: ObjectStore, key: str, why: str) -> Retryable:
    return Retryable(
        Reason.RESULT_INVALID,
        f"{key} in {store.url} is no log of a build: {why}",
        hint="Something else wrote this object: delete it",
    )
