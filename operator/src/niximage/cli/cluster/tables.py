"""NixImages as tables and texts. Pure."""

import datetime as dt
from collections.abc import Iterable, Sequence
from typing import Final

from rich.console import RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from niximage.api.status import Artifact, BuildResult, CurrentBuild, Failure, Progress
from niximage.builder.progress import STAGES, size
from niximage.cli.cluster.explain import more
from niximage.cli.cluster.facts import Facts
from niximage.cli.tables import Cell, age, duration, table
from niximage.errors import Reason, plain_text

BAR: Final = 30  # columns of a progress bar
AS_ABOVE: Final = "(as above)"
_TO_EXPLAIN: Final = frozenset(
    {Reason.INVALID_SPEC, Reason.POD_PENDING, Reason.QUEUED, Reason.WAITING_FOR_CLASS}
)
ONCE: Final = 60  # characters of a sentence that is told once
SHORT: Final = 12  # digits of a digest or revision that people compare
_STYLES: Final = {"True": "green", "False": "red", "Succeeded": "green", "Failed": "red"}


def image_list(
    images: Iterable[Facts], now: dt.datetime, *, wide: bool = False, namespaces: bool = False
) -> Table:
    """NixImages, one per line.

    Args:
        images: which, in this order.
        now: what ages are counted to.
        wide: whether to tell of sizes, source and the whole name of the image, too.
        namespaces: whether they are of several.
    """
    columns = ["NAME", "READY", "STATUS", "REVISION", "DIGEST", "UPDATED", "AGE"]
    if namespaces:
        columns.insert(0, "NAMESPACE")
    if wide:
        columns += ["PLATFORMS", "LAYERS", "SIZE", "REUSED", "SOURCE", "IMAGE"]
    rows = [
        [
            *([image.namespace] if namespaces else []),
            image.name,
            _coloured(image.ready),
            image.word[0],
            image.status.source.short_revision if image.status.source else "-",
            short(image.status.digest),
            age(_updated(image), now),
            age(image.created, now),
            *(_wide(image) if wide else []),
        ]
        for image in images
    ]
    return table(columns, rows, right="LAYERS SIZE REUSED")


def image_status(
    image: Facts, now: dt.datetime, *, packages: Sequence[str]
) -> list[RenderableType]:
    """All that is known of one NixImage, for people."""
    status = image.status
    word, message = image.word
    lines: list[tuple[str, Cell]] = [
        ("Name:", f"{image.namespace}/{image.name}"),
        ("Packages:", ", ".join(packages)),
        ("Ready:", _coloured(image.ready)),
        ("Status:", f"{word}: {message}" if message else word),
        ("Image:", status.image or "none yet"),
    ]
    if status.source is not None:
        source = status.source
        where = f"{source.url} {source.ref}".strip()
        since = age(source.resolved_time, now)
        lines.append(("Source:", f"{where} at {source.revision}, since {since}"))
    if status.artifact is not None:
        lines += _artifact_lines(status.artifact, now)
    shown: list[RenderableType] = [_fields(lines)]
    if status.conditions:
        rows = [
            [
                c.type,
                c.status,
                c.reason,
                age(c.last_transition_time, now),
                _once(c.message, message),
            ]
            for c in status.conditions
        ]
        conditions = table(("CONDITION", "STATUS", "REASON", "SINCE", "MESSAGE"), rows)
        shown += [Text(), conditions]
    if status.current_build is not None:
        shown += [Text(), *_build(status.current_build, now)]
    if status.failure is not None:
        shown += [Text(), *_failure(status.failure, now, told=message)]
    if status.failure is not None or word in _TO_EXPLAIN:
        shown += [Text(), Text(more(status.failure.reason if status.failure else word))]
    return shown


def build_history(image: Facts, now: dt.datetime) -> Table:
    """The builds that ended, newest first."""
    rows = [_past(build, now) for build in image.status.history]
    return table(("BUILD", "RESULT", "REVISION", "DIGEST", "TOOK", "ENDED", "MESSAGE"), rows)


def short(digest: str | None) -> str:
    """The first digits of a digest."""
    return digest.removeprefix("sha256:")[:SHORT] if digest else "-"


def one_line(image: Facts) -> str:
    """The state of an image in one line, for who waits."""
    word, message = image.word
    build = image.status.current_build
    if build is not None and build.progress is not None:
        done = _count(build.progress)
        message = f"{build.progress.phase}{done and f' {done}'} {build.progress.message}".rstrip()
    return plain_text(f"{word}: {message}".replace("\n", " "), 300)


def _wide(image: Facts) -> list[Cell]:
    artifact, source = image.status.artifact, image.status.source
    where = f"{source.url}@{source.ref}".strip("@") if source is not None else "-"
    counts = ["-", "-", "-", "-"]
    if artifact is not None:
        platforms = ",".join(artifact.platforms) or "-"
        counts = [platforms, str(artifact.layers), size(artifact.size), size(artifact.reused_size)]
    return [*counts, where, image.status.image or "-"]


def _updated(image: Facts) -> dt.datetime | None:
    return image.status.artifact.last_update_time if image.status.artifact else None


def _artifact_lines(artifact: Artifact, now: dt.datetime) -> list[tuple[str, Cell]]:
    new = artifact.layers - artifact.reused_layers
    reused = f"{artifact.reused_layers} of them, {size(artifact.reused_size)}, were there before"
    lines: list[tuple[str, Cell]] = [
        ("Layers:", f"{artifact.layers}, {size(artifact.size)}; {reused}, {new} new"),
        ("Revision:", f"{artifact.revision}, published {age(artifact.last_update_time, now)} ago"),
    ]
    if len(artifact.platforms) > 1:
        lines.insert(0, ("Platforms:", ", ".join(artifact.platforms)))
    if artifact.tags:
        lines.append(("Tags:", ", ".join(artifact.tags)))
    return lines


def _build(build: CurrentBuild, now: dt.datetime) -> list[RenderableType]:
    attempt = f", attempt {build.attempt}" if build.attempt > 1 else ""
    title = Text(f"Building for {age(build.start_time, now)}: Job {build.job_name}{attempt}")
    progress = build.progress
    if progress is None:
        return [title]
    row = Table.grid(padding=(0, 2))
    row.add_row(
        Text(f"  {progress.phase}"), _bar(progress), Text(_count(progress)), Text(progress.message)
    )
    return [title, row]


def _bar(progress: Progress) -> RenderableType:
    """How much of its phase a build has done; without a count, which phase of all it is in."""
    if progress.total:
        return ProgressBar(total=progress.total, completed=progress.done, width=BAR)
    if progress.phase not in STAGES:
        return Text()
    return ProgressBar(total=len(STAGES), completed=STAGES.index(progress.phase), width=BAR)


def _count(progress: Progress) -> str:
    return f"{progress.done}/{progress.total}" if progress.total else ""


def _once(words: str, told: str) -> str:
    """Words that are told for the first time, or where to look for them."""
    return AS_ABOVE if len(words) > ONCE and words in told else words


def _failure(failure: Failure, now: dt.datetime, told: str) -> list[RenderableType]:
    when = f"{age(failure.last_failure_time, now)} ago"
    tries = f", {failure.attempts} times in a row" if failure.attempts > 1 else ""
    lines = [f"Failed {when}{tries}: {failure.reason}"]
    if failure.message not in told:
        lines += [f"  {line}" for line in failure.message.splitlines()]
    if failure.derivation:
        lines.append(f"  derivation: {failure.derivation}")
    if failure.log_tail:
        lines.append("  last lines of its log:")
        lines += [f"    {line}" for line in failure.log_tail.splitlines()]
    if failure.next_retry_time is not None:
        left = (failure.next_retry_time - now).total_seconds()
        lines.append(f"  tried again in {duration(left)}" if left > 0 else "  tried again now")
    return [Text("\n".join(lines))]


def _past(build: BuildResult, now: dt.datetime) -> list[Cell]:
    took = (build.completion_time - build.start_time).total_seconds()
    message = "" if build.result == "Succeeded" else f"{build.reason}: {build.message}"
    return [
        build.job_name or "(in the bucket)",
        _coloured(build.result),
        build.revision[:SHORT],
        short(build.digest),
        duration(took),
        age(build.completion_time, now),
        plain_text(message.replace("\n", " "), 300),
    ]


def _fields(lines: Iterable[tuple[str, Cell]]) -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in lines:
        grid.add_row(Text(name), value if isinstance(value, Text) else Text(value))
    return grid


def _coloured(word: str) -> Text:
    return Text(word, style=_STYLES.get(word, "yellow"))
