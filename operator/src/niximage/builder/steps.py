"""The steps as containers of a Job: settings in, exit code and termination message out.

A step prints what it does to standard output, and leaves its result, or why it failed, where
the kubelet reads it. A bug of ours is told in one line there; its traceback goes to the log.
"""

import os
import signal
import stat
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType
from typing import Final, NoReturn

from niximage.api.build import BuildFailure, BuildOutputs, read_message
from niximage.builder.build import run_build
from niximage.builder.fetch import run_fetch
from niximage.builder.narrate import Narrator
from niximage.builder.publish import run_publish
from niximage.builder.settings import BuilderSettings, termination_log
from niximage.builder.sources import open_caches
from niximage.errors import NixImageError, Reason, Retryable, exit_code
from niximage.nix.programs import prepare_store
from niximage.source.credentials import read_credentials

OUTPUTS_LIMIT: Final = 4 << 20  # bytes of outputs.json: 128 packages of 32 outputs, twice


def fetch_step(environment: Mapping[str, str] | None = None) -> int:
    """The init container `fetch`: leaves the source in a folder of its own.

    Returns:
        The exit code: 0, or `errors.exit_code` of what went wrong.
    """
    return _step(_fetch, os.environ if environment is None else environment)


def build_step(environment: Mapping[str, str] | None = None) -> int:
    """The init container `build`: leaves outputs.json in the shared folder.

    Returns:
        The exit code: 0, or `errors.exit_code` of what went wrong.
    """
    return _step(_build, os.environ if environment is None else environment)


def publish_step(environment: Mapping[str, str] | None = None) -> int:
    """The container `publish`: leaves the PublishResult as termination message.

    Returns:
        The exit code: 0, or `errors.exit_code` of what went wrong.
    """
    return _step(_publish, os.environ if environment is None else environment)


def _fetch(settings: BuilderSettings, _scratch: Path) -> bytes:
    if settings.fetched is None:
        raise Retryable(Reason.INTERNAL_ERROR, "the environment variable NIXIMAGE_FETCHED is empty")
    credentials = None
    if settings.credentials is not None:
        where = f"the Secret {settings.request.namespace}/{settings.secret}"
        credentials = read_credentials(settings.credentials, where)
    run_fetch(
        settings.request,
        settings.fetched,
        timeout=settings.timeout,
        credentials=credentials,
        volume=settings.volume,
        say=Narrator(),
    )
    return b""


def _build(settings: BuilderSettings, scratch: Path) -> bytes:
    prepare_store()
    roots = settings.work / "roots"
    roots.mkdir(parents=True, exist_ok=True)
    with open_caches(settings.nix) as caches:
        outputs = run_build(
            settings.request,
            nix=settings.nix,
            caches=caches,
            scratch=scratch,
            roots=roots,
            timeout=settings.timeout,
            fetched=settings.fetched,
            say=Narrator(),
        )
    settings.outputs_file.write_text(outputs.model_dump_json(by_alias=True))
    return b""


def _publish(settings: BuilderSettings, scratch: Path) -> bytes:
    from niximage.bucket.store import open_store

    if not settings.bucket:
        raise Retryable(Reason.INTERNAL_ERROR, "the environment variable NIXIMAGE_BUCKET is empty")
    outputs = read_message(BuildOutputs, _read_outputs(settings.outputs_file), OUTPUTS_LIMIT)
    bucket = open_store(settings.bucket, patience=settings.bucket_patience)
    try:
        with open_caches(settings.nix) as caches:
            result = run_publish(
                settings.request,
                outputs,
                bucket=bucket,
                nix=settings.nix,
                caches=caches,
                scratch=scratch,
                popularity_url=settings.popularity_url,
                say=Narrator(),
            )
    finally:
        bucket.close()
    return result.to_message()


def _step(step: Callable[[BuilderSettings, Path], bytes], environment: Mapping[str, str]) -> int:
    previous = signal.signal(signal.SIGTERM, _terminated)
    try:
        with tempfile.TemporaryDirectory(prefix="niximage-") as scratch:
            message = step(BuilderSettings.from_environment(environment), Path(scratch))
    except NixImageError as error:
        _say(f"{error.reason}: {error}")
        if error.log_tail:
            _say(f"the end of the log of {error.derivation or 'it'}:\n{error.log_tail}")
        code, message = exit_code(error), BuildFailure.from_error(error).to_message()
    except OSError as error:
        traceback.print_exc()
        failure = Retryable(
            Reason.BUILD_INTERRUPTED,
            f"the pod's own files fail: {error.filename or 'a file'}: {error.strerror or error}",
            hint="Make room there: a build Job has its ephemeral storage",
        )
        code, message = exit_code(failure), BuildFailure.from_error(failure).to_message()
    except Exception as error:  # noqa: BLE001 (the last resort: nothing may leave without a word)
        traceback.print_exc()
        failure = Retryable(
            Reason.INTERNAL_ERROR,
            f"a bug in the builder: {type(error).__name__}: {error}",
            hint="Its log has the traceback: please report it",
        )
        code, message = exit_code(error), BuildFailure.from_error(failure).to_message()
    else:
        code = 0
    finally:
        signal.signal(signal.SIGTERM, previous)
    _leave(message, termination_log(environment))
    return code


def _read_outputs(path: Path) -> bytes:
    try:
        # The first step may have left a link to a file of ours, or a pipe to wait at.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:  # noqa: PTH123 (a Path opens no descriptor)
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise Retryable(Reason.RESULT_INVALID, f"{path} is no file", hint="Build it again")
            return file.read(OUTPUTS_LIMIT + 1)
    except OSError as error:
        raise Retryable(
            Reason.BUILD_INTERRUPTED,
            f"the build left no outputs: {path}: {error.strerror}",
            hint="Build it again",
        ) from None


def _leave(message: bytes, path: Path) -> None:
    """Write the termination message; a message that cannot be left must not hide the result."""
    if not message:
        return
    try:
        path.write_bytes(message)
    except OSError as error:
        print(f"{path}: {error.strerror}; the message: {message!r}", file=sys.stderr)  # noqa: T201 (a container's log)


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201 (a container's log)


def _terminated(_signal: int, _frame: FrameType | None) -> NoReturn:
    """The pod is being deleted or evicted: end what runs, and say so."""
    raise Retryable(Reason.BUILD_INTERRUPTED, "the build was asked to stop")
