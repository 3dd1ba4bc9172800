"""The demo's repository: the same commits everywhere, and branches that move."""

import subprocess
from pathlib import Path

from integration.nix.demo import make_repository


def test_equal_sets_have_equal_commits(tmp_path: Path) -> None:
    one, two = (make_repository(tmp_path / name, "nixos-26.05") for name in ("a", "b"))
    assert one == two


def test_a_second_run_changes_nothing(tmp_path: Path) -> None:
    assert make_repository(tmp_path / "r") == make_repository(tmp_path / "r")


def test_branches_share_commits_until_one_moves(tmp_path: Path) -> None:
    first = make_repository(tmp_path / "r", "nixos-26.05", "nixos-26.11").split("\n")
    commits = {line.split()[0] for line in first if line}
    assert len(commits) == 1
    moved = make_repository("--edition", "x", tmp_path / "r", "nixos-26.11").split()[0]
    assert {moved} != commits
    parent = subprocess.run(
        ["git", "-C", tmp_path / "r", "rev-parse", f"{moved}^"],
        check=True,
        capture_output=True,
        text=True,
        timeout=30,
    ).stdout.strip()
    assert {parent} == commits
