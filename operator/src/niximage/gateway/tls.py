"""A certificate from files, read again when they change: cert-manager renews them in place.

New connections get the new certificate; those that are open go on with what they have.
"""

import asyncio
import logging
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Final

from cryptography import x509

from niximage.errors import Reason, Terminal

LOGGER = logging.getLogger("niximage.gateway")

LOOK_EVERY: Final = 5.0  # seconds


class Certificate:
    """A certificate chain and its key, and the TLS context that uses them.

    Args:
        chain: a PEM file, the server's own certificate first.
        key: a PEM file.
        loaded: told when the certificate ends, in seconds since 1970, whenever one is taken.
    """

    def __init__(self, chain: Path, key: Path, loaded: Callable[[float], None]) -> None:
        """Read both.

        Raises:
            Terminal: they cannot be read, or do not belong together.
        """
        self._chain, self._key, self._loaded = chain, key, loaded
        self.context = _context()
        self._seen = self._mark()
        self._load()

    async def watch(self) -> None:
        """Look for changes until cancelled."""
        while True:
            await asyncio.sleep(LOOK_EVERY)
            mark = self._mark()
            if mark in (None, self._seen):
                continue
            try:
                self._load()
            except Terminal as error:
                # Both files change one after the other: the next look may find them whole.
                LOGGER.warning("%s; the one before stays in use", error)
            else:
                self._seen = mark
                LOGGER.info("%s has changed: new connections use it", self._chain)

    def _load(self) -> None:
        try:
            # First into a context that nobody uses: half a change must not end up in ours.
            _context().load_cert_chain(self._chain, self._key, password="")
            ends = x509.load_pem_x509_certificate(self._chain.read_bytes()).not_valid_after_utc
            self.context.load_cert_chain(self._chain, self._key, password="")
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            raise Terminal(
                Reason.INVALID_SPEC,
                f"cannot use the certificate {self._chain} with the key {self._key}: {error}",
                hint="Both are PEM files of one pair, without a passphrase, readable by this user",
            ) from None
        self._loaded(ends.timestamp())

    def _mark(self) -> tuple[tuple[int, int, int], ...] | None:
        """What changes when a file does; Kubernetes swaps a link, so the inode counts too."""
        try:
            found = [path.stat() for path in (self._chain, self._key)]
        except OSError:
            return None
        return tuple((each.st_ino, each.st_mtime_ns, each.st_size) for each in found)


def _context() -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.set_alpn_protocols(["http/1.1"])
    return context
