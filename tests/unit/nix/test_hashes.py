"""Hashes in Nix's spellings, against what the Nix programs say of them."""

import base64
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from niximage.nix.hashes import content_addressed_path, nix32, sri

# printf '' | nix hash file --type sha256 --base32 /dev/stdin, and so on.
EMPTY = "0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73"


def test_base32_is_nix_s_own() -> None:
    digest = hashlib.sha256(b"").digest()
    assert nix32("sha256-" + base64.b64encode(digest).decode()) == f"sha256:{EMPTY}"


@given(st.binary(min_size=32, max_size=32))
def test_every_spelling_leads_back(digest: bytes) -> None:
    spelled = "sha256-" + base64.b64encode(digest).decode()
    assert sri(nix32(spelled)) == sri(f"sha256:{digest.hex()}") == sri(spelled) == spelled


@pytest.mark.parametrize(
    "text", ["", "md5:00", "sha256:", "sha256:" + "e" * 52, "sha256-AAAA", EMPTY]
)
def test_other_things_are_no_hash(text: str) -> None:
    with pytest.raises(ValueError, match="no SHA-256"):
        sri(text)


def test_a_content_s_path_depends_on_content_name_and_references() -> None:
    nar_hash = "sha256-" + base64.b64encode(bytes(32)).decode()
    reference = "/nix/store/" + "a" * 32 + "-r"
    paths = {
        content_addressed_path(nar_hash, [], "a"),
        content_addressed_path(nar_hash, [], "b"),
        content_addressed_path(nar_hash, [reference], "a"),
        content_addressed_path(nar_hash.replace("AAAA", "BAAA", 1), [], "a"),
    }
    assert len(paths) == 4
