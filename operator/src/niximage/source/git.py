"""The git program, run so that nobody's configuration or repository can steer it.

The operator runs git on URLs that tenants wrote. So the environment is made from nothing, no
configuration file is read, no prompt or helper can ask, only named protocols are spoken, and
time and output are bounded.
"""

import asyncio
import contextlib
import dataclasses
import os
import signal
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from niximage.errors import Reason, Retryable
from niximage.source.credentials import Access, Credentials, access
from niximage.source.failures import failure, shown_url, timed_out

END_TIMEOUT: Final = 10.0  # seconds that a killed git may take to be gone
OUTPUT_LIMIT: Final = 4 << 20  # bytes of what git prints; 40,000 refs
ERROR_LIMIT: Final = 16 << 10  # bytes of what git complains, its end
PROTOCOLS: Final = ("http", "https", "ssh")
LOW_SPEED: Final = 1000  # bytes per second, below which a transfer counts as stuck
LOW_SPEED_TIME: Final = 30  # seconds of it

# All that is taken from our own environment: where programs are, and the way out.
_KEPT: Final[tuple[str, ...]] = (
    "PATH",
    "http_proxy",
    "https_proxy",
    "HTTPS_PROXY",
    "all_proxy",
    "ALL_PROXY",
    "no_proxy",
    "NO_PROXY",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "GIT_SSL_CAINFO",
    "GIT_SSL_CAPATH",
)

_SSH: Final = (
    "ssh -F /dev/null -o BatchMode=yes -o StrictHostKeyChecking=yes -o ConnectTimeout=15"
    " -o ServerAliveInterval=15 -o ServerAliveCountMax=2"
)

_SETTINGS: Final = {
    "protocol.allow": "never",
    "http.followRedirects": "initial",
    "http.lowSpeedLimit": str(LOW_SPEED),
    "http.lowSpeedTime": str(LOW_SPEED_TIME),
    "credential.helper": "",
    "core.hooksPath": "/dev/null",
    "core.fsmonitor": "false",
    "core.symlinks": "true",
    "core.autocrlf": "false",
    "fetch.recurseSubmodules": "false",
    "submodule.recurse": "false",
    "gc.auto": "0",
    "maintenance.auto": "false",
    "init.defaultBranch": "main",
    "advice.detachedHead": "false",
}


@dataclass(frozen=True, slots=True)
class Deadline:
    """A moment until which all of a task's steps must be done together.

    Attributes:
        timeout: seconds that the task was given.
        ends: the moment, on the monotonic clock.
    """

    timeout: float
    ends: float

    @classmethod
    def after(cls, timeout: float) -> "Deadline":
        """The moment so many seconds from now."""
        return cls(timeout, time.monotonic() + timeout)

    @property
    def left(self) -> float:
        """Seconds that are left; 0 when it has passed."""
        return max(self.ends - time.monotonic(), 0.0)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run of git came to.

    Attributes:
        status: the exit status.
        output: what it printed.
        complaint: the end of what it printed on standard error, raw.
    """

    status: int
    output: bytes
    complaint: str


def environment(home: Path, *, source: dict[str, str]) -> dict[str, str]:
    """The environment that git gets: ours only where it says how to reach things. Pure.

    Args:
        home: an empty folder.
        source: the environment to take from.
    """
    kept = {name: source[name] for name in _KEPT if name in source}
    return {
        **kept,
        "HOME": str(home),
        "LC_ALL": "C",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": "/bin/false",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_LFS_SKIP_SMUDGE": "1",
        "GIT_SSH_COMMAND": _SSH,
        "GIT_SSH_VARIANT": "ssh",
    }


def command(
    arguments: tuple[str, ...], *, allow_file: bool, settings: Mapping[str, str] | None = None
) -> list[str]:
    """The command line of a run, with every setting spelled out. Pure."""
    protocols = (*PROTOCOLS, "file") if allow_file else PROTOCOLS
    always = {f"protocol.{name}.allow": "always" for name in protocols}
    settings = {**_SETTINGS, **always, **(settings or {})}
    options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    return ["git", *options, *arguments]


async def run_git(
    *arguments: str,
    url: str,
    deadline: Deadline,
    folder: Path | None = None,
    allow_file: bool = False,
    credentials: Credentials | None = None,
) -> Outcome:
    """Run git once.

    Args:
        arguments: the subcommand and its arguments; URLs behind a `--`.
        url: the repository that the run is about, for messages.
        deadline: when to kill it.
        folder: where to run; the empty home by default.
        allow_file: whether `file://` may be spoken.
        credentials: what opens the repository, if it is private.

    Raises:
        Retryable: too slow, too much output, no git here, or credentials that are of no use.
            What git itself fails with is in the outcome.
    """
    with tempfile.TemporaryDirectory(prefix="niximage-git-") as home:
        let_in = _let_in(url, credentials, Path(home))
        try:
            process = await asyncio.create_subprocess_exec(
                *command(arguments, allow_file=allow_file, settings=let_in.settings),
                cwd=folder or home,
                env={
                    **environment(Path(home), source=dict(os.environ)),
                    **let_in.environment,
                },
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            raise Retryable(
                Reason.INTERNAL_ERROR,
                f"cannot run git: {error.strerror}",
                hint="Install git and put it on PATH",
            ) from error
        try:
            async with asyncio.timeout(deadline.left):
                outcome = await _finish(process, url)
        except TimeoutError:
            raise timed_out(url, deadline.timeout) from None
        finally:
            await _end(process)
    if credentials is None:
        return outcome
    return dataclasses.replace(outcome, complaint=credentials.redact(outcome.complaint))


async def must_git(
    *arguments: str,
    url: str,
    deadline: Deadline,
    folder: Path | None = None,
    allow_file: bool = False,
    credentials: Credentials | None = None,
) -> bytes:
    """Run git once, and return what it printed.

    Raises:
        Retryable: the repository cannot be reached now.
        Terminal: it is not there, or does not let us in.
    """
    outcome = await run_git(
        *arguments,
        url=url,
        deadline=deadline,
        folder=folder,
        allow_file=allow_file,
        credentials=credentials,
    )
    if outcome.status != 0:
        raise failure(url, outcome.complaint, credentials.where if credentials else "")
    return outcome.output


def _let_in(url: str, credentials: Credentials | None, home: Path) -> Access:
    """How git is let in, with the files for that in its home."""
    if credentials is None:
        return Access({}, {}, {})
    let_in = access(url, credentials, home, _SSH)
    for name, content in let_in.files.items():
        opened = os.open(home / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(opened, "wb") as file:
            file.write(content)
    return let_in


async def _finish(process: asyncio.subprocess.Process, url: str) -> Outcome:
    assert process.stdout is not None
    assert process.stderr is not None
    complaint = asyncio.ensure_future(_read_end(process.stderr))
    try:
        output = b""
        while chunk := await process.stdout.read(1 << 16):
            output += chunk
            if len(output) > OUTPUT_LIMIT:
                raise Retryable(
                    Reason.SOURCE_UNAVAILABLE,
                    f"git printed more than {OUTPUT_LIMIT} bytes about {shown_url(url)}",
                    hint="Name a repository with fewer refs",
                )
        text = (await complaint).decode("utf-8", "replace")
    finally:
        complaint.cancel()
        await asyncio.wait([complaint])
    return Outcome(await process.wait(), output, text)


async def _read_end(stream: asyncio.StreamReader) -> bytes:
    end = b""
    while chunk := await stream.read(1 << 16):
        end = (end + chunk)[-ERROR_LIMIT:]
    return end


async def _end(process: asyncio.subprocess.Process) -> None:
    """Kill git with all its helpers, and wait for it, whatever happened."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    assert process.stdout is not None
    assert process.stderr is not None
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(END_TIMEOUT):
            # asyncio stops reading a pipe that runs over, and waits for its end for ever.
            while await process.stdout.read(1 << 16) or await process.stderr.read(1 << 16):
                pass
            await process.wait()
