"""A revision's files, without history where the server can.

Most servers hand out one commit by its name. Some hand out only what a ref names, and plain
file servers ("dumb" HTTP) only whole histories; so three ways are tried, each wider than the
one before, until the commit is there.
"""

import asyncio
import functools
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from niximage.api.build import TIME_LIMIT, PinnedSource
from niximage.errors import NixImageError, Reason, Retryable, Terminal
from niximage.source.credentials import Credentials
from niximage.source.failures import shown_url
from niximage.source.git import Deadline, must_git, run_git

# Errors that a wider fetch from the same server would only meet again.
_FINAL: Final = frozenset(
    {Reason.AUTHENTICATION_FAILED, Reason.CREDENTIALS_MISSING, Reason.INTERNAL_ERROR}
)


@dataclass(frozen=True, slots=True)
class Fetched:
    """A revision's files.

    Attributes:
        path: the file or folder that the source's path names, resolved.
        time: when the revision was committed, in seconds since 1970.
    """

    path: Path
    time: int


def fetch(
    source: PinnedSource,
    folder: Path,
    *,
    timeout: float,
    allow_file: bool = False,
    credentials: Credentials | None = None,
) -> Fetched:
    """Put a revision's files into a folder. Not for use inside a running event loop.

    Args:
        source: what to fetch.
        folder: where to; made if absent, and must be empty. `.git` is gone afterwards, so
            that equal revisions give equal folders.
        timeout: seconds for all of it.
        allow_file: whether `file://` URLs may be used.
        credentials: what opens the repository, if it is private.

    Returns:
        The file or folder that `source.path` names, inside the folder, and the commit's time.

    Raises:
        Retryable: the repository cannot be reached now.
        Terminal: the revision or the path is not there, or leads outside.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise Terminal(Reason.INVALID_SOURCE, f"{folder} is not empty", hint="Name an empty folder")
    deadline = Deadline.after(timeout)
    time = asyncio.run(
        _check_out(source, folder, deadline, allow_file=allow_file, credentials=credentials)
    )
    shutil.rmtree(folder / ".git")
    return Fetched(inside(folder, source), time)


def inside(folder: Path, source: PinnedSource) -> Path:
    """The path of a source in its folder, once it is sure to stay there through all links.

    Raises:
        Terminal: it is not there, or leads outside.
    """
    where = f"{source.path!r} in {shown_url(source.url) or source.ref} at {source.revision}"
    field = {"artifact": "sourceRef", "volume": "volume"}.get(source.kind, "git")
    hint = f"Set source.{field}.path to a file or folder that is in it"
    root = folder.resolve()
    try:
        target = (root / source.path).resolve(strict=True)
    except (OSError, RuntimeError, ValueError):  # absent; links in a circle; NUL
        raise Terminal(
            Reason.INVALID_SOURCE,
            f"there is no {where}",
            hint=hint,
        ) from None
    if not target.is_relative_to(root):
        raise Terminal(
            Reason.INVALID_SOURCE,
            f"{where} leads outside the source",
            hint=hint,
        )
    return target


async def _check_out(
    source: PinnedSource,
    folder: Path,
    deadline: Deadline,
    *,
    allow_file: bool,
    credentials: Credentials | None,
) -> int:
    """Check out a revision; returns the time of its commit."""
    git = functools.partial(
        must_git, url=source.url, deadline=deadline, folder=folder, allow_file=allow_file
    )

    async def has_commit() -> bool:
        outcome = await run_git(
            "cat-file",
            "-e",
            f"{source.revision}^{{commit}}",
            url=source.url,
            deadline=deadline,
            folder=folder,
        )
        return outcome.status == 0

    width = len(source.revision)
    await git("init", "--quiet", f"--object-format={'sha1' if width == 40 else 'sha256'}")  # noqa: PLR2004 (hex digits)
    ways: list[tuple[str, ...]] = [("--depth=1", "--", source.url, source.revision)]
    if source.ref:
        ways.append(("--", source.url, f"+{source.ref}:refs/niximage/source"))
    ways.append(("--", source.url, "+refs/*:refs/niximage/*"))
    trouble: NixImageError | None = None
    for way in ways:
        try:
            await git(
                *("fetch", "--quiet", "--no-tags", "--no-recurse-submodules", *way),
                credentials=credentials,
            )
        except NixImageError as error:
            if error.reason in _FINAL or deadline.left == 0:
                raise
            trouble = error
            continue
        if await has_commit():
            break
        trouble = None
    else:
        raise _not_found(source, trouble)
    await git("checkout", "--quiet", "--force", "--detach", source.revision, "--")
    head = (await git("rev-parse", "--verify", "HEAD")).decode().strip()
    if head != source.revision:
        raise _not_found(source, None)
    # A commit's author may claim any time; no image can be older than 1970 or of the year 10000.
    time = (await git("show", "--no-patch", "--format=%ct", "HEAD")).strip()
    return min(int(time), TIME_LIMIT) if time.isdigit() else 0


def _not_found(source: PinnedSource, trouble: NixImageError | None) -> NixImageError:
    """The error when no way led to the commit: the server's last, or that it has no such."""
    if isinstance(trouble, Retryable) or (
        trouble is not None and trouble.reason is not Reason.REFERENCE_NOT_FOUND
    ):
        return trouble
    return Terminal(
        Reason.REFERENCE_NOT_FOUND,
        f"{shown_url(source.url)} has no commit {source.revision}",
        hint="It may have been removed by a forced push: name another commit, or a branch",
    )
