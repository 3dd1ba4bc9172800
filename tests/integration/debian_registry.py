"""Debian's docker-registry over a folder: a reader of our buckets that others wrote."""

import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from integration.conftest import answers, end, free_port, wait_until


@contextmanager
def public_folder() -> Iterator[Path]:
    """A folder that every user of this machine may enter, unlike pytest's own."""
    folder = Path(tempfile.mkdtemp(prefix="niximage-bucket-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@contextmanager
def debian_registry(
    bucket: Path,
    run_as: dict[str, Any],
    folder: Path,
    *,
    host: str = "127.0.0.1",
    is_writable: bool = False,
) -> Iterator[str]:
    """The URL of a docker-registry that serves a folder.

    Args:
        bucket: the folder, which the user below may read.
        run_as: arguments of `Popen`: the user that it runs as.
        folder: where its configuration and its log go; that user may read it.
        host: the address of this machine to listen at.
        is_writable: whether images may be pushed.
    """
    port = free_port()
    config = folder / "docker-registry.yml"
    config.write_text(
        json.dumps(  # YAML holds JSON
            {
                "version": 0.1,
                "log": {"level": "error"},
                "storage": {
                    "filesystem": {"rootdirectory": str(bucket)},
                    "maintenance": {
                        "uploadpurging": {"enabled": False},
                        "readonly": {"enabled": not is_writable},
                    },
                },
                "http": {"addr": f"{host}:{port}"},
            }
        )
    )
    config.chmod(0o644)
    with (folder / "docker-registry.log").open("wb") as log:
        process = subprocess.Popen(
            ["docker-registry", "serve", config], stdout=log, stderr=log, **run_as
        )
    url = f"http://{host}:{port}"
    try:
        wait_until("docker-registry", lambda: answers(f"{url}/v2/"), process)
        yield url
    finally:
        end(process)
