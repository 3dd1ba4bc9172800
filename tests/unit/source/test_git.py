"""Git gets nothing from our environment but the way out, and speaks only what it may."""

from pathlib import Path

from niximage.source.git import Deadline, command, environment


def test_the_environment_is_made_from_nothing() -> None:
    ours = {
        "PATH": "/bin",
        "https_proxy": "http://proxy",
        "HOME": "/root",
        "GIT_DIR": "/elsewhere",
        "GIT_CONFIG_COUNT": "1",
        "GIT_SSH": "/evil",
        "LD_PRELOAD": "/evil.so",
        "AWS_SECRET_ACCESS_KEY": "x",
        "SSH_AUTH_SOCK": "/agent",
    }
    given = environment(Path("/empty"), source=ours)
    assert given["PATH"] == "/bin"
    assert given["https_proxy"] == "http://proxy"
    assert given["HOME"] == "/empty"
    assert given["GIT_TERMINAL_PROMPT"] == "0"
    assert given["GIT_CONFIG_GLOBAL"] == "/dev/null"
    hidden = {"GIT_DIR", "GIT_CONFIG_COUNT", "GIT_SSH", "LD_PRELOAD", "SSH_AUTH_SOCK"}
    assert not hidden & set(given)
    assert "x" not in given.values()


def test_only_named_protocols_are_spoken() -> None:
    line = command(("ls-remote", "--", "url"), allow_file=False)
    assert line[0] == "git"
    assert line[-3:] == ["ls-remote", "--", "url"]
    allowed = [part for part in line if part.startswith("protocol.")]
    assert allowed == [
        "protocol.allow=never",
        "protocol.http.allow=always",
        "protocol.https.allow=always",
        "protocol.ssh.allow=always",
    ]
    assert "protocol.file.allow=always" in command((), allow_file=True)


def test_a_deadline_runs_out_and_stays_at_nothing() -> None:
    assert Deadline.after(0).left == 0
    assert 0 < Deadline.after(60).left <= 60
