"""`niximage serve`: the gateway, with who may pull."""

import asyncio
import contextlib
import dataclasses
import logging
import secrets
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from niximage.bucket import ObjectStore, keys, open_store
from niximage.errors import NixImageError, Reason, Terminal
from niximage.gateway import (
    AccessLog,
    Authority,
    HtpasswdAuthority,
    Options,
    ServiceAccountAuthority,
    serve,
)

LOGGER = logging.getLogger("niximage.gateway")
TOKEN_KEY_LIMIT = 4096  # bytes


def run(
    bucket: str,
    options: Options,
    *,
    auth: str,
    htpasswd: Path | None,
    audience: str,
    token_key: Path | None,
    access_log: bool,
) -> None:
    """Serve a bucket until SIGTERM.

    Raises:
        NixImageError: the options do not fit together, or what they name cannot be used.
    """
    _check(options, auth, htpasswd)
    options = dataclasses.replace(options, token_key=_token_key(token_key))
    # Short: whoever pulls tries again sooner than it would wait.
    store = open_store(bucket, patience=10)
    try:
        asyncio.run(_serve(store, options, auth, htpasswd, audience, access_log=access_log))
    finally:
        store.close()


async def _serve(
    store: ObjectStore,
    options: Options,
    auth: str,
    htpasswd: Path | None,
    audience: str,
    *,
    access_log: bool,
) -> None:
    log = AccessLog(sys.stdout.buffer) if access_log else None
    async with _authority(auth, htpasswd, audience) as authority:
        looking = asyncio.create_task(_look(store))
        try:
            await serve(store, options, authority=authority, access_log=log)
        finally:
            looking.cancel()


async def _look(store: ObjectStore) -> None:
    """Say at once what each pull would say later; the bucket may still come."""
    try:
        await asyncio.to_thread(next, store.list(keys.LEASES), None)
    except NixImageError as error:
        LOGGER.warning("nothing can be pulled yet: %s", error)


@contextlib.asynccontextmanager
async def _authority(
    auth: str, htpasswd: Path | None, audience: str
) -> AsyncIterator[Authority | None]:
    match auth:
        case "htpasswd":
            assert htpasswd is not None
            yield HtpasswdAuthority(htpasswd)
        case "kubernetes":
            from niximage.controller.cluster.client import ApiServer

            async with ApiServer() as cluster:
                yield ServiceAccountAuthority(cluster, audience)
        case _:
            yield None


def _check(options: Options, auth: str, htpasswd: Path | None) -> None:
    if (options.certificate is None) != (options.key is None):
        raise _invalid("a certificate without its key, or a key alone", "Give both of --tls-*")
    if (auth == "htpasswd") != (htpasswd is not None):
        raise _invalid("--auth htpasswd and --htpasswd belong together", "Give both, or neither")
    if options.url and not options.url.startswith(("http://", "https://")):
        raise _invalid(f"{options.url!r:.200} is no URL", "Give --url https://HOST")


def _token_key(path: Path | None) -> bytes:
    if path is None:
        return secrets.token_bytes(32)
    try:
        with path.open("rb") as file:
            return file.read(TOKEN_KEY_LIMIT)
    except OSError as error:
        raise _invalid(
            f"cannot read the token key {path}: {error.strerror}", "Give --token-key a file"
        ) from None


def _invalid(message: str, hint: str) -> Terminal:
    return Terminal(Reason.INVALID_SPEC, message, hint=hint)
