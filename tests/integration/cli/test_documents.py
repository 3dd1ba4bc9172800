"""The commands of the documentation for a machine without a cluster: page by page, as written.

What a page leaves to its reader (names, hosts, packages of a set that is not here) is put in by
`REPLACED`; the files that it speaks of are there. The rest is run as it stands.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
import yaml

from integration.conftest import free_port
from integration.nix.demo import PROJECT, Demo
from integration.nix.foreign import TwoPlatforms
from integration.source.conftest import Server, SmartHandler
from support.documented import PAGES, Place, Shown, script, shown
from support.kubernetes import nix_image

COMMANDS: Final[dict[str, list[Shown]]] = {
    str(page.relative_to(PROJECT)): [each for each in shown(page) if each.place is Place.FOLDER]
    for page in PAGES
}
PORT: Final = free_port()
REPLACED: Final = {
    # of the machine
    "gs://my-images": "file://$PWD/images",
    "file:///srv/images": "file://$PWD/images",
    "--port 5000 &": f"--port {PORT} & {{ trap 'kill $!' EXIT; }}; "
    f"curl --silent --retry 50 --retry-connrefused --retry-delay 1 127.0.0.1:{PORT}/v2/",
    "docker://127.0.0.1:5000": f"docker://127.0.0.1:{PORT}",
    # of the package set
    "-p git -p htop -p bashInteractive": "-p hello -p cowsay -p shell",
    "-p my-server": "-p hello",
    "--source . ": "--source set ",
    "--source FOLDER -p NAME": "--source set -p hello",
    # of the reader
    "--registry HOST": "--registry 127.0.0.1:5000",
    "team-a/hello@sha256:…": "$IMAGE",
}
BEFORE: Final = {
    "docs/bucket.md": """
        mkdir images; echo '{}' > scan.sarif
        IMAGE=$(niximage build -f image.yaml --bucket "file://$PWD/images" | head -n 1)
    """,
}
SAYS: Final = {
    "README.md": ("default/hello@sha256:",),
    "docs/local.md": ("not locked yet", "hello-2.12", '"Name": "127.0.0.1:'),
    "docs/output.md": ("127.0.0.1:5000/team/web:",),
    "docs/platforms.md": ("linux/arm64",),
}
"""Words among what it prints."""


@pytest.fixture(scope="module")
def nixpkgs(demo: Demo) -> Iterator[str]:
    """The URL of a repository with the channel that the examples name."""
    server = Server(type("Handler", (SmartHandler,), {"root": demo.path.parent}))
    yield f"{server.url}/{demo.path.name}"
    server.stop()


@pytest.fixture
def caches(
    request: pytest.FixtureRequest, page: str, nixpkgs: str, tmp_path: Path
) -> dict[str, str]:
    """The variables that name a binary cache; only where a page is about another platform."""
    if page != "docs/platforms.md":
        return {"NIXIMAGE_SUBSTITUTERS": ""}
    package_set: Path = request.getfixturevalue("package_set")
    two = TwoPlatforms.make(package_set, tmp_path, ["hello", "shell", "greeting-data"])
    keys = {"NIXIMAGE_TRUSTED_PUBLIC_KEYS": two.key.public}
    return {"NIXIMAGE_SUBSTITUTERS": two.folder.as_uri(), **keys}


@pytest.mark.parametrize("page", [page for page, commands in COMMANDS.items() if commands])
def test_what_a_page_shows_works(
    page: str, caches: dict[str, str], nixpkgs: str, package_set: Path, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    shutil.copytree(PROJECT / "examples", home / "examples")
    (home / "set").symlink_to(package_set)
    for name in ("web", "image"):
        (home / f"{name}.yaml").write_text(yaml.safe_dump(nix_image("team", "web")))
    done = subprocess.run(
        ["bash", "-c", BEFORE.get(page, "") + script(COMMANDS[page], REPLACED)],
        cwd=home,
        env={
            **os.environ,
            **caches,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(home),
            "XDG_CACHE_HOME": str(home / "cache"),
            "NIXIMAGE_NIXPKGS_URL": nixpkgs,
        },
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-3000:]
    for words in SAYS.get(page, ()):
        assert words in done.stdout
