"""Git's complaints become errors that say what to do, and never a password."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from niximage.errors import NixImageError, Reason, Retryable, Terminal
from niximage.source.failures import failure, last_words, shown_url, without_credentials

URL = "https://host/repo.git"


@pytest.mark.parametrize(
    ("complaint", "kind", "reason"),
    [
        (
            "fatal: unable to access 'https://host/': Could not resolve host: host",
            Retryable,
            Reason.SOURCE_UNAVAILABLE,
        ),
        (
            "fatal: unable to access 'https://host/': Failed to connect to host port 443",
            Retryable,
            Reason.SOURCE_UNAVAILABLE,
        ),
        (
            "fatal: unable to access 'https://host/': The requested URL returned error: 502",
            Retryable,
            Reason.SOURCE_UNAVAILABLE,
        ),
        (
            "ssh: connect to host h port 22: Connection refused",
            Retryable,
            Reason.SOURCE_UNAVAILABLE,
        ),
        (
            "fatal: could not read Username for 'https://host': terminal prompts disabled",
            Terminal,
            Reason.AUTHENTICATION_FAILED,
        ),
        ("fatal: Authentication failed for 'https://x/'", Terminal, Reason.AUTHENTICATION_FAILED),
        (
            "git@host: Permission denied (publickey).\nfatal: Could not read from remote.",
            Terminal,
            Reason.AUTHENTICATION_FAILED,
        ),
        ("Host key verification failed.", Terminal, Reason.AUTHENTICATION_FAILED),
        ("fatal: repository 'https://host/x/' not found", Terminal, Reason.INVALID_SOURCE),
        (
            "ERROR: Repository not found.\nfatal: Could not read from remote repository.",
            Terminal,
            Reason.INVALID_SOURCE,
        ),
        ("fatal: transport 'file' not allowed", Terminal, Reason.INVALID_SOURCE),
        ("fatal: couldn't find remote ref refs/heads/x", Terminal, Reason.REFERENCE_NOT_FOUND),
        (
            "fatal: remote error: upload-pack: not our ref 1234",
            Terminal,
            Reason.REFERENCE_NOT_FOUND,
        ),
        (
            (
                "fatal: unable to access 'https://host/repo.git/': server verification failed: "
                "certificate signer not trusted. (CAfile: none CRLfile: none)"
            ),
            Retryable,
            Reason.SOURCE_UNAVAILABLE,
        ),
        ("fatal: a word that nobody expected", Retryable, Reason.SOURCE_UNAVAILABLE),
        ("", Retryable, Reason.SOURCE_UNAVAILABLE),
    ],
)
def test_what_a_complaint_means(complaint: str, kind: type[NixImageError], reason: Reason) -> None:
    error = failure(URL, complaint)
    assert (type(error), error.reason) == (kind, reason)
    assert URL in error.message
    assert error.hint


@pytest.mark.parametrize(
    ("complaint", "words"),
    [
        (
            "fatal: unable to access 'https://host/repo.git/': Could not resolve host: host",
            (
                f"{URL} cannot be reached: Could not resolve host: host. Check the host, and the "
                "network between"
            ),
        ),
        (
            (
                "ssh: connect to host h port 22: Network is unreachable\r\nfatal: Could not read "
                "from remote repository.\n\nPlease make sure you have the correct access rights"
            ),
            (
                f"{URL} cannot be reached: ssh: connect to host h port 22: Network is unreachable. "
                "Check the host, and the network between"
            ),
        ),
        (
            (
                "fatal: unable to access 'https://host/repo.git/': SSL certificate problem: "
                "self-signed certificate"
            ),
            (
                f"{URL} has a certificate that is not trusted: SSL certificate problem: "
                "self-signed certificate. Put who signed it into ca.crt of the Secret in "
                "source.git.secretRef, or mend the server's certificate"
            ),
        ),
        (
            "ERROR: Repository not found.\nfatal: Could not read from remote repository.",
            f"{URL} is no git repository: Repository not found. Check the URL",
        ),
    ],
)
def test_a_complaint_is_told_by_the_line_that_decides(complaint: str, words: str) -> None:
    assert str(failure(URL, complaint)) == words


@pytest.mark.parametrize(
    ("complaint", "words"),
    [
        ("warning: x\nfatal: the reason\nsome advice\n", "the reason"),
        ("\x1b[31merror: red\x1b[0m\r\n", "red"),
        ("just this", "just this"),
        ("", "git said nothing"),
        ("fatal: https://me:pw@host/x failed", "https://host/x failed"),
    ],
)
def test_the_line_that_is_quoted(complaint: str, words: str) -> None:
    assert last_words(complaint) == words


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (URL, URL),
        ("https://user:pass@host/x", "https://host/x"),
        ("https://token@host:8443/x", "https://host:8443/x"),
        ("ssh://git@host/x", "ssh://git@host/x"),
        ("ssh://git:pass@host:22/x", "ssh://git@host:22/x"),
        ("https://p@ss@host/x", "https://host/x"),
        ("http://[broken", "http://[broken"),
        ("https://host/\x1b[31mred", "https://host/red"),
    ],
)
def test_a_url_as_it_is_shown(url: str, shown: str) -> None:
    assert shown_url(url) == shown


@given(st.from_regex(r"[A-Za-z0-9!$%:@]{8,20}", fullmatch=True), st.sampled_from(["https", "ssh"]))
def test_no_password_is_ever_shown(secret: str, scheme: str) -> None:
    url = f"{scheme}://user:{secret}@host.example/repo"
    complaint = f"fatal: unable to access '{url}/': nope\nfatal: bad {url}"
    assert secret not in str(failure(url, complaint))
    assert secret not in without_credentials(complaint)


@given(st.text(max_size=300))
def test_any_complaint_is_an_error_of_bounded_size(complaint: str) -> None:
    assert len(str(failure(URL, complaint * 20))) < 1500
