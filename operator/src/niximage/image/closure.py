"""The closure of an image: every store path that runs in it, and who refers to whom.

Whoever lists a closure (a local store now, binary caches later) hands over path infos; here
they become a graph that is known to be whole, so that planning needs no checks of its own.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Self

from niximage.api.build import STORE_PATH_PATTERN
from niximage.errors import Reason, Retryable, Terminal

STORE: Final = "/nix/store/"
HASH_LENGTH: Final = 32  # characters of a store path's hash
PATH_LIMIT: Final = 100_000  # store paths in one closure: six times a large desktop's

_STORE_PATH = re.compile(STORE_PATH_PATTERN)
_SRI = re.compile(r"^sha256-[0-9A-Za-z+/]{43}=$")


@dataclass(frozen=True, slots=True)
class PathInfo:
    """What Nix knows of a store path.

    Attributes:
        path: the store path, `/nix/store/<hash>-<name>`.
        nar_hash: the SHA-256 of its NAR in SRI form, `sha256-<base64>`.
        nar_size: bytes of its NAR.
        references: the store paths it refers to.
        refers_to_itself: whether its own path is in its files; known once it is in a closure.
    """

    path: str
    nar_hash: str
    nar_size: int
    references: tuple[str, ...]
    refers_to_itself: bool = False

    @property
    def name(self) -> str:
        """The path without store and hash: `hello-2.12`."""
        return store_path_name(self.path)


@dataclass(frozen=True)
class Closure:
    """Store paths of which each reference is present too, in the paths' order.

    Attributes:
        infos: path to info; references sorted, none to the path itself.
    """

    infos: Mapping[str, PathInfo]

    @classmethod
    def of(cls, infos: Iterable[PathInfo]) -> Self:
        """The closure that path infos make, in whatever order they come.

        Raises:
            Terminal: more paths than an image may have.
            Retryable: an info is malformed, contradicts another of its path, or refers to a
                path that is not among them.
        """
        found: dict[str, PathInfo] = {}
        for info in infos:
            _check(info)
            tidy = PathInfo(
                info.path,
                info.nar_hash,
                info.nar_size,
                tuple(sorted(set(info.references) - {info.path})),
                refers_to_itself=info.refers_to_itself or info.path in info.references,
            )
            if found.setdefault(info.path, tidy) != tidy:
                raise _malformed(f"two different infos for {info.path}")
            if len(found) > PATH_LIMIT:
                raise Terminal(
                    Reason.INVALID_SPEC,
                    f"the closure has more than {PATH_LIMIT} store paths",
                    hint="Ask for fewer packages",
                )
        for info in found.values():
            for reference in info.references:
                if reference not in found:
                    raise _malformed(f"{info.path} refers to {reference}, which is not in it")
        return cls({path: found[path] for path in sorted(found)})

    @property
    def nar_size(self) -> int:
        """Bytes of all NARs together."""
        return sum(info.nar_size for info in self)

    def reachable(self, roots: Iterable[str]) -> frozenset[str]:
        """The roots and all that they refer to, over any number of steps."""
        seen: set[str] = set()
        waiting = list(roots)
        while waiting:
            path = waiting.pop()
            if path not in seen:
                seen.add(path)
                waiting.extend(self.infos[path].references)
        return frozenset(seen)

    def __iter__(self) -> Iterator[PathInfo]:
        return iter(self.infos.values())

    def __len__(self) -> int:
        return len(self.infos)

    def __contains__(self, path: object) -> bool:
        return path in self.infos

    def __getitem__(self, path: str) -> PathInfo:
        return self.infos[path]


def store_path_name(path: str) -> str:
    """A store path's name: what follows store, hash and dash."""
    return path[len(STORE) + HASH_LENGTH + 1 :]


def is_store_path(path: str) -> bool:
    """Whether this is a store path itself, not something below one."""
    return _STORE_PATH.fullmatch(path) is not None


def _check(info: PathInfo) -> None:
    for path in (info.path, *info.references):
        if not is_store_path(path):
            raise _malformed(f"{path[:300]!r} is no store path")
    if _SRI.fullmatch(info.nar_hash) is None:
        raise _malformed(f"{info.path} has the NAR hash {info.nar_hash[:80]!r}")
    if info.nar_size < 0:
        raise _malformed(f"{info.path} has a NAR of {info.nar_size} bytes")


def _malformed(what: str) -> Retryable:
    return Retryable(
        Reason.RESULT_INVALID, f"the closure is malformed: {what}", hint="Build it again"
    )
