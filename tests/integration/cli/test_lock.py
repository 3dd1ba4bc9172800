"""`niximage lock` over a real Git repository, as a user and as CI run it."""

from pathlib import Path
from typing import Final

import pytest
from typer.testing import CliRunner, Result

from integration.nix.demo import Demo
from niximage.cli.app import app
from niximage.errors import EXIT_TERMINAL

FILE: Final = """\
# The web server.
apiVersion: niximage.dev/v1alpha1
kind: NixImage
metadata: {name: web, namespace: team}
spec:
  packages: [hello]  # more to come
  source:
    nixpkgs:
      channel: nixos-26.05
---
apiVersion: v1
kind: ConfigMap
metadata: {name: other}
"""


class Project:
    """A file with a NixImage, and the repository that its channel is in."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.demo = Demo.make(folder / "repository")
        self.file = folder / "image.yaml"
        self.file.write_text(FILE)

    def lock(self, *arguments: str, code: int = 0) -> Result:
        done = CliRunner(env={"XDG_CACHE_HOME": str(self._folder / "cache")}).invoke(
            app,
            [
                *("lock", "-f", str(self.file), *arguments),
                *("--nixpkgs-url", self.demo.path.as_uri(), "--allow-file", "--substituters", ""),
            ],
        )
        assert done.exit_code == code, (done.stdout, done.stderr, done.exception)
        return done


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def test_a_file_is_locked_checked_and_updated(project: Project) -> None:
    moving = project.lock("--check", code=EXIT_TERMINAL)
    assert "team/web follows the channel nixos-26.05" in moving.stderr
    assert "Run `niximage lock`" in moving.stderr
    assert project.file.read_text() == FILE

    first = project.demo.source.revision
    project.lock()
    text = project.file.read_text()
    assert f"      revision: {first}  # channel: nixos-26.05\n      narHash: sha256-" in text
    assert text.startswith(FILE[: FILE.index("      channel")])
    assert text.endswith(FILE[FILE.index("---") :])
    project.lock("--check")
    assert "is locked" in project.lock().stdout
    assert project.file.read_text() == text

    second = project.demo.move("newer")
    project.lock("--check")
    behind = project.lock("--check", "--update", code=EXIT_TERMINAL)
    assert f"is behind channel nixos-26.05, which is at {second}" in behind.stderr
    project.lock("--update")
    assert f"revision: {second}  # channel: nixos-26.05\n" in project.file.read_text()
    assert first not in project.file.read_text()
    project.lock("--check", "--update")


def test_the_digest_that_is_expected_is_that_of_a_build(project: Project) -> None:
    project.lock("--check", "--no-nar-hash", code=EXIT_TERMINAL)
    done = project.lock("--no-nar-hash", "--digest", "build")
    text = project.file.read_text()
    assert "narHash" not in text
    digest = text.partition("expectedDigest: ")[2].split()[0]
    assert f"team/web: expects {digest}" in done.stdout
    assert digest.startswith("sha256:")
    assert "is locked" in project.lock("--no-nar-hash", "--digest", "build").stdout


def test_what_flux_fetched_cannot_be_locked(project: Project) -> None:
    nixpkgs = "    nixpkgs:\n      channel: nixos-26.05\n"
    reference = "    sourceRef: {kind: GitRepository, name: set}\n"
    text = FILE.replace(nixpkgs, reference)
    project.file.write_text(text)
    assert "its sourceRef cannot be locked" in project.lock().stderr
    assert "is not locked" in project.lock("--check", code=EXIT_TERMINAL).stderr
    assert project.file.read_text() == text
