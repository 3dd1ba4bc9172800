"""What operator, gateway and command line ask of a cluster: each question one line of its API."""

import base64
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from typing import Final, Protocol, TypeVar

import aiohttp

from niximage.api.base import GROUP, VERSION
from niximage.api.build_class import CLASS_PLURAL
from niximage.api.image import PLURAL
from niximage.controller.cluster.connection import (
    TIMEOUT,
    Conflict,
    Connection,
    Json,
    Kubeconfig,
    NotAllowed,
    NotThere,
)
from niximage.controller.job_view import IMAGE_LABEL, MANAGED_BY, MANAGER
from niximage.errors import Reason, Retryable
from niximage.source import flux

REVIEW_TIMEOUT: Final = 5.0  # seconds of a review: somebody waits for a pull
PAGE: Final = 500  # objects of one page of a list
WATCH: Final = 300  # seconds of one watch, after which it begins anew
LINE_LIMIT: Final = 16 << 20  # bytes of one event; etcd takes no object of more than 1.5 MiB

_IMAGES: Final = f"/apis/{GROUP}/{VERSION}"
_BATCH: Final = "/apis/batch/v1"
_CORE: Final = "/api/v1"
_FLUX: Final = f"/apis/{flux.GROUP}/{flux.VERSION}"
_EVENTS: Final = "/apis/events.k8s.io/v1"

Kept = TypeVar("Kept")


class Cluster(Protocol):
    """What the operator asks of a cluster."""

    async def call(
        self, method: str, path: str, *, body: Json | None = None, content: str = "application/json"
    ) -> Json:
        """Ask for something that has no method of its own."""
        ...

    async def list_images(self, keep: Callable[[Json], Kept]) -> list[Kept]:
        """What to keep of all NixImages that are watched."""
        ...

    async def list_jobs(self, keep: Callable[[Json], Kept]) -> list[Kept]:
        """What to keep of all build Jobs that are watched."""
        ...

    async def list_classes(self) -> list[Json]:
        """All NixBuildClasses."""
        ...

    async def list_pods(self, namespace: str, job: str) -> list[Json]:
        """The pods of a Job."""
        ...

    async def list_events_of(self, namespace: str, uid: str) -> list[Json]:
        """The Events about one object, by its uid."""
        ...

    async def read_log(
        self, namespace: str, pod: str, container: str, *, lines: int, limit: int
    ) -> str:
        """The last lines of a container's log, at most so many bytes."""
        ...

    def follow_log(
        self, namespace: str, pod: str, container: str, *, follow: bool
    ) -> AsyncGenerator[bytes, None]:
        """A container's log in pieces: what there is, or what comes while the container runs."""
        ...

    async def patch_status(self, namespace: str, name: str, patch: Json) -> Json:
        """Merge a patch into a NixImage's status; returns the object as it is then."""
        ...

    async def patch_image(self, namespace: str, name: str, patch: Json) -> Json:
        """Merge a patch into a NixImage; returns the object as it is then."""
        ...

    async def create_job(self, manifest: Json) -> Json:
        """Create a Job. Raises Conflict if there is one of that name."""
        ...

    async def get_job(self, namespace: str, name: str) -> Json | None:
        """A Job, or None if there is none of that name."""
        ...

    async def delete_job(self, namespace: str, name: str, uid: str) -> None:
        """Delete a Job of this uid and its pods; one that is gone already is no error."""
        ...


class ApiServer(Connection):
    """A cluster. Use as an async context manager."""

    def __init__(self, namespaces: tuple[str, ...] = (), *, user: Kubeconfig | None = None) -> None:
        """Nothing is open yet.

        Args:
            namespaces: the only ones to look into; none for all.
            user: the kubeconfig to use even in a pod, if it is there.
        """
        super().__init__(user=user)
        self._namespaces = namespaces

    # Lists ---------------------------------------------------------------------------------------

    async def list_images(self, keep: Callable[[Json], Kept]) -> list[Kept]:
        """What to keep of all NixImages that are watched; they come by pages."""
        return await self._list_watched(_IMAGES, PLURAL, keep)

    async def list_classes(self) -> list[Json]:
        """All NixBuildClasses."""
        return await self._list(f"{_IMAGES}/{CLASS_PLURAL}")

    async def list_jobs(self, keep: Callable[[Json], Kept]) -> list[Kept]:
        """What to keep of all build Jobs that are watched; they come by pages."""
        labels = f"{MANAGED_BY}={MANAGER}"
        return await self._list_watched(_BATCH, "jobs", keep, labelSelector=labels)

    async def list_pods(self, namespace: str, job: str) -> list[Json]:
        """The pods of a Job."""
        path = f"{_CORE}/namespaces/{namespace}/pods"
        return await self._list(path, labelSelector=f"batch.kubernetes.io/job-name={job}")

    async def list_events_of(self, namespace: str, uid: str) -> list[Json]:
        """The Events about one object, by its uid."""
        path = f"{_EVENTS}/namespaces/{namespace}/events"
        return await self._list(path, fieldSelector=f"regarding.uid={uid}")

    async def list_images_in(self, namespace: str) -> list[Json]:
        """The NixImages of one namespace; "" for all that there are."""
        where = f"/namespaces/{namespace}" if namespace else ""
        return await self._list(f"{_IMAGES}{where}/{PLURAL}")

    async def list_jobs_of(self, namespace: str, image: str) -> list[Json]:
        """The build Jobs of a NixImage, by its name."""
        path = f"{_BATCH}/namespaces/{namespace}/jobs"
        labels = f"{MANAGED_BY}={MANAGER},{IMAGE_LABEL}={image}"
        return await self._list(path, labelSelector=labels)

    async def _list_watched(
        self, api: str, plural: str, keep: Callable[[Json], Kept], **query: str
    ) -> list[Kept]:
        places = [f"/namespaces/{namespace}" for namespace in self._namespaces] or [""]
        kept: list[Kept] = []
        for place in places:
            async for page in self._pages(f"{api}{place}/{plural}", query):
                kept += map(keep, page["items"])  # ten thousand whole objects take half a gigabyte
        return kept

    async def _list(self, path: str, **query: str) -> list[Json]:
        return [item async for page in self._pages(path, query) for item in page["items"]]

    async def _pages(self, path: str, query: dict[str, str]) -> AsyncGenerator[Json, None]:
        """A list as it comes, page by page; all have the version of the first."""
        query = {**query, "limit": str(PAGE)}
        while True:
            page = await self.call("GET", path, query=query)
            yield page
            query["continue"] = page["metadata"].get("continue") or ""
            if not query["continue"]:
                return

    # Objects -------------------------------------------------------------------------------------

    async def read_log(
        self, namespace: str, pod: str, container: str, *, lines: int, limit: int
    ) -> str:
        """The last lines of a container's log, at most so many bytes."""
        data = await self.read(
            "GET",
            f"{_CORE}/namespaces/{namespace}/pods/{pod}/log",
            query={"container": container, "tailLines": str(lines), "limitBytes": str(limit)},
        )
        return data[:limit].decode("utf-8", "replace")

    def follow_log(
        self, namespace: str, pod: str, container: str, *, follow: bool
    ) -> AsyncGenerator[bytes, None]:
        """A container's log in pieces: what there is, or what comes while the container runs."""
        path = f"{_CORE}/namespaces/{namespace}/pods/{pod}/log"
        query = {"container": container, "follow": "true" if follow else "false"}
        limit = aiohttp.ClientTimeout(
            total=None, sock_connect=TIMEOUT, sock_read=None if follow else TIMEOUT
        )
        return self.stream(path, query, limit)

    def through_pod(
        self, namespace: str, pod: str, port: int, path: str, *, accept: str
    ) -> AsyncGenerator[bytes, None]:
        """What a pod answers to a GET, by way of the API server. Raises NotThere for a 404."""
        limit = aiohttp.ClientTimeout(total=None, sock_connect=TIMEOUT, sock_read=TIMEOUT)
        return self.stream(
            f"{_CORE}/namespaces/{namespace}/pods/{pod}:{port}/proxy{path}", {}, limit, accept
        )

    async def list_pods_labelled(self, labels: str, namespace: str = "") -> list[Json]:
        """The pods with labels, in one namespace or in all."""
        where = f"/namespaces/{namespace}" if namespace else ""
        return await self._list(f"{_CORE}{where}/pods", labelSelector=labels)

    async def get_image(self, namespace: str, name: str) -> Json:
        """A NixImage as it is stored. Raises NotThere if there is none of that name."""
        return await self.call("GET", f"{_IMAGES}/namespaces/{namespace}/{PLURAL}/{name}")

    async def patch_image(self, namespace: str, name: str, patch: Json) -> Json:
        """Merge a patch into a NixImage; returns the object as it is then."""
        return await self.call(
            "PATCH",
            f"{_IMAGES}/namespaces/{namespace}/{PLURAL}/{name}",
            body=patch,
            content="application/merge-patch+json",
        )

    async def patch_status(self, namespace: str, name: str, patch: Json) -> Json:
        """Merge a patch into a NixImage's status; returns the object as it is then."""
        return await self.call(
            "PATCH",
            f"{_IMAGES}/namespaces/{namespace}/{PLURAL}/{name}/status",
            body=patch,
            content="application/merge-patch+json",
        )

    async def create_event(self, manifest: Json) -> None:
        """Create an Event."""
        namespace = manifest["metadata"]["namespace"]
        await self.call("POST", f"{_EVENTS}/namespaces/{namespace}/events", body=manifest)

    async def create_job(self, manifest: Json) -> Json:
        """Create a Job. Raises Conflict if there is one of that name."""
        namespace = manifest["metadata"]["namespace"]
        return await self.call("POST", f"{_BATCH}/namespaces/{namespace}/jobs", body=manifest)

    async def get_job(self, namespace: str, name: str) -> Json | None:
        """A Job, or None if there is none of that name."""
        try:
            return await self.call("GET", f"{_BATCH}/namespaces/{namespace}/jobs/{name}")
        except NotThere:
            return None

    async def delete_job(self, namespace: str, name: str, uid: str) -> None:
        """Delete a Job of this uid and its pods; one that is gone already is no error."""
        options = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": "Background",
            "preconditions": {"uid": uid},
        }
        try:
            path = f"{_BATCH}/namespaces/{namespace}/jobs/{name}"
            await self.call("DELETE", path, body=options)
        except (NotThere, Conflict):
            return

    async def get_secret(self, namespace: str, name: str) -> dict[str, bytes]:
        """The values of a Secret.

        Raises:
            NotAllowed: the operator was not granted it.
            NotThere: there is none of that name.
        """
        secret = await self.call("GET", f"{_CORE}/namespaces/{namespace}/secrets/{name}")
        return {key: base64.b64decode(value) for key, value in (secret.get("data") or {}).items()}

    async def get_flux(self, namespace: str, plural: str, name: str) -> Json:
        """An object of Flux's sources.

        Raises:
            NotAllowed: the operator may not get it.
            NotThere: there is none of that name, or no such kind.
        """
        return await self.call("GET", f"{_FLUX}/namespaces/{namespace}/{plural}/{name}")

    async def list_flux(self, plural: str, namespace: str) -> tuple[list[Json], str]:
        """The objects of a kind of Flux, in one namespace or in all, and the list's version.

        Raises:
            NotAllowed: the operator may not list them.
            NotThere: there is no such kind.
        """
        found: list[Json] = []
        version = ""
        async for page in self._pages(_flux(plural, namespace), {}):
            found += page["items"]
            version = str(page["metadata"].get("resourceVersion", ""))
        return found, version

    async def watch_flux(
        self, plural: str, namespace: str, version: str
    ) -> AsyncGenerator[Json, None]:
        """What changes in such a list, as {"type": …, "object": …}, until the watch ends."""
        query = {
            "watch": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(WATCH),
            "allowWatchBookmarks": "true",
        }
        limit = aiohttp.ClientTimeout(total=WATCH + TIMEOUT, sock_connect=TIMEOUT)
        async with aclosing(self.stream(_flux(plural, namespace), query, limit)) as pieces:
            async for line in _lines(pieces):
                yield json.loads(line)

    async def kinds_of_flux(self) -> frozenset[str]:
        """The plurals of the kinds that Flux's sources have here; none where Flux is not."""
        try:
            found = await self.call("GET", _FLUX)
        except (NotAllowed, NotThere):
            return frozenset()
        return frozenset(str(kind.get("name")) for kind in found.get("resources") or ())

    # Reviews -------------------------------------------------------------------------------------

    async def review_token(self, token: str, audience: str) -> Json:
        """The status of a TokenReview; an empty audience means the API server's own."""
        spec = {"token": token, **({"audiences": [audience]} if audience else {})}
        return await self._review("authentication.k8s.io", "TokenReview", spec)

    async def review_access(self, spec: Json) -> bool:
        """Whether a SubjectAccessReview of this spec allows."""
        status = await self._review("authorization.k8s.io", "SubjectAccessReview", spec)
        return status.get("allowed") is True and status.get("denied") is not True

    async def may(self, attributes: Json) -> bool:
        """Whether the operator itself may do something, by the attributes of a resource."""
        spec = {"resourceAttributes": attributes}
        status = await self._review("authorization.k8s.io", "SelfSubjectAccessReview", spec)
        return status.get("allowed") is True

    async def _review(self, group: str, kind: str, spec: Json) -> Json:
        answered = await self.call(
            "POST",
            f"/apis/{group}/v1/{kind.lower()}s",
            body={"apiVersion": f"{group}/v1", "kind": kind, "spec": spec},
            timeout=REVIEW_TIMEOUT,
        )
        return dict(answered.get("status") or {})


def _flux(plural: str, namespace: str) -> str:
    """The path of a kind of Flux, in one namespace or in all."""
    return f"{_FLUX}/namespaces/{namespace}/{plural}" if namespace else f"{_FLUX}/{plural}"


async def _lines(pieces: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    """The lines of an answer that comes in pieces.

    Raises:
        Retryable: one of them never ends.
    """
    rest = b""
    async for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            yield line
        if len(rest) > LINE_LIMIT:
            raise Retryable(Reason.CLUSTER_UNAVAILABLE, "the API server's watch sends no lines")
