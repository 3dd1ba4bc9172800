"""Running programs: time, floods, ends. Real processes, started as Nix's are."""

import os
import time
from pathlib import Path

import pytest

from niximage.errors import Reason, Retryable, Terminal
from niximage.nix.programs import (
    STDERR_KEPT,
    STDOUT_LIMIT,
    Finished,
    NixStore,
    prepare_store,
    run,
)


def sh(script: str, timeout: float = 30) -> Finished:
    return run("sh", ["-c", script], store=NixStore(), timeout=timeout)


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def wait_until_gone(pid: int) -> None:
    deadline = time.monotonic() + 10
    while is_running(pid):
        assert time.monotonic() < deadline, f"process {pid} lives on"
        time.sleep(0.02)


def test_code_and_both_outputs() -> None:
    assert sh("echo out; echo err >&2; exit 3") == Finished(3, b"out\n", "err\n")


def test_floods_of_both_outputs_do_not_block() -> None:
    done = sh("head -c 3000000 /dev/zero >&2; head -c 3000000 /dev/zero")
    assert (done.code, len(done.stdout), len(done.stderr)) == (0, 3_000_000, STDERR_KEPT)


def test_of_errors_the_end_is_kept() -> None:
    assert sh("head -c 1000000 /dev/zero >&2; echo the end >&2").stderr.endswith("the end\n")


def test_an_answer_beyond_all_bounds_is_refused() -> None:
    with pytest.raises(Retryable, match=f"more than {STDOUT_LIMIT >> 20} MiB"):
        sh("cat /dev/zero")


def test_time_is_up_for_the_program_and_its_children(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    start = time.monotonic()
    with pytest.raises(Terminal, match="did not finish within 1 s") as caught:
        sh(f"sleep 300 & echo $! > {pids}; echo $$ >> {pids}; echo working >&2; wait", timeout=1)
    assert time.monotonic() - start < 10
    assert caught.value.reason is Reason.BUILD_TIMEOUT
    assert caught.value.log_tail == "working\n"
    for pid in pids.read_text().split():
        wait_until_gone(int(pid))


def test_a_program_that_will_not_end_is_made_to(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    with pytest.raises(Terminal):
        sh(f"trap '' TERM; echo $$ > {pid}; while :; do read x < /dev/tty || :; done", timeout=1)
    wait_until_gone(int(pid.read_text()))


def test_a_child_that_holds_the_pipes_is_not_waited_for() -> None:
    start = time.monotonic()
    done = sh("setsid sleep 30 & echo $!")
    assert time.monotonic() - start < 15
    os.kill(int(done.stdout), 9)


def test_a_program_that_is_killed_says_so() -> None:
    with pytest.raises(Terminal) as caught:
        sh("echo 'the last words' >&2; kill -9 $$")
    assert caught.value.reason is Reason.OUT_OF_MEMORY
    assert caught.value.message == "sh was killed, most likely for want of memory"
    assert caught.value.log_tail == "the last words\n"


def test_a_line_without_end_keeps_both_its_ends() -> None:
    lines: list[str] = []
    script = "echo -n begin; head -c 3000000 /dev/zero | tr '\\0' x; echo end"
    run("sh", ["-c", f"({script}) >&2"], store=NixStore(), timeout=30, on_line=lines.append)
    (line,) = lines
    assert line.startswith("beginx")
    assert line.endswith("xend")
    assert len(line) < 1 << 18


def test_a_program_that_is_not_there_says_so() -> None:
    with pytest.raises(
        Retryable, match="Nix is not at hand: nix-nowhere cannot be started: No such file"
    ) as caught:
        run("nix-nowhere", [], store=NixStore(), timeout=1)
    assert "Install Nix" in caught.value.hint


def test_lines_come_one_by_one_and_the_last_without_its_end() -> None:
    lines: list[str] = []
    run(
        "sh",
        ["-c", "printf 'a\\nb\\n\\nc' >&2"],
        store=NixStore(),
        timeout=30,
        on_line=lines.append,
    )
    assert lines == ["a", "b", "c"]


def test_a_listener_that_fails_does_not_block_the_program() -> None:
    def failing(line: str) -> None:
        raise RuntimeError(line)

    with pytest.raises(RuntimeError, match="first"):
        run(
            "sh",
            ["-c", "echo first >&2; head -c 3000000 /dev/zero >&2"],
            store=NixStore(),
            timeout=30,
            on_line=failing,
        )


def test_the_environment_has_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NIXIMAGE_SECRET", "hunter2")
    assert b"hunter2" not in sh("env").stdout


def test_an_empty_volume_becomes_a_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("niximage.nix.programs.STATE", tmp_path / "var" / "nix")
    prepare_store()
    prepare_store()
    assert (tmp_path / "var" / "nix").is_dir()


def test_a_store_that_cannot_be_written_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr("niximage.nix.programs.STATE", tmp_path / "file" / "nix")
    with pytest.raises(Retryable, match="cannot be made: Not a directory") as caught:
        prepare_store()
    assert "volume at /nix" in caught.value.hint
