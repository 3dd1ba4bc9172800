"""One binary cache: what it says of itself, and what it has of a store path."""

from dataclasses import dataclass
from typing import Final

from niximage.errors import NixImageError, Reason, Retryable, Terminal
from niximage.image.closure import HASH_LENGTH, STORE, PathInfo
from niximage.nix.folder_cache import Unreachable
from niximage.nix.narinfo import (
    CACHE_INFO_LIMIT,
    NARINFO_LIMIT,
    NarInfo,
    parse_cache_info,
    parse_narinfo,
)
from niximage.nix.transport import Transport

FAILURES: Final = 3  # narinfos in a row that could not be read, each often enough


@dataclass(frozen=True, slots=True)
class Substitute:
    """A store path as a binary cache has it.

    Attributes:
        nar: its narinfo, which is trusted.
        trusted_by: why: the name of the key that signed it, or its content address.
        cache: where it is.
    """

    nar: NarInfo
    trusted_by: str
    cache: Transport

    @property
    def info(self) -> PathInfo:
        """The path info that is trusted."""
        return self.nar.info


@dataclass(frozen=True, slots=True)
class Answer:
    """What the caches say of a path.

    Attributes:
        found: it, or None.
        refused: why what was there does not count.
        failure: why it is not known whether it is there.
    """

    found: Substitute | None
    refused: str = ""
    failure: NixImageError | None = None


@dataclass(slots=True)
class BinaryCache:
    """One binary cache.

    Attributes:
        transport: how to read it.
        priority: the lower, the earlier; None until it says.
        failure: why it is not asked any more.
        failures: how many narinfos in a row could not be read.
    """

    transport: Transport
    priority: int | None
    failure: NixImageError | None = None
    failures: int = 0

    async def introduce(self) -> None:
        """Ask what it is."""
        try:
            data = await self.transport.read("nix-cache-info", CACHE_INFO_LIMIT)
            if data is None:
                raise self._no_cache("it has no nix-cache-info")
            said = parse_cache_info(data).priority
        except ValueError as error:
            self.failure = self._no_cache(str(error))
        except NixImageError as error:
            self.failure = error
        else:
            self.priority = said if self.priority is None else self.priority

    async def narinfo(self, path: str) -> NarInfo | None:
        """What it has of a path.

        Raises:
            ValueError: its narinfo is malformed, or about another path.
            Retryable: it cannot be read now.
            Terminal: it is no binary cache, or wants credentials.
        """
        if self.failure is not None:
            raise self.failure
        hash_part = path[len(STORE) :][:HASH_LENGTH]
        try:
            data = await self.transport.read(f"{hash_part}.narinfo", NARINFO_LIMIT)
        except NixImageError as error:
            self.failures += 1
            if self.failures >= FAILURES or not _may_be_alone(error):
                # It was tried often enough: what is asked next need not wait as long again.
                self.failure = error
            raise
        self.failures = 0
        if data is None:
            return None
        nar = parse_narinfo(data, hash_part)
        if nar.info.path != path:
            raise ValueError(f"it is about {nar.info.path}")
        return nar

    def _no_cache(self, why: str) -> Terminal:
        return Terminal(
            Reason.INVALID_SPEC,
            f"{self.transport.url} is no binary cache for us: {why}",
            hint="Correct the URL among the substituters",
        )


def _may_be_alone(error: NixImageError) -> bool:
    """Whether a cache that cannot give this may well give something else."""
    return isinstance(error, Retryable) and not isinstance(error, Unreachable)
