"""The hash by which Nix knows a folder, whatever fetched it."""

import base64
from pathlib import Path

from niximage.errors import Reason, Retryable, Terminal
from niximage.nix.programs import NixStore, run


def nar_hash(folder: Path, *, store: NixStore, timeout: float) -> str:
    """The SHA-256 over a folder's NAR, as `sha256-` and base64.

    Args:
        folder: a file or folder.
        store: how the Nix programs are set up.
        timeout: seconds it may take.

    Raises:
        Terminal: it took too long.
        Retryable: Nix is not installed, or cannot read the folder.
    """
    arguments = ["--type", "sha256", str(folder)]
    ended = run("nix-hash", arguments, store=store, timeout=timeout)
    try:
        if ended.code == 0:
            digest = bytes.fromhex(ended.stdout.decode("ascii").strip())
            return f"sha256-{base64.b64encode(digest).decode()}"
    except ValueError:
        pass
    raise Retryable(Reason.INTERNAL_ERROR, f"nix-hash cannot hash {folder}: {ended.stderr[-500:]}")


def check_nar_hash(folder: Path, expected: str, *, store: NixStore, timeout: float) -> None:
    """See that a folder's files are those that were expected.

    Raises:
        Terminal: they are not.
        Retryable: they cannot be hashed.
    """
    found = nar_hash(folder, store=store, timeout=timeout)
    if found != expected:
        raise Terminal(
            Reason.HASH_MISMATCH,
            f"the source's files hash to {found}, but narHash is {expected}",
            hint="Check the revision, and that the server is the right one",
        )
