"""`niximage logs`: the log of an image's build, its steps in their order."""

import asyncio
import codecs
import sys
import time
import unicodedata
from contextlib import aclosing
from typing import Any, Final

from niximage.bucket.logs import read_log
from niximage.bucket.store import open_store
from niximage.cli.cluster.connect import Here, in_cluster
from niximage.cli.cluster.facts import Facts
from niximage.cli.cluster.options import Step, Where
from niximage.cli.program import program_name
from niximage.controller.builds.outcome import container_statuses, newest
from niximage.controller.builds.pod import BUILD, FETCH, PUBLISH
from niximage.controller.builds.progress import MARK
from niximage.controller.cluster.connection import NotThere
from niximage.errors import NixImageError, Reason, Retryable, Terminal

START_PATIENCE: Final = 600.0  # seconds for a pod to begin a step that is followed
LOOK_EVERY: Final = 1.0  # seconds

_MARK: Final = MARK.encode()
_HELD: Final = 4096  # bytes of a line of progress; a longer one is none

Json = dict[str, Any]


def run(where: Where, name: str, *, follow: bool, step: Step | None, bucket: str) -> None:
    """Write the log of an image's running or latest build to standard output.

    Args:
        where: which cluster.
        name: the NixImage.
        follow: whether to wait for a build, and stay with it to its end.
        step: only that step's log; None for all, one after the other.
        bucket: where logs are kept of builds whose pods are gone; "" for nowhere.

    Raises:
        Terminal: there is no such image, no build of it has a pod any more, or it has no such
            step or never began it.
        Retryable: the API server does not answer, or what is asked for has not begun.
    """
    kept = in_cluster(where, lambda here: _logs(here, name, follow=follow, step=step))
    if kept is not None:
        text = _of_bucket(kept, bucket)
        part = text if step is None else of_step(text, step)
        if part is None:
            raise _no_step(name, str(step), "did not run")
        shown, held = without_progress(b"", part.encode())
        sys.stdout.buffer.write(shown + rest(held))


def has_begun(pod: Json, step: str) -> bool | None:
    """Whether a step's container runs or ran; None where it never will. Pure."""
    status = pod.get("status") or {}
    found = container_statuses(pod)
    state = next((each.get("state") or {} for each in found if each["name"] == step), {})
    if "running" in state or "terminated" in state:
        return True
    return None if status.get("phase") in {"Succeeded", "Failed"} else False


def steps_of(pod: Json) -> list[str]:
    """The steps that a build's pod has, in their order. Pure."""
    spec = pod.get("spec") or {}
    containers = (*(spec.get("initContainers") or []), *(spec.get("containers") or []))
    return [each["name"] for each in containers if each["name"] in {FETCH, BUILD, PUBLISH}]


def of_step(text: str, step: str) -> str | None:
    """One step's part of a log that the bucket keeps; None where it did not run. Pure."""
    # What tenants wrote is in `build`: a line like a title there is none.
    titles = {
        FETCH: 0 if text.startswith(f"==> {FETCH}\n") else -1,
        BUILD: text.find(f"==> {BUILD}\n"),
        PUBLISH: text.rfind(f"\n==> {PUBLISH}\n") + 1 or -1,
    }
    begin = titles[step]
    if begin < 0:
        return None
    end = min((place for place in titles.values() if place > begin), default=len(text))
    return text[begin:end].partition("\n")[2]


def without_progress(held: bytes, piece: bytes) -> tuple[bytes, bytes]:
    """What to show of a log's next piece, without the lines that tell the operator of progress.

    Pure.

    Args:
        held: the begin of a line that was not shown yet.
        piece: what came now.

    Returns:
        What to show, and what to hold until its line has ended: what may be such a line.
    """
    *whole, last = (held + piece).split(b"\n")
    shown = b"".join(line + b"\n" for line in whole if not line.startswith(_MARK))
    may_be = last.startswith(_MARK) or _MARK.startswith(last)
    return (shown, last) if may_be and len(last) <= _HELD else (shown + last, b"")


def rest(held: bytes) -> bytes:
    """What to show of what was held when a log has ended. Pure."""
    return b"" if held.startswith(_MARK) else held


async def _logs(here: Here, name: str, *, follow: bool, step: Step | None) -> Facts | None:
    """Write the log of a pod; the image where no pod is left."""
    image = Facts.of(await here.image(name))
    end, is_told = time.monotonic() + START_PATIENCE, False
    while (pod := await _pod(here, name)) is None:
        if not follow:
            return image
        if not is_told:
            is_told = True
            print(f"waiting for a build; {name} is {image.word[0]}", file=sys.stderr)  # noqa: T201 (a command line prints)
        await _pause(end, f"no build of {name} started")
    steps = steps_of(pod)
    if step is not None and step not in steps:
        raise _no_step(name, step, f"is none of its steps, which are {' and '.join(steps)}")
    copied, begun = False, None
    for container in steps if step is None else (step.value,):
        while not (begun := has_begun(pod, container)):
            if begun is None or not follow:
                break
            await _pause(end, f"the step {container} of {name} did not start")
            pod = await _pod(here, name) or pod
        if begun:
            copied = True
            await _copy(here, pod["metadata"]["name"], container, follow=follow)
    if not copied:
        raise _not_begun(name, step, never=begun is None)
    return None


async def _pod(here: Here, name: str) -> Json | None:
    job = newest(await here.api.list_jobs_of(here.namespace, name))
    if job is None:
        return None
    pods = await here.api.list_pods(here.namespace, job["metadata"]["name"])
    return newest(pods)


def printable(decoder: codecs.IncrementalDecoder, piece: bytes) -> bytes:
    """A piece of a log without what would steer a terminal, for builds write what they like."""
    text = decoder.decode(piece)
    kept = (c for c in text if c in "\n\t" or unicodedata.category(c)[0] != "C")
    return "".join(kept).encode()


async def _copy(here: Here, pod: str, container: str, *, follow: bool) -> None:
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    is_terminal = sys.stdout.isatty()
    held = b""
    try:
        log = here.api.follow_log(here.namespace, pod, container, follow=follow)
        async with aclosing(log) as pieces:
            async for piece in pieces:
                shown, held = without_progress(held, piece)
                sys.stdout.buffer.write(printable(decoder, shown) if is_terminal else shown)
                sys.stdout.buffer.flush()
        sys.stdout.buffer.write(rest(held))
    except NotThere:
        return  # deleted meanwhile, with its log


async def _pause(end: float, what: str) -> None:
    if time.monotonic() > end:
        raise Retryable(
            Reason.BUILD_TIMEOUT,
            f"{what} within {START_PATIENCE:.0f} s",
            hint=f"See what it waits for: {program_name()} status NAME",
        )
    await asyncio.sleep(LOOK_EVERY)


def _no_step(name: str, step: str, what: str) -> Terminal:
    hint = "Leave --step out to see all of them"
    if step == FETCH:
        hint = f"Only private sources and volumes need it. {hint}"
    return Terminal(
        Reason.REFERENCE_NOT_FOUND, f"the build of {name}: the step {step} {what}", hint=hint
    )


def _not_begun(name: str, step: str | None, *, never: bool) -> NixImageError:
    what = f"the build of {name}: {'no step' if step is None else f'the step {step}'}"
    see = f"{program_name()} status {name}"
    if never:
        verb = "ever ran" if step is None else "never ran"
        return Terminal(Reason.REFERENCE_NOT_FOUND, f"{what} {verb}", hint=f"See why: {see}")
    verb = "has begun" if step is None else "has not begun"
    hint = f"Wait for it with --follow, or see what it waits for: {see}"
    return Retryable(Reason.BUILDING, f"{what} {verb}", hint=hint)


def _of_bucket(image: Facts, bucket: str) -> str:
    """The log of the latest build that ended, as the bucket keeps it."""
    key = next((build.log for build in image.status.history if build.log), None)
    if not bucket or key is None:
        raise no_pod(image, key)
    store = open_store(bucket)
    try:
        text = read_log(store, key)
    finally:
        store.close()
    if text is None:
        raise no_pod(image, None)
    return text


def no_pod(image: Facts, key: str | None) -> NixImageError:
    """Why there is no log to show. Pure.

    Args:
        image: whose builds have no pod.
        key: where in the bucket the log of the latest is; None for nowhere.
    """
    failure = image.status.failure
    message = f"no build of {image.name} has a pod any more"
    if image.status.current_build is not None:
        hint = f"Wait for it with --follow, or see: {program_name()} status {image.name}"
        return Retryable(Reason.BUILDING, f"the build of {image.name} has no pod yet", hint=hint)
    if not image.status.history and (failure is None or not failure.input_hash):
        message = f"no build of {image.name} has begun; it is {': '.join(image.word)}"
        hint = f"See {program_name()} status {image.name}"
    elif key is not None:
        message += f"; its log is in the bucket as {key}"
        hint = "Name the bucket: --bucket gs://… or file:///…"
    else:
        hint = f"Wait for the next one: {program_name()} logs -f {image.name}"
    if failure is not None and failure.log_tail:
        message += "; the status keeps the end of the last failure's log"
    return Terminal(
        Reason.REFERENCE_NOT_FOUND,
        message,
        derivation=failure.derivation if failure is not None else "",
        log_tail=failure.log_tail if failure is not None else "",
        hint=hint,
    )
