"""One version everywhere, and workflows that do nothing which `make` does not do here."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

PROJECT = Path(__file__).parents[2]
CHART = Path("charts/niximage-operator/Chart.yaml")
FILES = [Path("pyproject.toml"), Path("uv.lock"), Path("CHANGELOG.md"), CHART, Path(".ci/version")]
WORKFLOWS = sorted((PROJECT / ".github" / "workflows").iterdir())


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of all that knows a version."""
    for file in FILES:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(PROJECT / file, tmp_path / file)
    return tmp_path


def version(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [folder / ".ci" / "version", *args], capture_output=True, text=True, timeout=20, check=False
    )


def edit(file: Path, pattern: str, replacement: str) -> None:
    text, count = re.subn(pattern, replacement, file.read_text(), count=1, flags=re.MULTILINE)
    assert count == 1
    file.write_text(text)


def test_a_release_sets_every_version_and_opens_a_new_chapter(copy: Path) -> None:
    done = version(copy, "set", "7.8.9")
    assert done.returncode == 0, done.stderr
    assert version(copy).stdout == "7.8.9\n"
    chart = yaml.safe_load((copy / CHART).read_text())
    assert (chart["version"], chart["appVersion"]) == ("7.8.9", "7.8.9")
    changes = (copy / "CHANGELOG.md").read_text()
    assert re.search(r"^## Unreleased\n\n## 7\.8\.9 - \d{4}-\d\d-\d\d\n", changes, re.MULTILINE)
    again = version(copy, "set", "7.8.9")
    assert (again.returncode, again.stderr) == (1, "error: 7.8.9 is released already\n")


@pytest.mark.parametrize(
    ("file", "pattern", "replacement", "words"),
    [
        ("pyproject.toml", r'^version = ".*"', 'version = "9.9.9"', "version is not 9.9.9"),
        (str(CHART), r"^appVersion: .*", "appVersion: 9.9.9", "appVersion is not"),
        (
            "uv.lock",
            r'(^name = "niximage-operator"\nversion = ).*',
            r'\1"9.9.9"',
            "run: uv lock",
        ),
        ("CHANGELOG.md", r"^## Unreleased\n", "", 'has no "## Unreleased"'),
        (
            "CHANGELOG.md",
            r"^## Unreleased\n",
            "## Unreleased\n\n## 99.0.0 - 2030-01-01\n",
            "tells of 99.0.0, which is newer",
        ),
    ],
)
def test_versions_that_differ_are_told(
    copy: Path, file: str, pattern: str, replacement: str, words: str
) -> None:
    edit(copy / file, pattern, replacement)
    done = version(copy)
    assert done.returncode == 1
    assert words in done.stderr


def test_a_version_that_is_none_is_refused(copy: Path) -> None:
    done = version(copy, "set", "v1")
    assert (done.returncode, done.stderr) == (1, "error: a version is X.Y.Z, not 'v1'\n")


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.name)
def test_workflows_call_what_there_is(file: Path) -> None:
    makefile = (PROJECT / "Makefile").read_text()
    workflow: dict[Any, Any] = yaml.safe_load(file.read_text())
    called = False
    for job in workflow["jobs"].values():
        assert job["timeout-minutes"]
        for step in job["steps"]:
            if str(step.get("uses", "")).startswith("./"):
                assert (PROJECT / step["uses"] / "action.yaml").is_file()
            command = step.get("run", "").split()
            if command[:1] == ["make"]:
                called = True
                for target in command[1:]:
                    assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
            elif command and command[0].startswith(".ci/"):
                assert (PROJECT / command[0]).is_file()
    assert called


def test_hooks_run_programs_that_there_are() -> None:
    config = yaml.safe_load((PROJECT / ".pre-commit-config.yaml").read_text())
    for repository in config["repos"]:
        for hook in repository["hooks"]:
            for path in re.findall(r"\.ci/[a-z-]+", hook["entry"]):
                assert (PROJECT / path).is_file(), path
