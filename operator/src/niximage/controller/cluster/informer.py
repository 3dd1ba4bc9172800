"""The watch. The only module that imports kopf, and it uses kopf for nothing else.

kopf lists, watches, reconnects, authenticates and shuts down well. It does not retry what an
event handler failed to write, does not coalesce events, and does not tell of deletions that
it missed; so handlers here only learn and enqueue, which cannot fail, and a full list by
`niximage.controller.operator` repairs the rest.
"""

import asyncio
import dataclasses
import logging
import os
from collections.abc import Callable
from typing import Any

import kopf

from niximage.api.base import GROUP, VERSION
from niximage.api.build_class import CLASS_PLURAL
from niximage.api.image import PLURAL
from niximage.controller.job_view import MANAGED_BY, MANAGER
from niximage.errors import Reason, Retryable, plain_text

Seen = Callable[[str, dict[str, Any]], None]
"""Called with a kind's plural and a watch event: {"type": …, "object": …}."""


async def watch(
    seen: Seen,
    *,
    stop: asyncio.Event | None = None,
    namespaces: tuple[str, ...] = (),
) -> None:
    """Watch NixImages, NixBuildClasses and build Jobs until told to stop, or by SIGTERM and SIGINT.

    Args:
        seen: learns of each event, in order for each object; must not block or raise.
        stop: ends the watch when set; signals do in any case. With it, kopf takes five
            seconds more to end on a signal: it waits for the waiter on this very event.
        namespaces: the only ones to look into; none for all. Classes, which belong to no
            namespace, are watched only together with all.

    Raises:
        Retryable: the API server does not let us watch, or was away for too long.
    """
    registry = kopf.OperatorRegistry()

    @kopf.on.login(registry=registry)
    def login(**kwargs: Any) -> kopf.ConnectionInfo | None:
        return _in_a_pod(**kwargs) or kopf.login_with_kubeconfig(**kwargs)

    def tell(group: str, version: str, plural: str) -> None:
        @kopf.on.event(group, version, plural, id=plural, registry=registry)
        async def each(event: kopf.RawEvent, **_: Any) -> None:
            seen(plural, dict(event))

    tell(GROUP, VERSION, PLURAL)
    if not namespaces:
        tell(GROUP, VERSION, CLASS_PLURAL)
    tell("batch", "v1", "jobs")

    # What kopf says of its own handlers tells an admin nothing.
    logging.getLogger("kopf").setLevel(logging.WARNING)
    # It would print a traceback of what is raised below, too.
    logging.getLogger("kopf._core.reactor.running").setLevel(logging.CRITICAL)
    try:
        await kopf.operator(
            registry=registry,
            settings=_settings(),
            clusterwide=not namespaces,
            namespaces=namespaces,
            standalone=True,
            stop_flag=stop,
        )
    except Exception as error:  # what a watch may end with, kopf does not export
        raise Retryable(
            Reason.CLUSTER_UNAVAILABLE,
            f"the watch ended: {plain_text(str(error), 600)}",
            hint="This process ends, so that a new one starts with a full list",
        ) from error


def _in_a_pod(**kwargs: Any) -> kopf.ConnectionInfo | None:
    """The pod's own cluster by its address: kopf would use the name, and not all have a DNS."""
    login = kopf.login_with_service_account(**kwargs)
    host = os.environ.get("KUBERNETES_SERVICE_HOST")
    port = os.environ.get("KUBERNETES_SERVICE_PORT")
    if login is None or not host or not port:
        return login
    bracketed = f"[{host}]" if ":" in host else host
    return dataclasses.replace(login, server=f"https://{bracketed}:{port}")


def _settings() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.peering.standalone = True
    settings.scanning.disabled = True  # needs no right to list CRDs and namespaces
    settings.posting.enabled = False
    settings.watching.label_selectors["batch", "jobs"] = f"{MANAGED_BY}={MANAGER}"
    settings.watching.server_timeout = 600
    settings.watching.chunk_size = 500
    settings.networking.request_timeout = 30
    settings.networking.connect_timeout = 10
    # Handlers here take no time: an idle worker need not linger, nor an exit wait for one.
    settings.queueing.idle_timeout = 0.5
    settings.queueing.exit_timeout = 0.5
    settings.process.ultimate_exiting_timeout = 20
    return settings
