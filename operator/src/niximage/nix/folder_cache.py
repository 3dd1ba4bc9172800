"""Files of a binary cache in a folder of this machine."""

import asyncio
import os
import stat
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from niximage.errors import Reason, Retryable

CHUNK: Final = 256 << 10  # bytes read at once


@dataclass(frozen=True, slots=True)
class FolderCache:
    """Reads a cache's files from a folder; see `niximage.nix.transport.Transport`."""

    url: str
    path: Path

    async def read(self, name: str, limit: int) -> bytes | None:
        """See `Transport`."""
        return await asyncio.to_thread(self._read, name, limit)

    async def stream(self, name: str, limit: int) -> AsyncGenerator[bytes, None]:
        """See `Transport`."""
        try:
            descriptor = await asyncio.to_thread(self._open, name)
            try:
                done = 0
                while data := await asyncio.to_thread(os.read, descriptor, CHUNK):
                    done += len(data)
                    if done > limit:
                        raise unavailable(f"{self.url}/{name}", f"it has more than {limit} bytes")
                    yield data
            finally:
                os.close(descriptor)
        except OSError as error:
            raise unavailable(f"{self.url}/{name}", error.strerror or str(error)) from None

    def _read(self, name: str, limit: int) -> bytes | None:
        where = f"{self.url}/{name}"
        try:
            descriptor = self._open(name)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise unavailable(where, error.strerror or str(error)) from None
        with os.fdopen(descriptor, "rb") as file:
            data = file.read(limit + 1)
        if len(data) > limit:
            raise ValueError(f"it has more than {limit} bytes")
        return data

    def _open(self, name: str) -> int:
        # A pipe in a file's place must not be waited for.
        descriptor = os.open(self.path / name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise FileNotFoundError(2, "it is no file", name)
        return descriptor


class Unreachable(Retryable):
    """Nobody answers at the cache's address: what else it has cannot be read, either."""


def unavailable(where: str, why: str, kind: type[Retryable] = Retryable) -> Retryable:
    """The error of a file that cannot be read now."""
    return kind(
        Reason.SUBSTITUTER_UNAVAILABLE,
        f"{where} cannot be read: {why}",
        hint="Check the binary cache and the network between, or leave the cache out",
    )
