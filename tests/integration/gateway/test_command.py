"""`niximage serve`: options that do not fit are told in one line, and a stop is clean."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from integration.conftest import answers, free_port, wait_until
from integration.tiny import tiny_image
from niximage.bucket.file import FileStore

SERVE = [sys.executable, "-m", "niximage", "serve", "--port", "0"]
INPUT_AT_FAULT = 65


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--auth", "htpasswd"], "--auth htpasswd and --htpasswd belong together"),
        (["--htpasswd", "users"], "--auth htpasswd and --htpasswd belong together"),
        (["--auth", "htpasswd", "--htpasswd", "absent"], "cannot read users from absent"),
        (["--tls-key", "key"], "a certificate without its key"),
        (["--tls-key", "absent", "--tls-certificate", "absent"], "cannot use the certificate"),
        (["--token-key", "absent"], "cannot read the token key absent"),
        (["--auth", "kubernetes"], "no cluster to talk to"),
        (["--url", "registry.example"], "is no URL"),
        (["--host", "203.0.113.1"], "cannot listen on 203.0.113.1"),
    ],
)
def test_options_that_cannot_work_are_told(tmp_path: Path, options: list[str], words: str) -> None:
    (tmp_path / "users").write_text("")
    environment = {**os.environ, "KUBECONFIG": str(tmp_path / "none"), "HOME": str(tmp_path)}
    done = subprocess.run(
        [*SERVE, "--bucket", (tmp_path / "bucket").as_uri(), *options],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=tmp_path,
        env=environment,
    )
    assert done.returncode == INPUT_AT_FAULT, done.stderr
    assert words in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_a_bucket_that_is_not_there_is_told_at_the_start(tmp_path: Path) -> None:
    with (tmp_path / "err").open("wb") as err:
        process = subprocess.Popen([*SERVE, "--bucket", "file:///nowhere"], stderr=err)
    said = (tmp_path / "err").read_text
    wait_until("the warning", lambda: "the folder is not there" in said(), process)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0
    assert "nothing can be pulled yet: cannot list " in said()


def test_a_run_from_start_to_stop(tmp_path: Path) -> None:
    image = tiny_image(b"one")
    store = FileStore(tmp_path / "bucket")
    image.publish(store, "team/app")
    port = free_port()
    with (tmp_path / "out").open("wb") as out, (tmp_path / "err").open("wb") as err:
        process = subprocess.Popen(
            [*SERVE, "--bucket", store.url, "--port", str(port)], stdout=out, stderr=err
        )
    url = f"http://127.0.0.1:{port}"
    wait_until("gateway", lambda: answers(f"{url}/readyz"), process)
    assert answers(f"{url}/v2/team/app/manifests/{image.digest}")
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0
    (line,) = [json.loads(line) for line in (tmp_path / "out").read_text().splitlines()]
    assert (line["path"], line["status"]) == (f"/v2/team/app/manifests/{image.digest}", 200)
    said = (tmp_path / "err").read_text()
    assert f"serving {store.url} at {url}" in said
    assert "stopping" in said
