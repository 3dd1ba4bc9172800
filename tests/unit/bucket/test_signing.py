"""URLs are signed by a key file, or by IAM, and not at all where nobody can."""

import base64
import binascii
import hashlib
import json
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import google.oauth2.credentials
import pytest
import requests
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from google.auth import compute_engine
from google.auth.credentials import AnonymousCredentials
from google.auth.exceptions import TransportError
from google.cloud import storage  # type: ignore[import-untyped]
from requests.adapters import BaseAdapter

from niximage.bucket.signing import KEY_FILE, Signer
from support.google_keys import EMAIL, write_key_file

NAME = "some/prefix/blobs/sha256/aa/data"


@pytest.fixture(scope="module")
def key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


@pytest.fixture
def blob() -> Any:
    client = storage.Client(project="p", credentials=AnonymousCredentials())  # type: ignore[no-untyped-call]
    return client.bucket("images").blob(NAME)


def assert_signed(url: str, key: rsa.RSAPrivateKey, lifetime: int) -> None:
    """The signature is what Google computes from the same request."""
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query))
    signature = binascii.unhexlify(query.pop("X-Goog-Signature"))
    scope = query["X-Goog-Credential"].removeprefix(f"{EMAIL}/")
    assert query["X-Goog-Algorithm"] == "GOOG4-RSA-SHA256"
    assert query["X-Goog-Expires"] == str(lifetime)
    canonical = "\n".join(
        [
            "GET",
            parts.path,
            urlencode(sorted(query.items()), quote_via=quote, safe=""),
            f"host:{parts.netloc}\n",
            "host",
            "UNSIGNED-PAYLOAD",
        ]
    )
    hashed = hashlib.sha256(canonical.encode()).hexdigest()
    signed = "\n".join(["GOOG4-RSA-SHA256", query["X-Goog-Date"], scope, hashed])
    key.public_key().verify(signature, signed.encode(), padding.PKCS1v15(), hashes.SHA256())


def test_a_key_file_signs(
    key: rsa.RSAPrivateKey, blob: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY_FILE, str(write_key_file(tmp_path / "key.json", key)))
    url = Signer(AnonymousCredentials()).url(blob, 3600)  # type: ignore[no-untyped-call]
    assert url is not None
    assert url.startswith(f"https://storage.googleapis.com/images/{NAME}?")
    assert_signed(url, key, 3600)
    emulated = Signer(AnonymousCredentials(), "http://127.0.0.1:1/").url(blob, 60)  # type: ignore[no-untyped-call]
    assert emulated is not None
    assert emulated.startswith(f"http://127.0.0.1:1/images/{NAME}?")
    assert_signed(emulated, key, 60)


class Google(BaseAdapter):
    """The metadata server and IAM, as a pod with Workload Identity meets them."""

    def __init__(self, key: rsa.RSAPrivateKey, *, allowed: bool = True) -> None:
        super().__init__()
        self.key = key
        self.allowed = allowed
        self.asked: list[str] = []

    def send(self, request: requests.PreparedRequest, **_: Any) -> requests.Response:  # type: ignore[override]
        url = str(request.url)
        self.asked.append(url)
        response = requests.Response()
        response.status_code, answer = self._answer(url, request)
        response.headers["Content-Type"] = "application/json"
        response.headers["Metadata-Flavor"] = "Google"
        response._content = json.dumps(answer).encode()
        return response

    def close(self) -> None:
        pass

    def _answer(self, url: str, request: requests.PreparedRequest) -> tuple[int, Any]:
        if url.endswith(f"{EMAIL}:signBlob"):
            if not self.allowed:
                return 403, {"error": {"message": "iam.serviceAccounts.signBlob denied"}}
            assert request.headers["Authorization"] == "Bearer metadata-token"
            assert isinstance(request.body, bytes)
            payload = base64.b64decode(json.loads(request.body)["payload"])
            signature = self.key.sign(payload, padding.PKCS1v15(), hashes.SHA256())
            return 200, {"keyId": "1", "signedBlob": base64.b64encode(signature).decode()}
        if "/token" in url:
            return 200, {"access_token": "metadata-token", "expires_in": 3600}
        if "universe" in url:
            return 200, "googleapis.com"
        return 200, {"email": EMAIL, "scopes": ["https://www.googleapis.com/auth/cloud-platform"]}


def session(google: Google) -> requests.Session:
    made = requests.Session()
    made.mount("https://", google)
    made.mount("http://", google)
    return made


def metadata_credentials() -> Any:
    return compute_engine.Credentials(universe_domain="googleapis.com")  # type: ignore[no-untyped-call]


def test_iam_signs_where_there_is_no_key_file(key: rsa.RSAPrivateKey, blob: Any) -> None:
    google = Google(key)
    url = Signer(metadata_credentials(), "", session(google)).url(blob, 3600)
    assert url is not None
    assert_signed(url, key, 3600)
    assert sum("signBlob" in asked for asked in google.asked) == 1


def test_a_refusal_of_iam_is_an_error(key: rsa.RSAPrivateKey, blob: Any) -> None:
    refusing = Google(key, allowed=False)
    with pytest.raises(TransportError, match="signBlob denied"):
        Signer(metadata_credentials(), "", session(refusing)).url(blob, 3600)


def test_nobody_signs_for_an_emulator_or_for_a_person(
    blob: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(KEY_FILE, raising=False)
    person = google.oauth2.credentials.Credentials("token")  # type: ignore[no-untyped-call]
    for credentials in (AnonymousCredentials(), person):  # type: ignore[no-untyped-call]
        assert Signer(credentials).url(blob, 60) is None
