"""Both shapes of `nix path-info --json`, all forms of hashes, and what is neither."""

import base64
import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from niximage.errors import Reason, Retryable
from niximage.image.closure import PathInfo
from niximage.nix.hashes import sri
from niximage.nix.path_info import parse

HELLO = "/nix/store/i5bmi003vvyvrp64mgf960hhhpwkbpag-hello-2.12"
SHELL = "/nix/store/jqhwfdq28f2ficyjg2r4jx4a28wlpddl-shell-1.36"
HELLO_HASH = "sha256-q10EUAtIUvt/5kOxWnNDPUc2qMpUzgnWDI7P85VSv4o="
SHELL_HASH = "sha256-gnrG9qZ4EoLkK7Lw/6/COHG55s9O1M/bMPRnS2iH9jY="
EXPECTED = [PathInfo(HELLO, HELLO_HASH, 912, (SHELL,)), PathInfo(SHELL, SHELL_HASH, 2034368, ())]

# As Nix 2.8.0 prints it.
OLD = json.dumps(
    [
        {
            "path": HELLO,
            "narHash": HELLO_HASH,
            "narSize": 912,
            "references": [SHELL],
            "deriver": "/nix/store/87iv39s3qs9lnw9zd5siy41cfxqgn457-hello-2.12.drv",
            "registrationTime": 1795231217,
            "ultimate": True,
        },
        {
            "path": SHELL,
            "narHash": SHELL_HASH,
            "narSize": 2034368,
            "references": [],
            "registrationTime": 1795231217,
        },
    ]
).encode()

# As Nix 2.26.3 prints it.
NEW = json.dumps(
    {
        HELLO: {
            "ca": None,
            "deriver": "/nix/store/87iv39s3qs9lnw9zd5siy41cfxqgn457-hello-2.12.drv",
            "narHash": HELLO_HASH,
            "narSize": 912,
            "references": [SHELL],
            "registrationTime": 1795231217,
            "signatures": [],
            "ultimate": True,
        },
        SHELL: {
            "ca": None,
            "deriver": None,
            "narHash": SHELL_HASH,
            "narSize": 2034368,
            "references": [],
            "registrationTime": 1795231217,
            "signatures": [],
            "ultimate": True,
        },
    }
).encode()


@pytest.mark.parametrize("answer", [OLD, NEW])
def test_both_shapes_are_read(answer: bytes) -> None:
    assert parse(answer) == EXPECTED


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"nonsense",
        b"3",
        b'["x"]',
        b'[{"path":"/nix/store/x","valid":false}]',
        b'{"/nix/store/x":null}',
        NEW.replace(b'"narSize": 912', b'"narSize": "912"'),
        NEW.replace(HELLO_HASH.encode(), b"sha256:tooshort"),
        NEW.replace(b'"references": []', b'"references": [1]'),
    ],
)
def test_anything_else_is_an_error_not_a_crash(answer: bytes) -> None:
    with pytest.raises(Retryable) as caught:
        parse(answer)
    assert caught.value.reason is Reason.RESULT_INVALID


def test_a_hash_in_nix_s_base32_is_the_one_that_nix_prints() -> None:
    # nix hash to-base32 sha256-q10EUAtIUvt/5kOxWnNDPUc2qMpUzgnWDI7P85VSv4o=
    assert sri("sha256:12mzaaaz7kwf1kb0kkjlral3cirx8drmmca3wrzznlj81d808pdb") == HELLO_HASH


@given(st.binary(min_size=32, max_size=32))
def test_hexadecimal_and_base64_are_read_too(digest: bytes) -> None:
    expected = "sha256-" + base64.b64encode(digest).decode()
    assert sri("sha256:" + digest.hex()) == expected
    assert sri("sha256:" + base64.b64encode(digest).decode()) == expected
    assert sri(expected) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sha256:",
        "md5:" + "0" * 32,
        "sha1-" + "0" * 28,
        "sha256:" + "e" * 52,
        "sha256:" + "z" * 52,
    ],
)
def test_what_is_no_sha256_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"SHA-256|substring"):
        sri(text)


def test_the_hash_function_is_sha256() -> None:
    assert sri("sha256:" + hashlib.sha256(b"").hexdigest()).endswith(
        "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="
    )
