"""What a registry asks for before it answers: a token, or a name and a password.

Credentials are those of `docker login` and its kin, from the files that those write.
"""

import base64
import binascii
import json
import os
import re
from pathlib import Path
from typing import Any, Final

_FILE_LIMIT: Final = 1 << 20
_CHALLENGE: Final = re.compile(r'([a-zA-Z]+)="([^"]*)"')


def credentials(host: str, environment: dict[str, str] | None = None) -> tuple[str, str] | None:
    """The name and password that the user's files hold for a registry.

    Args:
        host: with its port, if it has one.
        environment: the variables that say where the files are; None for the process's own.
    """
    for file in _files(dict(os.environ) if environment is None else environment):
        try:
            with file.open("rb") as opened:
                found = json.loads(opened.read(_FILE_LIMIT))
        except (OSError, ValueError):
            continue
        auths = found.get("auths") if isinstance(found, dict) else None
        if isinstance(auths, dict) and (known := _known(auths, host)) is not None:
            return known
    return None


def bearer(challenge: str) -> tuple[str, dict[str, str]] | None:
    """The URL of a token, and its query, from a `WWW-Authenticate` header. Pure."""
    scheme, _, rest = challenge.partition(" ")
    if scheme.lower() != "bearer":
        return None
    fields = {name.lower(): value for name, value in _CHALLENGE.findall(rest)}
    realm = fields.pop("realm", "")
    wanted = {name: fields[name] for name in ("service", "scope") if name in fields}
    return (realm, wanted) if realm.startswith(("https://", "http://")) else None


def token_of(answer: bytes) -> str | None:
    """The token in what a token server answered, or None if there is none to be sent. Pure."""
    try:
        found = json.loads(answer)
    except (ValueError, RecursionError):
        return None
    tokens = (
        [found.get(name) for name in ("token", "access_token")] if isinstance(found, dict) else []
    )
    token = next((each for each in tokens if isinstance(each, str) and each), "")
    # It goes into a header.
    return token if token.isascii() and token.isprintable() and token else None


def _files(environment: dict[str, str]) -> list[Path]:
    """In podman's order: its own file, docker's."""
    files = []
    if named := environment.get("REGISTRY_AUTH_FILE"):
        return [Path(named)]
    if runtime := environment.get("XDG_RUNTIME_DIR"):
        files.append(Path(runtime) / "containers" / "auth.json")
    home = Path(environment.get("HOME") or "/")
    files.append(Path(environment.get("DOCKER_CONFIG") or home / ".docker") / "config.json")
    return files


def _known(auths: dict[str, Any], host: str) -> tuple[str, str] | None:
    for name in (host, f"https://{host}", f"http://{host}", f"https://{host}/v2/"):
        entry = auths.get(name)
        if not isinstance(entry, dict) or not isinstance(entry.get("auth"), str):
            continue
        try:
            user, colon, password = base64.b64decode(entry["auth"]).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            continue
        if colon:
            return user, password
    return None
