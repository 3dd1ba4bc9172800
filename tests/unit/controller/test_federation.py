"""Publish's credentials: a token in its own volume, exchanged as Google's libraries do it."""

import http.server
import json
import threading
import urllib.parse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import google.auth
import pytest
from google.auth.transport.requests import Request

from niximage.controller.builds.federation import parse_federation
from niximage.controller.builds.job import job_manifest
from niximage.errors import Terminal
from unit.controller.states import SETTINGS
from unit.controller.test_job import CREATE, IMAGE, containers, environment

PROVIDER = "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/k"
CONFIGURATION = {
    "type": "external_account",
    "audience": PROVIDER,
    "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
    "token_url": "https://sts.googleapis.com/v1/token",
    "credential_source": {"file": "token"},
}


FEDERATION = parse_federation(json.dumps(CONFIGURATION))


def manifest() -> dict[str, Any]:
    return job_manifest(IMAGE, CREATE, replace(SETTINGS, federation=FEDERATION))


def test_the_token_is_for_publish_alone() -> None:
    template = manifest()["spec"]["template"]
    (volume,) = (v for v in template["spec"]["volumes"] if v["name"] == "federation")
    token, configuration = volume["projected"]["sources"]
    assert token["serviceAccountToken"]["audience"] == f"https:{PROVIDER}"
    (item,) = configuration["downwardAPI"]["items"]
    name = item["fieldRef"]["fieldPath"].split("'")[1]
    read = json.loads(template["metadata"]["annotations"][name])
    steps = containers(manifest())
    (mount,) = (m for m in steps["publish"]["volumeMounts"] if m["name"] == "federation")
    assert mount["readOnly"]
    where = mount["mountPath"]
    assert read["credential_source"]["file"] == f"{where}/{token['serviceAccountToken']['path']}"
    file = environment(steps["publish"])["GOOGLE_APPLICATION_CREDENTIALS"]
    assert file == f"{where}/{item['path']}"
    assert "federation" not in {m["name"] for m in steps["build"]["volumeMounts"]}
    assert "GOOGLE_APPLICATION_CREDENTIALS" not in environment(steps["build"])


def test_without_a_configuration_there_is_nothing_of_it() -> None:
    assert parse_federation("") is None
    plain = json.dumps(job_manifest(IMAGE, CREATE, SETTINGS))
    assert "serviceAccountToken" not in plain
    assert "niximage.dev/credentials" not in plain


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "larger than"),
        ("[" * 16_000, "not JSON"),
        ("[]", "not of the type"),
        (json.dumps({"type": "service_account", "private_key": "s3cret"}), "keys do not belong"),
        (json.dumps({**CONFIGURATION, "audience": "x"}), "without an audience"),
        (json.dumps({**CONFIGURATION, "token_url": "http://evil"}), "https:// token_url"),
    ],
)
def test_what_is_none_is_told_with_how_to_make_one(text: str, words: str) -> None:
    with pytest.raises(Terminal, match="gcloud iam workload-identity-pools") as caught:
        parse_federation(text)
    assert words in caught.value.message
    assert "s3cret" not in str(caught.value)


@pytest.fixture
def exchange() -> Iterator[tuple[str, list[dict[str, str]]]]:
    """A place that exchanges any token, and what it was asked."""
    asked: list[dict[str, str]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            asked.append(dict(urllib.parse.parse_qsl(body)))
            answer = {"access_token": "clouds-own", "token_type": "Bearer", "expires_in": 3600}
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps(answer | {"issued_token_type": "x"}).encode())

        def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002 (so named above)
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/token", asked
    server.shutdown()
    server.server_close()
    thread.join()


def test_google_s_library_exchanges_the_token_of_the_volume(
    exchange: tuple[str, list[dict[str, str]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, asked = exchange
    assert FEDERATION is not None
    document = json.loads(FEDERATION.configuration)
    token = tmp_path / Path(document["credential_source"]["file"]).name
    token.write_text("kubernetes-own")
    document["credential_source"]["file"] = str(token)
    file = tmp_path / "credentials.json"
    file.write_text(json.dumps({**document, "token_url": url}))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(file))
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "none")
    credentials, _ = google.auth.default(scopes=["https://www.googleapis.com/auth/devstorage"])
    credentials.refresh(Request())  # type: ignore[no-untyped-call]  # it has no types
    assert credentials.token == "clouds-own"
    assert asked[0]["subject_token"] == "kubernetes-own"
    assert asked[0]["audience"] == PROVIDER
