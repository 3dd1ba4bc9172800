"""Where the store paths of an image come from: binary caches first, this machine's store second.

What a binary cache has with a trusted signature never enters the store. It is planned from its
narinfo, and packed from its NAR if its layer is missing. The store has what was built here,
and of that nothing is believed beyond the tenant's own namespace.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from niximage.builder.progress import Say, watcher
from niximage.errors import Reason, Retryable
from niximage.image.closure import Closure, PathInfo
from niximage.image.contents import StoreContents, StoreDirectory
from niximage.image.entries import FileEntry
from niximage.nix.binary_cache import Substitute
from niximage.nix.closure_walk import Walk
from niximage.nix.nar_contents import NarContents
from niximage.nix.path_info import query_closure
from niximage.nix.programs import NixStore
from niximage.nix.signature import TrustedKeys
from niximage.nix.substituters import Substituters

_QUERY_TIMEOUT: Final = 600.0  # seconds; the store answers for 10,000 paths in a few
_SHOWN: Final = 5  # of many paths, in a message


@dataclass(frozen=True)
class ImageSources:
    """The closure of an image, and where its files come from.

    Attributes:
        closure: every store path that runs in it.
        substitutes: those that come from binary caches; the store has the others.
        contents: the files of all of them.
    """

    closure: Closure
    substitutes: Mapping[str, Substitute]
    contents: StoreContents

    @property
    def fetchable(self) -> int:
        """Bytes of all NARs that could be fetched, compressed as the caches have them."""
        found = (each.nar for each in self.substitutes.values())
        return sum(nar.file_size or nar.info.nar_size for nar in found)


@contextmanager
def open_caches(nix: NixStore) -> Iterator[Substituters | None]:
    """The binary caches of the settings, or None where there are none.

    Raises:
        Terminal: a URL or a key is malformed.
    """
    if not nix.substituters:
        yield None
        return
    keys = TrustedKeys.parse(nix.trusted_public_keys)
    with Substituters(nix.substituters, keys) as caches:
        yield caches


def look_up(outputs: Iterable[str], caches: Substituters | None) -> tuple[Walk, list[str]]:
    """What binary caches have of outputs, and which of these lack something.

    Raises:
        Terminal: more store paths than an image may have.
        Retryable: a cache cannot be reached that might have had one.
    """
    wanted = sorted(set(outputs))
    if caches is None:
        return Walk({}, absent=frozenset(wanted)), wanted
    walk = caches.walk(wanted)
    return walk, walk.incomplete(wanted)


def tell_refused(walk: Walk, say: Say) -> None:
    """Say what binary caches have, but not so that it could be believed."""
    for path, why in sorted(walk.refused.items())[:_SHOWN]:
        say(f"{path}: {why}")


def find_sources(
    outputs: Sequence[str], *, caches: Substituters | None, nix: NixStore, say: Say
) -> ImageSources:
    """The closure of an image's outputs.

    Args:
        outputs: store paths; those that no cache has with all their references are in the store.
        caches: the binary caches, if there are any.
        nix: how the Nix programs are set up.
        say: takes progress.

    Raises:
        Terminal: more store paths than an image may have, or listing them took too long.
        Retryable: a cache cannot be reached, or a path is neither there nor in the store.
    """
    walk, missing = look_up(outputs, caches)
    if not missing:
        closure = Closure.of(walk.infos())
    else:
        local = query_closure(missing, store=nix, timeout=_QUERY_TIMEOUT)
        if caches is None:
            return ImageSources(local, {}, StoreDirectory())
        walk = caches.walk(outputs, local.infos)
        if walk.absent:
            raise _absent(walk)
        closure = Closure.of(walk.infos())
    assert caches is not None
    say(f"{len(walk.substitutes)} of {len(closure)} store paths are in binary caches")
    nars = NarContents(caches, walk.substitutes, watcher(say).fetched)
    return ImageSources(closure, walk.substitutes, _TwoContents(nars, walk.substitutes))


class _TwoContents:
    """The files of paths from caches and of paths in the store."""

    def __init__(self, nars: StoreContents, substitutes: Mapping[str, Substitute]) -> None:
        self._nars = nars
        self._store = StoreDirectory()
        self._substitutes = substitutes

    def entries(self, infos: Iterable[PathInfo]) -> Iterator[FileEntry]:
        """See `StoreContents`."""
        for is_nar, group in groupby(infos, key=lambda info: info.path in self._substitutes):
            yield from (self._nars if is_nar else self._store).entries(group)

    def stop(self) -> None:
        """See `StoreContents`."""
        self._nars.stop()


def _absent(walk: Walk) -> Retryable:
    paths = sorted(walk.absent)
    reasons = [f"{path}: {walk.refused[path]}" for path in paths if path in walk.refused]
    shown = "\n".join((reasons or paths)[:_SHOWN])
    return Retryable(
        Reason.RESULT_INVALID,
        f"{len(paths)} store paths are neither in a binary cache nor in the store:\n{shown}",
        hint="Build it again; did a binary cache lose them meanwhile?",
    )
