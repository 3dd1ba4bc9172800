"""What users do to NixImages: each a small patch, which the operator answers."""

import asyncio
import datetime as dt

import typer

from niximage.api.image import FORCE_AT, REQUESTED_AT
from niximage.api.status import ConditionType
from niximage.cli.cluster.connect import Here, in_cluster
from niximage.cli.cluster.facts import Facts
from niximage.cli.cluster.options import Where
from niximage.cli.cluster.waiting import wait
from niximage.cli.duration import length_of
from niximage.cli.program import program_name
from niximage.controller.job_view import JobState, JobView
from niximage.errors import Reason, Terminal


def suspend(where: Where, names: list[str], *, suspended: bool) -> None:
    """Set spec.suspend, or remove it."""

    async def work(here: Here) -> None:
        for name in names:
            await here.patch(name, {"spec": {"suspend": True if suspended else None}})
            typer.echo(f"{name} {'suspended' if suspended else 'resumed'}")

    in_cluster(where, work)


def resume(where: Where, names: list[str], *, waits: bool, timeout: str) -> None:
    """Remove spec.suspend, and wait if asked to."""
    limit = length_of(timeout, "--timeout")
    suspend(where, names, suspended=False)
    if waits:
        in_cluster(where, lambda here: _wait_all(here, names, limit))


def reconcile(where: Where, names: list[str], *, force: bool, waits: bool, timeout: str) -> None:
    """Ask for a look at the source now, and with force for a build in any case."""
    limit = length_of(timeout, "--timeout")

    async def work(here: Here) -> None:
        for name in names:
            image = Facts.of(await here.image(name))
            if image.is_suspended:
                raise Terminal(
                    Reason.SUSPENDED,
                    f"{name} is suspended: nothing would come of it",
                    hint=f"Resume it: {program_name()} resume {name}",
                )
            await _request(here, name, force=force)
            typer.echo(f"{name}: {'build' if force else 'reconciliation'} requested")
        if waits:
            await _wait_all(here, names, limit)

    in_cluster(where, work)


def retry(where: Where, names: list[str], *, waits: bool, timeout: str) -> None:
    """Ask for another try of what failed."""
    limit = length_of(timeout, "--timeout")

    async def work(here: Here) -> None:
        for name in names:
            image = Facts.of(await here.image(name))
            stalled = image.status.is_true(ConditionType.STALLED)
            if image.status.failure is None and not stalled:
                raise Terminal(
                    Reason.REFERENCE_NOT_FOUND,
                    f"{name} has not failed: there is nothing to try again",
                    hint=f"Build it anew in any case: {program_name()} reconcile {name} --force",
                )
            if image.is_suspended:
                await here.patch(name, {"spec": {"suspend": None}})
            await _request(here, name, force=False)
            typer.echo(f"{name}: another try requested")
        if waits:
            await _wait_all(here, names, limit)

    in_cluster(where, work)


def cancel(where: Where, names: list[str]) -> None:
    """Suspend images and delete their running builds: deleted alone, they would start again."""

    async def work(here: Here) -> None:
        for name in names:
            await here.patch(name, {"spec": {"suspend": True}})
            found = await here.api.list_jobs_of(here.namespace, name)
            live = [
                job for each in found if (job := JobView.from_json(each)).state is JobState.LIVE
            ]
            for job in live:
                await here.api.delete_job(here.namespace, job.name, job.uid)
            stopped = ", ".join(job.name for job in live) or "no build was running"
            typer.echo(f"{name} suspended; {'stopped ' if live else ''}{stopped}")
            typer.echo(f"  go on with: {program_name()} resume {name}", err=True)

    in_cluster(where, work)


async def _request(here: Here, name: str, *, force: bool) -> None:
    """Set the annotations that Flux's users know; any new value is a new request."""
    token = _now().isoformat()
    annotations = {REQUESTED_AT: token, **({FORCE_AT: token} if force else {})}
    await here.patch(name, {"metadata": {"annotations": annotations}})


async def _wait_all(here: Here, names: list[str], limit: float) -> None:
    for image in await asyncio.gather(*(wait(here, name, timeout=limit) for name in names)):
        typer.echo(f"{image.name} is Ready: {image.status.image}")


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)
