"""A store that does something before and after each call: note it, fail it, or die."""

from collections.abc import Callable, Iterator
from pathlib import Path

from niximage.bucket import ObjectStat, ObjectStore

WRITES = frozenset({"create", "replace", "touch", "delete"})

Hook = Callable[[str, str], None]


def nothing(verb: str, key: str) -> None:
    pass


class Hooked:
    """Another store, with hooks that are told the verb and the key of each call."""

    def __init__(self, store: ObjectStore, before: Hook = nothing, after: Hook = nothing) -> None:
        self.store = store
        self.before = before
        self.after = after

    @property
    def url(self) -> str:
        return self.store.url

    def stat(self, key: str) -> ObjectStat | None:
        self.before("stat", key)
        result = self.store.stat(key)
        self.after("stat", key)
        return result

    def read(self, key: str, *, limit: int) -> bytes | None:
        self.before("read", key)
        result = self.store.read(key, limit=limit)
        self.after("read", key)
        return result

    def stream(self, key: str, *, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        self.before("stream", key)
        return self.store.stream(key, start=start, length=length)

    def create(self, key: str, content: bytes | Path) -> ObjectStat | None:
        self.before("create", key)
        result = self.store.create(key, content)
        self.after("create", key)
        return result

    def spool(self, otherwise: Path) -> Path:
        return self.store.spool(otherwise)

    def replace(self, key: str, content: bytes, *, seen: ObjectStat | None = None) -> bool:
        self.before("replace", key)
        result = self.store.replace(key, content, seen=seen)
        self.after("replace", key)
        return result

    def touch(self, seen: ObjectStat) -> bool:
        self.before("touch", seen.key)
        result = self.store.touch(seen)
        self.after("touch", seen.key)
        return result

    def list(self, prefix: str) -> Iterator[ObjectStat]:
        self.before("list", prefix)
        yield from self.store.list(prefix)

    def delete(self, seen: ObjectStat) -> bool:
        self.before("delete", seen.key)
        result = self.store.delete(seen)
        self.after("delete", seen.key)
        return result

    def close(self) -> None:
        self.store.close()
