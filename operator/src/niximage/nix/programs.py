"""Running a Nix program: its environment, its time, its output and its end.

The environment is built from nothing: only what is listed here of this process's own, and
NIX_CONFIG from the settings. Both outputs are read at once, for a program blocks when either
pipe is full; what is kept of them is bounded. Whatever ends the wait, the program and its
children end too: first asked, so that Nix can stop its builders, which have process groups of
their own, then made to.
"""

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from niximage.errors import Reason, Retryable, Terminal

STDOUT_LIMIT: Final = 64 << 20  # bytes; the largest answer names nixpkgs' attributes
STDERR_KEPT: Final = 256 << 10  # bytes of the end of stderr
LINE_LIMIT: Final = 64 << 10  # bytes of one line of stderr that are looked at, at each end
GRACE: Final = 3.0  # seconds between asking a program to end and making it
DRAIN: Final = 2.0  # seconds for what a program said to be read after its end

STATE: Final = Path("/nix/var/nix")

_CHUNK: Final = 64 << 10
_ESCAPE: Final = 6  # bytes of JSON's longest
# What a Nix program may know of the process that runs it.
_INHERITED: Final = (
    "PATH",
    "HOME",
    "USER",
    "TMPDIR",
    "XDG_CACHE_HOME",
    "NIX_REMOTE",
    "NIX_STATE_DIR",
    "NIX_SSL_CERT_FILE",
    "SSL_CERT_FILE",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
)
_DEFAULT_PATH: Final = "/usr/local/bin:/usr/bin:/bin"


@dataclass(frozen=True, slots=True)
class NixStore:
    """How the Nix programs are set up.

    Attributes:
        substituters: binary caches to take outputs from; None leaves it, the trusted keys and
            all else to the machine's own nix.conf, as a developer expects.
        trusted_public_keys: whose signatures count.
        max_jobs: how many derivations are built at once.
        local_builds: whether what no substituter has may be built at all.
        sandbox: whether builds must run in Nix's own sandbox; else they do where it can be had.
    """

    substituters: tuple[str, ...] | None = ()
    trusted_public_keys: tuple[str, ...] = ()
    max_jobs: int = 2
    local_builds: bool = True
    sandbox: bool = False


@dataclass(frozen=True, slots=True)
class Finished:
    """A program that came to its end.

    Attributes:
        code: its exit code, negative for a signal.
        stdout: all of it.
        stderr: the end of it.
    """

    code: int
    stdout: bytes
    stderr: str


def prepare_store() -> None:
    """See that `/nix` is a store of this user's own, as the empty volume of a pod becomes one.

    Without `/nix/var/nix`, Nix would take a store below HOME, whose paths no builder finds.

    Raises:
        Retryable: `/nix` cannot be written.
    """
    try:
        STATE.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Retryable(
            Reason.INTERNAL_ERROR,
            f"{STATE} cannot be made: {error.strerror}",
            hint="Mount a volume at /nix that the build pod's user may write",
        ) from None


def environment(store: NixStore, inherited: Mapping[str, str]) -> dict[str, str]:
    """The whole environment of a Nix program.

    Args:
        store: the settings.
        inherited: this process's environment; little of it is passed on.
    """
    names = (name for name in _INHERITED if inherited.get(name))
    kept = {"PATH": _DEFAULT_PATH, **{name: inherited[name] for name in names}}
    settings = {
        "experimental-features": "nix-command",
        # Without it, root needs a group of build users that no container has.
        "build-users-group": "",
        "max-jobs": str(store.max_jobs),
        # Where the kernel grants no namespaces the pod is the wall.
        "sandbox-fallback": "true",
    }
    if store.sandbox:
        settings |= {"sandbox": "true", "sandbox-fallback": "false"}
    if store.substituters is not None:
        kept["NIX_CONF_DIR"] = "/var/empty"  # no nix.conf of the machine
        kept["NIX_USER_CONF_FILES"] = "/dev/null"
        settings["substituters"] = " ".join(store.substituters)
        settings["trusted-public-keys"] = " ".join(store.trusted_public_keys)
        settings["builders"] = ""
    kept["LC_ALL"] = "C.UTF-8"
    kept["NIX_CONFIG"] = "\n".join(f"{name} = {value}" for name, value in settings.items())
    return kept


def run(
    program: str,
    arguments: Sequence[str],
    *,
    store: NixStore,
    timeout: float,
    on_line: Callable[[str], None] | None = None,
) -> Finished:
    """Run a Nix program to its end.

    Args:
        program: its name, found on PATH.
        arguments: passed as they are, never through a shell.
        store: the settings.
        timeout: seconds it may take.
        on_line: called with each line of stderr as it comes, from another thread.

    Raises:
        Terminal: it took too long, or was killed.
        Retryable: it is not installed, or says more than anyone should.
    """
    try:
        process = subprocess.Popen(
            [program, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(store, os.environ),
            start_new_session=True,
        )
    except OSError as error:
        raise Retryable(
            Reason.INTERNAL_ERROR,
            f"Nix is not at hand: {program} cannot be started: {error.strerror}",
            hint="Install Nix (Debian: apt-get install nix-bin) and see that it is on PATH",
        ) from None
    assert process.stdout is not None
    assert process.stderr is not None
    out = _Whole(process.stdout)
    err = _Tail(process.stderr, on_line)
    with _ended(process):
        try:
            # Whatever the program says too much, its end is what the wait sees.
            _wait(process, out, timeout)
        except subprocess.TimeoutExpired:
            raise Terminal(
                Reason.BUILD_TIMEOUT,
                f"{program} did not finish within {timeout:.0f} s",
                hint="Give it more time with spec.timeout",
                log_tail=err.text(),
            ) from None
    drained = time.monotonic() + DRAIN
    out.join(drained)
    err.join(drained)
    if process.returncode == -signal.SIGKILL:
        raise Terminal(
            Reason.OUT_OF_MEMORY,
            f"{program} was killed, most likely for want of memory",
            hint="Give the build more memory",
            log_tail=err.text()[-2048:],
        )
    return Finished(process.returncode, out.content(), err.text())


def _wait(process: "subprocess.Popen[bytes]", out: "_Whole", timeout: float) -> None:
    deadline = time.monotonic() + timeout
    while True:
        left = deadline - time.monotonic()
        try:
            process.wait(max(min(left, 1.0), 0))
        except subprocess.TimeoutExpired:
            if left <= 0:
                raise
        else:
            return
        if out.overflown:
            raise Retryable(
                Reason.RESULT_INVALID,
                f"the answer of {process.args!s:.60} has more than {STDOUT_LIMIT >> 20} MiB",
            )


@contextlib.contextmanager
def _ended(process: "subprocess.Popen[bytes]") -> Iterator[None]:
    """Whatever happens inside, the program does not outlive it."""
    try:
        yield
    finally:
        if process.poll() is None:
            for number in (signal.SIGTERM, signal.SIGKILL):
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, number)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(GRACE)
                    break


def without_middle(line: bytes) -> bytes:
    """A line as it is, or the two ends of one that is too long. Pure.

    Nix's events are objects in JSON, and what makes them long is a string: cut between two of its
    characters, and not within an escape, an event stays one.
    """
    if len(line) <= 2 * LINE_LIMIT:
        return line
    end = LINE_LIMIT
    while (start := line.rfind(b"\\", max(end - _ESCAPE, 0), end)) >= 0:
        end = start
    return line[:end] + line[-LINE_LIMIT:].lstrip(b'"\\')


class _Reader:
    """A thread that reads a pipe to its end, so that the program never waits for us."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self._pipe = pipe
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        descriptor = self._pipe.fileno()
        with self._pipe:
            while data := os.read(descriptor, _CHUNK):
                self._guarded(self.take, data)
        self._guarded(self.finish)

    def _guarded(self, step: Callable[..., None], *data: bytes) -> None:
        """Go on reading whatever happens, else the program would block; tell at the end."""
        if self._failure is None:
            try:
                step(*data)
            except BaseException as error:  # noqa: BLE001 (raised again in `join`)
                self._failure = error

    def take(self, data: bytes) -> None:
        raise NotImplementedError

    def finish(self) -> None:
        """Called at the pipe's end."""

    def join(self, deadline: float) -> None:
        """Wait for the pipe's end; a child that outlived the program may hold it for ever."""
        self._thread.join(max(deadline - time.monotonic(), 0))
        if self._failure is not None:
            raise self._failure


class _Whole(_Reader):
    """Keeps everything, up to a limit."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self._data = bytearray()
        self.overflown = False
        super().__init__(pipe)

    def take(self, data: bytes) -> None:
        if len(self._data) + len(data) > STDOUT_LIMIT:
            self.overflown = True
        else:
            self._data += data

    def content(self) -> bytes:
        return bytes(self._data)


class _Tail(_Reader):
    """Keeps the end, and hands on lines."""

    def __init__(self, pipe: IO[bytes], on_line: Callable[[str], None] | None) -> None:
        self._kept = bytearray()
        self._line = bytearray()
        self._on_line = on_line
        super().__init__(pipe)

    def take(self, data: bytes) -> None:
        self._kept += data
        if len(self._kept) > 2 * STDERR_KEPT:
            del self._kept[:-STDERR_KEPT]
        if self._on_line is None:
            return
        *lines, rest = data.split(b"\n")
        for line in lines:
            self._extend(line)
            self.finish()
        self._extend(rest)

    def finish(self) -> None:
        if self._on_line is not None and self._line:
            self._on_line(without_middle(bytes(self._line)).decode("utf-8", "replace"))
        self._line.clear()

    def _extend(self, data: bytes) -> None:
        self._line += data
        if len(self._line) > 4 * LINE_LIMIT:
            self._line = bytearray(without_middle(bytes(self._line)))

    def text(self) -> str:
        return bytes(self._kept[-STDERR_KEPT:]).decode("utf-8", "replace")
