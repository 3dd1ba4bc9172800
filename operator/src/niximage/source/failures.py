"""What git says, as the project's errors. Pure.

Git has no exit codes for its reasons, so they are read from its messages, in the C locale.
What is not known counts as retryable: a source is not given up for a word we did not expect.
"""

import re
from typing import Final
from urllib.parse import urlsplit, urlunsplit

from niximage.errors import NixImageError, Reason, Retryable, Terminal, plain_text

_CHECK_NETWORK: Final = "Check the host, and the network between"
LINE_LIMIT: Final = 300  # bytes of git's own words in a message

# A password may have an @ in it: the last one before the path ends it.
_USERINFO = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*://)[^/\s]*@")
_PASSWORD = re.compile(r"(?P<user>ssh://[^/\s@:]*):[^/\s]*@")

_PREFIX = re.compile(r"^(?:(?:fatal|error|remote|ERROR):\s*)+(?:unable to access '[^']*':\s*)?")
_REASON = re.compile(r"(?:fatal|error|remote: ?error):", re.IGNORECASE)
_UNREACHABLE = re.compile(
    r"could not resolve host|couldn't connect|failed to connect|connection (?:refused|reset|timed"
    r" out)|operation (?:too slow|timed out)|returned error: (?:408|429|5\d\d)|timed out|"
    r"network is unreachable|no route to host|unexpected disconnect|empty reply from server",
    re.IGNORECASE,
)
_REFUSED = re.compile(
    r"authentication failed|could not read (?:username|password)|terminal prompts disabled|"
    r"returned error: (?:401|403)|permission denied|host key verification failed|"
    r"access denied|unable to read askpass",
    re.IGNORECASE,
)
_NOT_THERE = re.compile(
    r"repository .*not found|returned error: (?:404|410)|does not appear to be a git repo|"
    r"is this a git repository|does not exist|not valid: could not|no such file or directory",
    re.IGNORECASE,
)
_PROTOCOL = re.compile(
    r"transport '.*' not allowed|unable to find remote helper|protocol .* not supported|"
    r"url .*(?:malformed|rejected)|strange (?:hostname|pathname|port)|unable to parse url",
    re.IGNORECASE,
)
_HOST_KEY = re.compile(
    r"host key verification failed|host identification has changed|no .* host key is known",
    re.IGNORECASE,
)
_UNTRUSTED = re.compile(
    r"server (?:certificate )?verification failed|SSL certificate|certificate verify"
    r"|certificate has expired|certificate subject name|self[- ]signed certificate"
    r"|unable to get local issuer",
    re.IGNORECASE,
)
_REDIRECT = re.compile(r"returned error: 30\d|unable to update url base", re.IGNORECASE)
_NO_REF = re.compile(r"couldn't find remote ref|not our ref|no such remote ref", re.IGNORECASE)


def shown_url(url: str) -> str:
    """A URL as it may be shown: without password, and for HTTP without user."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return plain_text(without_credentials(url), 1024)
    user, at, host = parts.netloc.rpartition("@")
    if at:
        shown = f"{user.partition(':')[0]}@{host}" if parts.scheme == "ssh" else host
        url = urlunsplit(parts._replace(netloc=shown))
    return plain_text(url, 1024)


def without_credentials(text: str) -> str:
    """Text in which no URL has a user or a password any more; ssh keeps its user."""
    text = _PASSWORD.sub(r"\g<user>@", text)
    return _USERINFO.sub(
        lambda found: found[0] if found["scheme"] == "ssh://" else found["scheme"], text
    )


def failure(url: str, complaint: str, secret: str = "") -> NixImageError:
    """The error that git's complaint about a repository stands for.

    Args:
        url: the repository.
        complaint: git's standard error, as it came.
        secret: what to call the Secret that should have opened it, or "" where there is none.
    """
    if secret and (closed := _closed(url, complaint, secret)) is not None:
        return closed
    said, shown = last_words(complaint), shown_url(url)
    if found := _UNREACHABLE.search(complaint):
        return Retryable(
            Reason.SOURCE_UNAVAILABLE,
            f"{shown} cannot be reached: {_line_at(complaint, found.start())}",
            hint=_CHECK_NETWORK,
        )
    if found := _UNTRUSTED.search(complaint):
        return Retryable(
            Reason.SOURCE_UNAVAILABLE,
            f"{shown} has a certificate that is not trusted: {_line_at(complaint, found.start())}",
            hint="Put who signed it into ca.crt of the Secret in source.git.secretRef, or mend the "
            "server's certificate",
        )
    if found := _REFUSED.search(complaint):
        return Terminal(
            Reason.AUTHENTICATION_FAILED,
            f"{shown} does not let us in: {_line_at(complaint, found.start())}",
            hint="The repository is private, or not there: check the URL, or name what opens it "
            "in source.git.secretRef",
        )
    if _NO_REF.search(complaint):
        return Terminal(
            Reason.REFERENCE_NOT_FOUND,
            f"{shown} does not have what was asked for: {said}",
            hint="Check the ref or the commit",
        )
    if found := _NOT_THERE.search(complaint):
        return Terminal(
            Reason.INVALID_SOURCE,
            f"{shown} is no git repository: {_line_at(complaint, found.start())}",
            hint="Check the URL",
        )
    if _PROTOCOL.search(complaint):
        local = "; file:// is for `niximage build --allow-file` on your own machine"
        return Terminal(
            Reason.INVALID_SOURCE,
            f"{shown} is no URL that can be used: {said}",
            hint="Write an https://, http:// or ssh:// URL"
            + (local if url.startswith("file://") else ""),
        )
    return Retryable(
        Reason.SOURCE_UNAVAILABLE,
        f"git failed on {shown}: {said}",
        hint="See what `git ls-remote` says of it",
    )


def _closed(url: str, complaint: str, secret: str) -> NixImageError | None:
    """The error of credentials that do not open a repository, where that is what git says.

    Retryable: a Secret can be mended without a new spec, and nobody tells us of it. Many
    servers say of what is closed to somebody that it is not there.
    """
    if _UNREACHABLE.search(complaint) or _UNTRUSTED.search(complaint):
        return None
    for pattern, hint in (
        (
            _HOST_KEY,
            "Put the host's key into known_hosts of the Secret, once you checked that it is its",
        ),
        (_REFUSED, "Check the Secret's keys and what they may read"),
        (_NOT_THERE, "Check the URL, and what the Secret's keys may read"),
        (_REDIRECT, "Write the URL that it leads to: a token is not sent to wherever that is"),
    ):
        if found := pattern.search(complaint):
            said = _line_at(complaint, found.start())
            return Retryable(
                Reason.AUTHENTICATION_FAILED,
                f"{shown_url(url)} does not open with {secret}: {said}",
                hint=f"{hint}. The Secret is read again at each try",
            )
    return None


def _line_at(complaint: str, position: int) -> str:
    """The line of a complaint that holds a position."""
    line = complaint[complaint.rfind("\n", 0, position) + 1 :].partition("\n")[0]
    return _said(line)


def timed_out(url: str, timeout: float) -> Retryable:
    """The error for a repository that took too long."""
    return Retryable(
        Reason.SOURCE_UNAVAILABLE,
        f"{shown_url(url)} did not answer within {timeout:g} s",
        hint=_CHECK_NETWORK,
    )


def last_words(complaint: str) -> str:
    """The last line that says why: git's `fatal:` or `error:`, else whatever came last."""
    lines = [line for line in plain_text(complaint, 1 << 16).split("\n") if line.strip()]
    fatal = [line for line in lines if _REASON.match(line)]
    line = (fatal or lines or ["git said nothing"])[-1]
    return _said(line)


def _said(line: str) -> str:
    """What a line says, without git's own name for it and the URL that ours begins with."""
    words = _PREFIX.sub("", without_credentials(line).strip())
    return plain_text(words or line, LINE_LIMIT)
