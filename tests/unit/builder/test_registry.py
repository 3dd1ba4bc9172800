"""What skopeo says, as errors; and which registries are this very machine."""

import pytest

from niximage.builder.registry import _failure, is_loopback, may_be_plain
from niximage.errors import NixImageError, Reason, Retryable, Terminal

NAME = "example.org/debian@sha256:…"


@pytest.mark.parametrize(
    ("image", "loopback"),
    [
        ("localhost/x", True),
        ("localhost:5000/x", True),
        ("127.0.0.1:5000/x", True),
        ("127.8.9.1/x", True),
        ("[::1]:5000/x", True),
        ("example.org/x", False),
        ("localhost.example.org/x", False),
        ("127.0.0.1.example.org/x", False),
        ("10.0.0.1:5000/x", False),
        ("[fe80::1]/x", False),
        ("registry:5000/localhost", False),
    ],
)
def test_plain_http_is_for_loopback_alone(image: str, loopback: bool) -> None:
    assert is_loopback(image) is loopback


@pytest.mark.parametrize(
    ("image", "plain"),
    [
        ("127.0.0.1:5000/x", True),
        ("10.0.0.1:5000/x", True),
        ("registry.lan/a/b", True),
        ("10.0.0.1:5001/x", False),
        ("10.0.0.1/x", False),
        ("registry.lan.example.org/x", False),
        ("example.org/registry.lan", False),
    ],
)
def test_plain_http_is_for_what_an_admin_names_too(image: str, plain: bool) -> None:
    assert may_be_plain(image, "10.0.0.1:5000 registry.lan") is plain


def test_the_image_is_named_once_and_nothing_is_escaped() -> None:
    digest = f"sha256:{'1' * 64}"
    complaint = (
        'time="2026-11-21T16:09:00Z" level=fatal msg="Error parsing image name '
        f'\\"docker://10.0.0.1:5000/debian@{digest}\\": pinging container registry 10.0.0.1:5000: '
        'Get \\"https://10.0.0.1:5000/v2/\\": tls: failed to verify certificate"\n'
    )
    assert _failure("10.0.0.1:5000/debian", complaint).message == (
        "the base 10.0.0.1:5000/debian cannot be fetched: pinging container registry "
        '10.0.0.1:5000: Get "https://10.0.0.1:5000/v2/": tls: failed to verify certificate'
    )


@pytest.mark.parametrize(
    ("said", "kind", "reason"),
    [
        (
            "initializing source docker://a/b: reading manifest sha256:00 in a/b: manifest unknown",
            Terminal,
            Reason.REFERENCE_NOT_FOUND,
        ),
        ("reading manifest x in a/b: unauthorized: access denied", Terminal, "auth"),
        ("unable to retrieve auth token: invalid username/password", Terminal, "auth"),
        ("requested access to the resource is denied", Terminal, "auth"),
        ("writing blob: happened during read: Digest did not match, expected", Terminal, "hash"),
        ("Manifest does not match provided manifest digest sha256:0", Terminal, "hash"),
        ("dial tcp: lookup a: no such host", Retryable, Reason.SOURCE_UNAVAILABLE),
        ("dial tcp 127.0.0.1:9: connect: connection refused", Retryable, "unavailable"),
        ("received unexpected HTTP status: 503 Service Unavailable", Retryable, "unavailable"),
        ("unexpected EOF", Retryable, "unavailable"),
        ("", Retryable, "unavailable"),
    ],
)
def test_skopeos_words_are_understood(
    said: str, kind: type[NixImageError], reason: Reason | str
) -> None:
    short = {
        "auth": Reason.AUTHENTICATION_FAILED,
        "hash": Reason.HASH_MISMATCH,
        "unavailable": Reason.SOURCE_UNAVAILABLE,
    }
    complaint = f'time="2026-11-21T05:02:56Z" level=fatal msg="{said}"\n' if said else ""
    error = _failure(NAME, complaint)
    assert (type(error), error.reason) == (kind, short.get(str(reason), reason))
    assert NAME in error.message
    assert said in error.message
    assert "level=" not in error.message
