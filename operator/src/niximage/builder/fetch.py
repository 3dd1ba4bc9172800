"""The step before the first, where a source needs one: it is fetched by code that is trusted.

What opens a private repository must not come near to what tenants wrote, and a volume may hold
more than packages. So a container of its own brings the source into a folder, which `build` then
reads and cannot change; it evaluates nothing, and ends before `build` starts.
"""

from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field

from niximage.api.build import TIME_LIMIT, BuildRequest, PinnedSource, Strict, read_message
from niximage.api.canonical import canonical_json
from niximage.builder.progress import Say, silent, timed
from niximage.errors import Reason, Retryable, Terminal
from niximage.source.credentials import Credentials
from niximage.source.fetch import Fetched, fetch, inside
from niximage.source.folder import copy_folder, copy_volume

# The name is part of store paths that copy the source whole: the same as Nix's own fetchers'.
SOURCE: Final = "source"
NOTE: Final = "fetched.json"
NOTE_LIMIT: Final = 1024  # bytes


class FetchedNote(Strict):
    """What `fetch` tells `build` about the source that it left."""

    v: Literal[1] = 1
    revision: Annotated[str, Field(max_length=300)]
    time: Annotated[int, Field(ge=0, le=TIME_LIMIT)]


def bring_source(
    source: PinnedSource,
    folder: Path,
    *,
    timeout: float,
    allow_file: bool = False,
    credentials: Credentials | None = None,
    say: Say = silent,
) -> Fetched:
    """Put a source's files into a folder, by whatever way its kind takes.

    Args:
        source: what to fetch.
        folder: where to; it must not be there, or be empty.
        timeout: seconds for all of it.
        allow_file: whether it may be a `file://` URL, or a folder of this machine.
        credentials: what opens it, if it is private.
        say: takes progress, one line at a time.

    Raises:
        Terminal: the source is at fault.
        Retryable: it cannot be reached now, or the credentials do not open it.
    """
    with timed(say, f"fetched revision {source.short_revision}", stage="evaluate"):
        match source.kind:
            case "folder" if allow_file:
                return copy_folder(source, folder)
            case "volume":
                raise Terminal(
                    Reason.INVALID_SPEC,
                    f"the source is the {source.ref} of a cluster, and none is asked",
                    hint="Add --source FOLDER with what lies on it",
                )
            case "artifact":
                # It brings an HTTP client, which no other source needs.
                from niximage.source.artifact import fetch_artifact

                return fetch_artifact(source, folder, timeout=timeout)
            case _:
                return fetch(
                    source, folder, timeout=timeout, allow_file=allow_file, credentials=credentials
                )


def run_fetch(
    request: BuildRequest,
    folder: Path,
    *,
    timeout: float,
    credentials: Credentials | None = None,
    volume: Path | None = None,
    say: Say = silent,
) -> None:
    """Fetch the source of a request, and leave it in a folder for `build`.

    Takes and raises what `bring_source` does, and where the source's volume is mounted.
    """
    if volume is not None:
        with timed(say, f"copied {request.source.ref}", stage="evaluate"):
            fetched, content = copy_volume(volume, request.source, folder / SOURCE)
        say(f"its content has the hash {content}")
    else:
        fetched = bring_source(
            request.source, folder / SOURCE, timeout=timeout, credentials=credentials, say=say
        )
    note = FetchedNote(revision=request.source.revision, time=fetched.time)
    (folder / NOTE).write_bytes(canonical_json(note.to_json()))


def find_fetched(request: BuildRequest, folder: Path) -> Fetched:
    """The source that `fetch` left in a folder.

    Raises:
        Terminal: the path in it is not there, or leads outside.
        Retryable: it is not what was asked for.
    """
    try:
        with (folder / NOTE).open("rb") as file:
            data = file.read(NOTE_LIMIT + 1)
    except OSError as error:
        raise Retryable(
            Reason.BUILD_INTERRUPTED,
            f"the source was not fetched: {folder / NOTE}: {error.strerror}",
            hint="Build it again",
        ) from None
    note = read_message(FetchedNote, data, NOTE_LIMIT)
    if note.revision != request.source.revision:
        raise Retryable(
            Reason.RESULT_INVALID,
            f"revision {note.revision} was fetched instead of {request.source.revision}",
            hint="Build it again",
        )
    return Fetched(inside(folder / SOURCE, request.source), note.time)
