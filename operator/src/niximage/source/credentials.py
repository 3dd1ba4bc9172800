"""What opens a private repository: a Secret's keys, made ready for git.

The keys are those of Flux. Nothing of them is ever part of a command line, of an environment
or of a message: git finds them in files of a folder that goes with the run.
"""

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import quote, urlsplit

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

from niximage.errors import Reason, Retryable
from niximage.source.failures import shown_url

USERNAME: Final = "username"
PASSWORD: Final = "password"  # noqa: S105 (a key's name)
BEARER_TOKEN: Final = "bearerToken"  # noqa: S105 (a key's name)
IDENTITY: Final = "identity"
KNOWN_HOSTS: Final = "known_hosts"
AUTHORITY: Final = "ca.crt"
KEYS: Final = (USERNAME, PASSWORD, BEARER_TOKEN, IDENTITY, KNOWN_HOSTS, AUTHORITY)

VALUE_LIMIT: Final = 256 << 10  # bytes of one value
MARK: Final = "…"  # stands for what must not be shown

_SSH: Final = (
    "-o IdentitiesOnly=yes -o IdentityAgent=none -o PreferredAuthentications=publickey"
    " -o GlobalKnownHostsFile=/dev/null -o UpdateHostKeys=no"
)
_TOKEN: Final = re.compile(rb"[A-Za-z0-9._~+/=-]+")
_CONTROL: Final = re.compile(rb"[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Credentials:
    """The keys of a Secret that are of use here.

    Attributes:
        where: what to call it in messages: `the Secret team-a/packages`.
        values: those that it has, by key.
    """

    where: str
    values: Mapping[str, bytes] = field(repr=False)

    def text(self, key: str) -> bytes:
        """A value of one line, without the newline that editors put at its end; b"" if absent."""
        return self.values.get(key, b"").rstrip(b"\r\n")

    def redact(self, text: str) -> str:
        """Text in which none of the secret values is left."""
        for key in (PASSWORD, BEARER_TOKEN):
            if value := self.text(key).decode("utf-8", "replace"):
                for spelled in (value, quote(value, safe="")):
                    text = text.replace(spelled, MARK)
        return text


@dataclass(frozen=True, slots=True)
class Access:
    """How git is let in, on top of its usual settings.

    Attributes:
        files: to be written into its home, for its user alone.
        settings: as `git -c` takes them; none is secret.
        environment: variables; none is secret.
    """

    files: Mapping[str, bytes] = field(repr=False)
    settings: Mapping[str, str]
    environment: Mapping[str, str]


def read_credentials(folder: Path, where: str) -> Credentials:
    """Read the keys of a Secret that is mounted, or laid out alike, in a folder.

    Args:
        folder: one file per key.
        where: what to call it in messages.

    Raises:
        Retryable: a file cannot be read.
    """
    values: dict[str, bytes] = {}
    for key in KEYS:
        try:
            with (folder / key).open("rb") as file:
                values[key] = file.read(VALUE_LIMIT + 1)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise missing(where, f"its {key} cannot be read: {error.strerror}") from None
    return Credentials(where, values)


def access(url: str, credentials: Credentials, home: Path, ssh: str) -> Access:
    """What git needs to be let in at a URL. Pure.

    Args:
        url: the repository.
        credentials: the keys.
        home: the folder that the files will be in.
        ssh: the command that runs ssh, without identity.

    Raises:
        Retryable: keys that this kind of URL needs are missing or malformed.
    """
    for key, value in credentials.values.items():
        if len(value) > VALUE_LIMIT:
            raise missing(credentials.where, f"its {key} has more than {VALUE_LIMIT} bytes")
    if urlsplit(url).scheme == "ssh":
        return _ssh_access(url, credentials, home, ssh)
    return _http_access(url, credentials, home)


def missing(where: str, what: str, hint: str = "") -> Retryable:
    """The error of a Secret that is not as it should be; it may be mended without a new spec."""
    return Retryable(
        Reason.CREDENTIALS_MISSING,
        f"{where} does not open the source: {what}",
        hint=hint or "Mend the Secret: it is read again at each try",
    )


def _http_access(url: str, credentials: Credentials, home: Path) -> Access:
    files: dict[str, bytes] = {}
    settings: dict[str, str] = {}
    environment: dict[str, str] = {}
    parts = urlsplit(url)
    token, user = credentials.text(BEARER_TOKEN), credentials.text(USERNAME)
    password = credentials.text(PASSWORD)
    if token:
        if not _TOKEN.fullmatch(token):
            raise missing(credentials.where, f"its {BEARER_TOKEN} is no token")
        origin = f"{parts.scheme}://{parts.netloc}/"
        header = f'[http "{origin}"]\n\textraHeader = "Authorization: Bearer {token.decode()}"\n'
        files["config"] = header.encode()
        environment["GIT_CONFIG_GLOBAL"] = str(home / "config")
        # Git would send its headers to wherever a redirect leads.
        settings["http.followRedirects"] = "false"
    elif user and password:
        if _CONTROL.search(user + password):
            raise missing(credentials.where, f"its {USERNAME} or {PASSWORD} has control characters")
        pair = f"{quote(user, safe='')}:{quote(password, safe='')}"
        files["credentials"] = f"{parts.scheme}://{pair}@{parts.netloc}\n".encode()
        # Of the host alone: what a redirect leads to elsewhere is not told.
        settings["credential.helper"] = f"store --file={shlex.quote(str(home / 'credentials'))}"
    elif user or password or not credentials.values.get(AUTHORITY):
        raise missing(
            credentials.where,
            f"{shown_url(url)} takes {USERNAME} and {PASSWORD}, or {BEARER_TOKEN}; "
            f"{_has(credentials)}",
            "Create the Secret with these keys: it is read again at each try",
        )
    if authority := credentials.values.get(AUTHORITY):
        files[AUTHORITY] = authority
        environment["GIT_SSL_CAINFO"] = str(home / AUTHORITY)
    return Access(files, settings, environment)


def _ssh_access(url: str, credentials: Credentials, home: Path, ssh: str) -> Access:
    identity, known_hosts = (credentials.values.get(k, b"") for k in (IDENTITY, KNOWN_HOSTS))
    if not identity.strip() or not known_hosts.strip():
        raise missing(
            credentials.where,
            f"{shown_url(url)} takes {IDENTITY} and {KNOWN_HOSTS}; {_has(credentials)}",
            "Create the Secret with these keys, as `flux create secret git` does: it is read "
            "again at each try",
        )
    command = f"{ssh} {_SSH}"
    for option, name in (("IdentityFile", IDENTITY), ("UserKnownHostsFile", KNOWN_HOSTS)):
        command += f" -o {option}={shlex.quote(str(home / name))}"
    key = _open_key(identity, credentials.text(PASSWORD) or None, credentials.where)
    return Access(
        {IDENTITY: key, KNOWN_HOSTS: known_hosts.rstrip(b"\n") + b"\n"},
        {},
        {"GIT_SSH_COMMAND": command},
    )


def _open_key(identity: bytes, password: bytes | None, where: str) -> bytes:
    """A private key without its passphrase: nobody is there to type it."""
    try:
        if b"OPENSSH PRIVATE KEY" in identity:
            key = serialization.load_ssh_private_key(identity, password)
        else:
            loaded = serialization.load_pem_private_key(identity, password)
            key = loaded  # type: ignore[assignment]  # what OpenSSH cannot write is refused below
        return key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.OpenSSH,
            serialization.NoEncryption(),
        )
    except TypeError:
        words = (
            f"its {IDENTITY} has a passphrase, and there is no {PASSWORD} with it"
            if password is None
            else f"it has a {PASSWORD}, but its {IDENTITY} has no passphrase"
        )
        raise missing(where, words) from None
    except (ValueError, UnsupportedAlgorithm):
        raise missing(
            where, f"its {IDENTITY} is no private key, or its {PASSWORD} is wrong"
        ) from None


def _has(credentials: Credentials) -> str:
    """Which keys there are, in words."""
    found = sorted(key for key, value in credentials.values.items() if value.strip())
    if not found:
        return "it does not exist, or has none of these"
    return f"it has {', '.join(found)}"
