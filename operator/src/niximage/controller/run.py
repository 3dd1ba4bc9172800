"""The operator as a whole: start, watch, work, repair, stop."""

import asyncio
import contextlib
import logging
import platform
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final

from niximage.bucket.check import check_bucket
from niximage.bucket.store import ObjectStore
from niximage.controller.cluster.client import ApiServer
from niximage.controller.cluster.connection import NotThere
from niximage.controller.cluster.informer import watch
from niximage.controller.cluster.lease import Lease, lease_place
from niximage.controller.cluster.rights import check_rights
from niximage.controller.health import Health, serve_health
from niximage.controller.metrics import Metrics
from niximage.controller.operator import JITTER, Operator, spread
from niximage.controller.settings import Settings
from niximage.controller.sources.flux_watch import EVERY, FluxWatch
from niximage.errors import Reason, Retryable, Terminal

LIST_TIMEOUT: Final = 300.0  # seconds that a full list may take, pages and all
BUCKET_TIMEOUT: Final = 60.0  # seconds of one look at the bucket
BUCKET_DELAY: Final = 1.0  # seconds before the second look at a bucket that is away
BUCKET_DELAY_LIMIT: Final = 60.0

log = logging.getLogger(__name__)


async def run(
    settings: Settings,
    store: ObjectStore,
    *,
    stop: asyncio.Event | None = None,
    listen: str | None = None,
) -> None:
    """Run the operator until SIGTERM, SIGINT or `stop`.

    Args:
        settings: how it is set up.
        store: the bucket.
        stop: ends it when set.
        listen: where to answer probes and tell figures, `host:port`.

    Raises:
        Terminal: the cluster lacks the CRDs or a right, or there is no cluster.
        Retryable: the API server refuses the operator, the Lease was lost, or a part ended.
    """
    metrics = Metrics()
    health = Health(patience=2 * settings.resync_interval * (1 + JITTER) + LIST_TIMEOUT)
    async with ApiServer(settings.namespaces) as cluster, serve_health(listen, health, metrics):
        place = lease_place(settings.lease)
        await check_rights(cluster, settings.namespaces, place)
        async with _background(_look_at(store, health)), _lead(cluster, place) as lead:
            health.began()
            metrics.leader.set(1)
            operator = Operator(
                cluster,
                store,
                settings,
                metrics=metrics,
                health=health,
                acted_until=lead.former_acted_until,
            )
            try:
                await operator.list_all()
            except NotThere:
                raise Terminal(
                    Reason.CLUSTER_UNAVAILABLE,
                    "the cluster does not know NixImages and NixBuildClasses",
                    hint="Install the CRDs first: niximage crds | kubectl apply -f -",
                ) from None
            jobs = (operator.work() for _ in range(settings.workers))
            flux = FluxWatch(
                cluster,
                namespaces=settings.namespaces,
                seen=operator.flux_seen,
                served=operator.flux_served,
                every=min(EVERY, settings.resync_interval),
            )
            async with _background(
                *jobs, operator.resync(), operator.announce(), flux.run()
            ) as working:
                tasks = [*working, *lead.tasks]
                watching = asyncio.create_task(
                    watch(operator.seen, stop=stop, namespaces=settings.namespaces)
                )
                await asyncio.wait({watching, *tasks}, return_when=asyncio.FIRST_COMPLETED)
                if not watching.done():
                    watching.cancel()
                    for task in tasks:
                        if task.done() and (error := task.exception()) is not None:
                            raise error
                    raise Retryable(Reason.INTERNAL_ERROR, "a worker ended")
                watching.result()


async def _look_at(store: ObjectStore, health: Health) -> None:
    """Look at the bucket until it can be used: a restart would not help, and says less."""
    health.bucket = "the bucket was not looked at yet"
    delay = BUCKET_DELAY
    while True:
        try:
            async with asyncio.timeout(BUCKET_TIMEOUT):
                await asyncio.to_thread(check_bucket, store)
        except TimeoutError:
            words = f"no answer within {BUCKET_TIMEOUT:.0f} s"
        except Exception as error:  # noqa: BLE001 (whatever it is, nobody else tells of it)
            words = str(error) or type(error).__name__
        else:
            health.bucket = ""
            log.info("the bucket %s can be used", store.url)
            return
        words = f"the bucket {store.url} cannot be used: {words}"
        if words != health.bucket:
            log.warning(words)
        health.bucket = words
        await asyncio.sleep(spread(delay))
        delay = min(2 * delay, BUCKET_DELAY_LIMIT)


@dataclass(frozen=True, slots=True)
class Lead:
    """The right to act.

    Attributes:
        tasks: what renews it, and ends if it is lost.
        former_acted_until: when the one before was at work last, in seconds since 1970; None
            where that is not known.
    """

    tasks: "list[asyncio.Task[None]]"
    former_acted_until: float | None


@contextlib.asynccontextmanager
async def _lead(cluster: ApiServer, place: tuple[str, str] | None) -> AsyncIterator[Lead]:
    """Act only while the Lease is ours."""
    if place is None:
        yield Lead([], None)
        return
    namespace, name = place
    holder = f"{platform.node()}-{secrets.token_hex(4)}"
    lease = Lease(cluster, namespace=namespace, name=name, holder=holder)
    await lease.acquire()
    try:
        async with _background(lease.hold()) as tasks:
            yield Lead(tasks, lease.acted_until)
    finally:
        await lease.release()


@contextlib.asynccontextmanager
async def _background(*coroutines: Any) -> AsyncIterator[list["asyncio.Task[None]"]]:
    """Run coroutines beside the body; they are cancelled and awaited at its end."""
    tasks = [asyncio.create_task(c) for c in coroutines]
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
