"""A bucket in memory, with a clock that the test moves and every condition kept."""

import itertools
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from niximage.bucket import ObjectStat
from niximage.bucket.store import check_key
from niximage.errors import Reason, Retryable

START = 1_800_000_000.0


@dataclass
class MemoryStore:
    """An object store whose time stands still unless told."""

    url: str = "memory://"
    now: float = START
    objects: dict[str, tuple[bytes, ObjectStat]] = field(default_factory=dict)
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def stat(self, key: str) -> ObjectStat | None:
        check_key(key)
        found = self.objects.get(key)
        return found and found[1]

    def read(self, key: str, *, limit: int) -> bytes | None:
        check_key(key)
        found = self.objects.get(key)
        if found is None:
            return None
        if len(found[0]) > limit:
            raise Retryable(Reason.RESULT_INVALID, f"{key} is larger than the {limit} bytes")
        return found[0]

    def stream(self, key: str, *, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        content = self.objects[key][0]
        yield content[start : None if length is None else start + length]

    def create(self, key: str, content: bytes | Path) -> ObjectStat | None:
        data = content.read_bytes() if isinstance(content, Path) else content
        with self._lock:
            if (found := self.objects.get(key)) is not None:
                return found[1] if found[0] == data else None
            return self._put(key, data)

    def replace(self, key: str, content: bytes, *, seen: ObjectStat | None = None) -> bool:
        with self._lock:
            if seen is not None and self.stat(key) != seen:
                return False
            self._put(key, content)
            return True

    def spool(self, otherwise: Path) -> Path:
        return otherwise

    def touch(self, seen: ObjectStat) -> bool:
        with self._lock:
            found = self.objects.get(seen.key)
            if found is None or found[1].generation != seen.generation:
                return False
            content, old = found
            stat = ObjectStat(
                seen.key, old.size, old.generation, old.metageneration + 1, max(self.now, old.time)
            )
            self.objects[seen.key] = (content, stat)
            return True

    def list(self, prefix: str) -> Iterator[ObjectStat]:
        with self._lock:
            found = [stat for _, stat in self.objects.values()]
        yield from sorted(
            (each for each in found if each.key.startswith(prefix)),
            key=lambda each: each.key,
        )

    def delete(self, seen: ObjectStat) -> bool:
        with self._lock:
            if self.stat(seen.key) != seen:
                return False
            del self.objects[seen.key]
            return True

    def close(self) -> None:
        pass

    def _put(self, key: str, content: bytes) -> ObjectStat:
        check_key(key)
        stat = ObjectStat(key, len(content), next(self._numbers), 1, self.now)
        self.objects[key] = (content, stat)
        return stat
