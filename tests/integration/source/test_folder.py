"""A folder as a source: its content is its revision."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from niximage.api.build import PinnedSource
from niximage.errors import Reason, Retryable, Terminal
from niximage.source.folder import (
    DEPTH_LIMIT,
    copy_folder,
    copy_volume,
    pin_folder,
    tree_hash,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "set"
    (folder / "sub").mkdir(parents=True)
    (folder / "default.nix").write_text("{ }")
    (folder / "sub" / "file").write_text("content")
    (folder / "link").symlink_to("sub/file")
    return folder


def replaced(path: Path) -> Path:
    path.unlink()
    return path


def made(path: Path) -> Path:
    path.mkdir()
    return path


CHANGES: dict[str, Callable[[Path], object]] = {
    "content": lambda f: (f / "default.nix").write_text("{  }"),
    "a new file": lambda f: (f / "new").write_text(""),
    "a new empty folder": lambda f: (f / "new").mkdir(),
    "another name": lambda f: (f / "sub").rename(f / "other"),
    "an executable bit": lambda f: (f / "default.nix").chmod(0o755),
    "another target": lambda f: replaced(f / "link").symlink_to("sub"),
    "a file for a link": lambda f: replaced(f / "link").write_text("sub/file"),
    "a file less": lambda f: (f / "sub" / "file").unlink(),
}

NO_CHANGES: dict[str, Callable[[Path], object]] = {
    "times": lambda f: os.utime(f / "default.nix", (1, 1)),
    "a commit": lambda f: (made(f / ".git") / "HEAD").write_text("x"),
    "who may read it": lambda f: (f / "default.nix").chmod(0o600),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_change_is_a_new_revision(folder: Path, change: Callable[[Path], object]) -> None:
    before = pin_folder(folder).revision
    change(folder)
    assert pin_folder(folder).revision != before


@pytest.mark.parametrize("change", NO_CHANGES.values(), ids=NO_CHANGES)
def test_what_is_no_content_is_no_change(folder: Path, change: Callable[[Path], object]) -> None:
    before = pin_folder(folder).revision
    change(folder)
    assert pin_folder(folder).revision == before


def test_the_copy_has_the_content_and_not_the_history(folder: Path, tmp_path: Path) -> None:
    (folder / ".git").mkdir()
    source = pin_folder(folder, path="sub")
    fetched = copy_folder(source, tmp_path / "copy")
    assert fetched.path == (tmp_path / "copy" / "sub").resolve()
    assert tree_hash(tmp_path / "copy") == source.revision
    assert (tmp_path / "copy" / "link").is_symlink()
    assert not (tmp_path / "copy" / ".git").exists()


def test_a_folder_that_changes_meanwhile_is_noticed(folder: Path, tmp_path: Path) -> None:
    source = pin_folder(folder)
    (folder / "default.nix").write_text("changed")
    with pytest.raises(Retryable) as caught:
        copy_folder(source, tmp_path / "copy")
    assert "changed while it was being copied" in caught.value.message


def test_a_path_that_leads_outside_is_refused(folder: Path, tmp_path: Path) -> None:
    (folder / "out").symlink_to("/etc")
    with pytest.raises(Terminal) as caught:
        copy_folder(pin_folder(folder, path="out"), tmp_path / "copy")
    assert caught.value.reason is Reason.INVALID_SOURCE


def test_a_pipe_is_refused_and_never_waited_for(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    start = time.monotonic()
    with pytest.raises(Terminal) as caught:
        pin_folder(folder)
    assert "neither a file, a folder nor a link" in caught.value.message
    assert time.monotonic() - start < 5


def nested(folder: Path) -> None:
    """Folders within folders, deeper than anybody means it."""
    for _ in range(DEPTH_LIMIT + 2):
        folder /= "d"
        folder.mkdir()


def test_folders_without_end_are_refused(folder: Path) -> None:
    nested(folder)
    with pytest.raises(Terminal, match="nested more than 256 deep"):
        pin_folder(folder)


def test_a_file_is_no_folder(folder: Path) -> None:
    with pytest.raises(Terminal):
        pin_folder(folder / "default.nix")


# Volumes -----------------------------------------------------------------------------------------

VOLUME = PinnedSource(
    kind="volume", url="", ref="PersistentVolumeClaim/set", revision="1", path="sub"
)


def refused(folder: Path, target: Path, source: PinnedSource = VOLUME) -> Terminal:
    with pytest.raises(Terminal) as caught:
        copy_volume(folder, source, target)
    assert caught.value.reason is Reason.INVALID_SOURCE
    return caught.value


def test_a_volume_is_copied_and_its_content_hashed(folder: Path, tmp_path: Path) -> None:
    (folder / ".git").mkdir()
    (folder / "lost+found").mkdir(mode=0o000)  # as ext4 makes it at each volume's root
    fetched, content = copy_volume(folder, VOLUME, tmp_path / "copy")
    assert fetched.path == tmp_path / "copy" / "sub"
    assert sorted(p.name for p in (tmp_path / "copy").iterdir()) == ["default.nix", "link", "sub"]
    assert content == tree_hash(tmp_path / "copy")
    (folder / "sub" / "file").write_text("other")
    assert copy_volume(folder, VOLUME, tmp_path / "again")[1] != content


def test_a_volume_that_is_too_large_is_not_copied(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("niximage.source.folder.FILES_LIMIT", 3)
    assert "the volume has more than 3 files" in refused(folder, tmp_path / "copy").message
    assert not (tmp_path / "copy").exists()


def test_a_path_that_leads_out_of_a_volume_is_refused(folder: Path, tmp_path: Path) -> None:
    (folder / "out").symlink_to("/etc")
    source = VOLUME.model_copy(update={"path": "out"})
    error = refused(folder, tmp_path / "copy", source)
    assert "leads outside the source" in error.message
    assert "source.volume.path" in error.hint


def test_a_volume_of_folders_without_end_is_refused(folder: Path, tmp_path: Path) -> None:
    nested(folder)
    assert "nested more than 256 deep" in refused(folder, tmp_path / "copy").message
    assert not (tmp_path / "copy").exists()


def test_what_is_no_file_on_a_volume_is_told(folder: Path, tmp_path: Path) -> None:
    os.mkfifo(folder / "pipe")
    assert "named pipe" in refused(folder, tmp_path / "copy").message
