"""Narinfos: what is read of a good one, and every way in which one may lie or be broken."""

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from niximage.errors import Terminal
from niximage.image.closure import PathInfo
from niximage.nix.narinfo import (
    NARINFO_LIMIT,
    REFERENCES_LIMIT,
    parse_cache_info,
    parse_narinfo,
)
from niximage.nix.signature import Signature, TrustedKeys, fingerprint

HASH = "i5bmi003vvyvrp64mgf960hhhpwkbpag"
PATH = f"/nix/store/{HASH}-hello-2.12"
SHELL = "/nix/store/jqhwfdq28f2ficyjg2r4jx4a28wlpddl-shell-1.36"
NAR_HASH = "0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73"
GOOD = {
    "StorePath": PATH,
    "URL": f"nar/{NAR_HASH}.nar.xz",
    "Compression": "xz",
    "FileHash": f"sha256:{NAR_HASH}",
    "FileSize": "400",
    "NarHash": f"sha256:{NAR_HASH}",
    "NarSize": "912",
    "References": f"{PATH[11:]} {SHELL[11:]}",
    "Deriver": "87iv39s3qs9lnw9zd5siy41cfxqgn457-hello-2.12.drv",
}


def narinfo(*extra: str, **fields: str | None) -> bytes:
    merged = {name: value for name, value in {**GOOD, **fields}.items() if value is not None}
    lines = [*(f"{name}: {value}" for name, value in merged.items()), *extra]
    return "".join(f"{line}\n" for line in lines).encode()


def test_all_that_is_needed_is_read() -> None:
    nar = parse_narinfo(narinfo(), HASH)
    assert nar.info == PathInfo(
        PATH, "sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=", 912, (PATH, SHELL)
    )
    assert (nar.url, nar.compression, nar.file_size) == (GOOD["URL"], "xz", 400)
    assert nar.file_hash == nar.info.nar_hash


def test_what_later_versions_add_is_passed_over() -> None:
    assert parse_narinfo(narinfo("Colour: green"), HASH) == parse_narinfo(narinfo(), HASH)


def test_what_a_cache_need_not_say_may_be_missing() -> None:
    bare = narinfo(FileHash=None, FileSize=None, Compression=None, Deriver=None, References="")
    nar = parse_narinfo(bare, HASH)
    assert (nar.compression, nar.file_hash, nar.file_size) == ("bzip2", "", 0)
    assert nar.info.references == ()


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"StorePath": None}, "no StorePath"),
        ({"StorePath": "/etc/passwd"}, "no store path"),
        ({"StorePath": f"/nix/store/{HASH}-../x"}, "no store path"),
        ({"StorePath": SHELL}, "not about"),
        ({"StorePath": f"/gnu/store/{HASH}-x"}, "no store path"),
        ({"URL": None}, "no URL"),
        ({"URL": "../../secret"}, "does not stay"),
        ({"URL": "nar/../../secret"}, "does not stay"),
        ({"URL": "/etc/passwd"}, "does not stay"),
        ({"URL": "//elsewhere/x"}, "does not stay"),
        ({"URL": "http://169.254.169.254/"}, "does not stay"),
        ({"URL": "file:///etc/passwd"}, "does not stay"),
        ({"URL": "nar/%2e%2e/x"}, "does not stay"),
        ({"URL": "nar/x#y"}, "does not stay"),
        ({"URL": "nar\\x"}, "does not stay"),
        ({"URL": "nar/x@elsewhere"}, "does not stay"),
        ({"URL": "n" * 2000}, "does not stay"),
        ({"Compression": "lzip"}, "not known"),
        ({"FileHash": "sha256:x"}, "FileHash"),
        ({"FileHash": "md5:d41d8cd98f00b204e9800998ecf8427e"}, "FileHash"),
        ({"FileSize": "-1"}, "FileSize"),
        ({"FileSize": "1e9"}, "FileSize"),
        ({"NarHash": None}, "no NarHash"),
        ({"NarHash": "sha512:00"}, "NarHash"),
        ({"NarSize": None}, "no NarSize"),
        ({"NarSize": "0"}, "NarSize is 0"),
        ({"NarSize": "9" * 400}, "NarSize"),
        ({"NarSize": str(1 << 41)}, "NarSize"),
        ({"References": "hello"}, "no store path"),
        ({"References": SHELL}, "no store path"),
        ({"References": "../../etc/passwd"}, "no store path"),
        ({"References": f"{SHELL[11:]} " * (REFERENCES_LIMIT + 1)}, "references"),
    ],
)
def test_what_is_wrong_is_refused(fields: dict[str, str | None], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        parse_narinfo(narinfo(**fields), HASH)


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"", "no StorePath"),
        (b"<html>", "line 1"),
        (narinfo() + b"NarSize: 913\n", "NarSize twice"),
        (narinfo() + b"\n\n", "line 10"),
        (narinfo() + b"\x00", "line 10"),
        (narinfo().replace(b"\n", b"\r\n"), "line 1"),
        (narinfo() + b"Name: \xff\n", "not ASCII"),
        (narinfo() + b"x" * NARINFO_LIMIT, "bytes"),
        (b"Sig: a:AAAA\n" * 40, "signatures"),
    ],
)
def test_what_is_no_narinfo_is_refused(data: bytes, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        parse_narinfo(data, HASH)


@given(st.one_of(st.binary(max_size=400), st.text(max_size=300).map(str.encode)))
def test_noise_is_refused_in_words(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"it |line|Store"):
        parse_narinfo(data, HASH)


@given(st.integers(0, len(narinfo()) - 1), st.integers(0, 255))
def test_a_changed_byte_is_refused_or_seen(place: int, byte: int) -> None:
    """Whatever one byte does, what comes out is never signed by the key of the original."""
    good = parse_narinfo(narinfo(), HASH)
    key, trusted = new_key("k")
    signature = Signature("k", key.sign(fingerprint(good.info)))
    data = bytearray(narinfo())
    data[place] = byte
    try:
        changed = parse_narinfo(bytes(data), HASH)
    except ValueError:
        return
    if changed.info != good.info:
        assert trusted.signer(changed.info, [signature]) is None


def new_key(name: str) -> tuple[Ed25519PrivateKey, TrustedKeys]:
    key = Ed25519PrivateKey.generate()
    public = base64.b64encode(key.public_key().public_bytes_raw()).decode()
    return key, TrustedKeys.parse([f"{name}:{public}"])


def signed(key: Ed25519PrivateKey, name: str, data: bytes) -> str:
    info = parse_narinfo(data, HASH).info
    return f"Sig: {name}:{base64.b64encode(key.sign(fingerprint(info))).decode()}"


def test_the_fingerprint_is_nix_s() -> None:
    info = parse_narinfo(narinfo(), HASH).info
    assert fingerprint(info) == f"1;{PATH};sha256:{NAR_HASH};912;{PATH},{SHELL}".encode()


def test_one_trusted_signature_among_others_is_enough() -> None:
    key, trusted = new_key("ours-1")
    other, _ = new_key("theirs-1")
    data = narinfo(
        "Sig: future-1:post+quantum",
        "Sig: nonsense",
        signed(other, "theirs-1", narinfo()),
        signed(key, "ours-1", narinfo()),
    )
    assert parse_narinfo(data, HASH).trusted_by(trusted) == "ours-1"


def test_a_signature_counts_for_its_own_key_and_its_own_content_only() -> None:
    key, trusted = new_key("ours-1")
    other, _ = new_key("theirs-1")
    for data in (
        narinfo(),
        narinfo(signed(other, "ours-1", narinfo())),
        narinfo(signed(key, "theirs-1", narinfo())),
        narinfo(signed(key, "ours-1", narinfo()), NarSize="913"),
        narinfo(signed(key, "ours-1", narinfo()), References=SHELL[11:]),
        narinfo(signed(key, "ours-1", narinfo()), StorePath=f"{PATH}x"),
    ):
        assert parse_narinfo(data, HASH).trusted_by(trusted) is None


def test_a_name_may_have_two_keys_while_one_is_replaced() -> None:
    old, old_trusted = new_key("ours-1")
    _, new_trusted = new_key("ours-1")
    both = TrustedKeys({"ours-1": new_trusted.keys["ours-1"] + old_trusted.keys["ours-1"]})
    data = narinfo(signed(old, "ours-1", narinfo()))
    assert parse_narinfo(data, HASH).trusted_by(both) == "ours-1"
    assert parse_narinfo(data, HASH).trusted_by(new_trusted) is None


@pytest.mark.parametrize(
    "address",
    [
        f"fixed:r:sha256:{NAR_HASH}",
        f"fixed:sha256:{NAR_HASH}",
        f"text:sha256:{NAR_HASH}",
        "fixed:r:sha256:",
        "fixed:r:sha256:\N{SNOWMAN}".encode().decode("ascii", "replace"),
        "fixed:r:md5:x",
    ],
)
def test_a_claimed_content_address_alone_proves_nothing(address: str) -> None:
    data = narinfo(f"CA: {address.encode('ascii', 'ignore').decode()}")
    assert parse_narinfo(data, HASH).trusted_by(TrustedKeys.parse([])) is None


@pytest.mark.parametrize(
    "text", ["", "x", "name:", "name:AAAA", ":AAAA", "a b:AAAA", "n:" + "A" * 43]
)
def test_a_malformed_key_is_told(text: str) -> None:
    with pytest.raises(Terminal, match="trusted public key"):
        TrustedKeys.parse([text])


def test_a_cache_says_its_priority_and_its_store() -> None:
    assert (
        parse_cache_info(b"StoreDir: /nix/store\nWantMassQuery: 1\nPriority: 40\n").priority == 40
    )
    assert parse_cache_info(b"StoreDir: /nix/store\n").priority == 50


@pytest.mark.parametrize(
    "data",
    [
        b"StoreDir: /gnu/store\n",
        b"Priority: -1\n",
        b"Priority: 99999999\n",
        b"Priority: high\n",
        b"<html>\n",
        b"StoreDir: /nix/store\nStoreDir: /nix/store\n",
        b"A: " + b"x" * 20_000,
    ],
)
def test_what_is_no_cache_for_us_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"it|line|priority"):
        parse_cache_info(data)
