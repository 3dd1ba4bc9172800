"""The API server, as far as operator and gateway need it. The only module that imports the client.

Objects go in and out as plain JSON, and every call is one line of method and path: the client's
typed half takes seconds to import, in the middle of the first call. Every call has a time
limit; what the API server refuses becomes `Retryable(CLUSTER_UNAVAILABLE)` in its own words, and
a conflict is told apart.
"""

import asyncio
import base64
import json
import os
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol, Self, TypeVar
from urllib.parse import quote

import aiohttp
import yaml
from kubernetes.aio import client as kubernetes
from kubernetes.aio import config

from niximage.api.base import GROUP, VERSION
from niximage.api.build_class import CLASS_PLURAL
from niximage.api.image import PLURAL
from niximage.controller.views import IMAGE_LABEL, MANAGED_BY, MANAGER
from niximage.errors import Reason, Retryable, Terminal, plain_text
from niximage.source import flux

TIMEOUT: Final = 30.0  # seconds of one call
REVIEW_TIMEOUT: Final = 5.0  # seconds of a review: somebody waits for a pull
PAGE: Final = 500  # objects of one page of a list
RETRY_AFTER_LIMIT: Final = 300.0  # seconds that a server may ask us to wait
IN_CLUSTER_TOKEN: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")

_IMAGES: Final = f"/apis/{GROUP}/{VERSION}"
_BATCH: Final = "/apis/batch/v1"
_CORE: Final = "/api/v1"
_FLUX: Final = f"/apis/{flux.GROUP}/{flux.VERSION}"
_EVENTS: Final = "/apis/events.k8s.io/v1"

Json = dict[str, Any]
Kept = TypeVar("Kept")


class Conflict(Retryable):
    """Somebody else wrote in between, or made an object of that name."""


class NotThere(Retryable):
    """No object of that name, or no such kind."""


class NotAllowed(Retryable):
    """The operator's ServiceAccount may not do this."""


class Refused(Retryable):
    """The object itself is at fault: the same one is refused again."""


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

    async def create_event(self, manifest: Json) -> None:
        """Create an Event."""
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


@dataclass(frozen=True, slots=True)
class Kubeconfig:
    """A user's way to a cluster, as kubectl's options of these names say it.

    Attributes:
        file: the kubeconfig; "" for the one of $KUBECONFIG, or ~/.kube/config.
        context: which of its contexts; "" for the current one.
    """

    file: str = ""
    context: str = ""

    @property
    def files(self) -> str:
        """Where to look, one or more paths as $KUBECONFIG has them."""
        return self.file or os.environ.get("KUBECONFIG") or "~/.kube/config"

    @property
    def is_there(self) -> bool:
        """Whether there is such a file."""
        return any(
            Path(path).expanduser().is_file() for path in self.files.split(os.pathsep) if path
        )


class ApiServer:
    """A cluster, through one connection pool. Use as an async context manager.

    Attributes:
        namespace: where to look if nobody says otherwise: the kubeconfig's, or the pod's own.
    """

    def __init__(self, namespaces: tuple[str, ...] = (), *, user: Kubeconfig | None = None) -> None:
        """Nothing is open yet.

        Args:
            namespaces: the only ones to look into; none for all.
            user: the kubeconfig to use even in a pod, if it is there.
        """
        self._namespaces = namespaces
        self._user = user
        self._client: kubernetes.ApiClient | None = None
        self.namespace = "default"

    async def __aenter__(self) -> Self:
        """Find the cluster: the pod's own, or the kubeconfig's.

        Raises:
            Terminal: there is neither.
        """
        configuration = kubernetes.Configuration()
        try:
            user = self._user or Kubeconfig()
            asked = self._user is not None and (user.file or user.context or user.is_there)
            if IN_CLUSTER_TOKEN.exists() and not asked:
                config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
                self.namespace = IN_CLUSTER_TOKEN.with_name("namespace").read_text().strip()
            else:
                self.namespace = await _load(user, configuration)
        except (config.ConfigException, OSError, yaml.YAMLError) as error:
            raise Terminal(
                Reason.CLUSTER_UNAVAILABLE,
                f"no cluster to talk to: {plain_text(str(error), 600)}",
                hint="Set KUBECONFIG, or run in a pod with a service account",
            ) from None
        self._client = kubernetes.ApiClient(configuration)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.close()  # type: ignore[no-untyped-call]

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
                kept += map(keep, page)  # ten thousand whole objects take half a gigabyte
        return kept

    async def _list(self, path: str, **query: str) -> list[Json]:
        return [item async for page in self._pages(path, query) for item in page]

    async def _pages(self, path: str, query: dict[str, str]) -> AsyncGenerator[list[Json], None]:
        query = {**query, "limit": str(PAGE)}
        while True:
            page = await self.call("GET", path, query=query)
            yield page["items"]
            query["continue"] = page["metadata"].get("continue") or ""
            if not query["continue"]:
                return

    # Objects -------------------------------------------------------------------------------------

    async def read_log(
        self, namespace: str, pod: str, container: str, *, lines: int, limit: int
    ) -> str:
        """The last lines of a container's log, at most so many bytes."""
        data = await self._bytes(
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
        return self._pieces(path, query, limit)

    def through_pod(
        self, namespace: str, pod: str, port: int, path: str, *, accept: str
    ) -> AsyncGenerator[bytes, None]:
        """What a pod answers to a GET, by way of the API server. Raises NotThere for a 404."""
        limit = aiohttp.ClientTimeout(total=None, sock_connect=TIMEOUT, sock_read=TIMEOUT)
        return self._pieces(
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

    # Any -----------------------------------------------------------------------------------------

    async def call(
        self,
        method: str,
        path: str,
        *,
        query: dict[str, str] | None = None,
        body: Json | None = None,
        content: str = "application/json",
        timeout: float = TIMEOUT,  # noqa: ASYNC109 (of the client's own call, too)
    ) -> Json:
        """Ask the API server for something; the answer is a JSON object.

        Raises:
            NotThere: there is nothing of that name, or no such kind.
            Conflict: somebody else wrote in between.
            NotAllowed: the ServiceAccount may not.
            Retryable: the API server does not answer, or refuses for another reason.
        """
        data = await self._bytes(
            method, path, query=query, body=body, content=content, timeout=timeout
        )
        try:
            answer = json.loads(data)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise Retryable(
                Reason.CLUSTER_UNAVAILABLE, f"the API server answers {path} with no JSON object"
            )
        return answer

    async def _bytes(
        self,
        method: str,
        path: str,
        *,
        query: dict[str, str] | None = None,
        body: Json | None = None,
        content: str = "application/json",
        timeout: float = TIMEOUT,  # noqa: ASYNC109 (of the client's own call, too)
    ) -> bytes:
        assert self._client is not None
        given = {name: value for name, value in (query or {}).items() if value}
        try:
            async with asyncio.timeout(timeout):
                request = await self._client.param_serialize(
                    method,
                    quote(path),
                    query_params=list(given.items()),
                    header_params={"Accept": "application/json, */*", "Content-Type": content},
                    body=body,
                    auth_settings=["BearerToken"],
                )
                response = await self._client.call_api(*request, _request_timeout=timeout)
                data: bytes = await response.read()  # type: ignore[no-untyped-call]
        except kubernetes.ApiException as error:
            after = (error.headers or {}).get("Retry-After")
            raise _refused(error.status, error.body or str(error.reason), after) from None
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _silent(error) from None
        if not _is_good(response.status):
            after = response.headers.get("Retry-After")
            raise _refused(response.status, data.decode("utf-8", "replace"), after)
        return data

    async def _pieces(
        self, path: str, query: dict[str, str], limit: aiohttp.ClientTimeout, accept: str = "*/*"
    ) -> AsyncGenerator[bytes, None]:
        assert self._client is not None
        try:
            request = await self._client.param_serialize(
                "GET",
                quote(path),
                query_params=list(query.items()),
                header_params={"Accept": accept},
                auth_settings=["BearerToken"],
            )
            answer = await self._client.call_api(*request, _request_timeout=limit)
            async with answer.response as response:
                if not _is_good(response.status):
                    raise _refused(response.status, await response.text("utf-8", "replace"))
                async for piece in response.content.iter_any():
                    yield piece
        except kubernetes.ApiException as error:
            raise _refused(error.status, error.body or str(error.reason)) from None
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _silent(error) from None


async def _load(user: Kubeconfig, configuration: kubernetes.Configuration) -> str:
    """Fill a configuration from a kubeconfig; returns the namespace that it names."""
    if not user.is_there:
        raise config.ConfigException(f"there is no kubeconfig at {user.files}")
    loader = await config.load_kube_config(  # type: ignore[no-untyped-call]
        user.files, context=user.context or None, client_configuration=configuration
    )
    return str(loader.current_context["context"].get("namespace") or "default")


def _is_good(status: int) -> bool:
    return 200 <= status < 300  # noqa: PLR2004 (HTTP's own numbers)


def _silent(error: Exception) -> Retryable:
    return Retryable(
        Reason.CLUSTER_UNAVAILABLE,
        f"the API server does not answer: {type(error).__name__} {error}".rstrip(),
    )


def _refused(status: int | None, body: str, retry_after: str | None = None) -> Retryable:
    """The API server's refusal, in its own words, with the time that it asks for."""
    refusal = _refusal(status, body)
    if retry_after and retry_after.isdecimal():
        refusal.retry_after = min(float(retry_after), RETRY_AFTER_LIMIT)
    return refusal


def _refusal(status: int | None, body: str) -> Retryable:
    try:
        words = str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError):
        words = body
    message = f"the API server answers {status}: {plain_text(words, 600)}"
    match status:
        case 400 | 422:
            return Refused(Reason.CLUSTER_UNAVAILABLE, message)
        case 404:
            return NotThere(Reason.CLUSTER_UNAVAILABLE, message)
        case 409:
            return Conflict(Reason.CLUSTER_UNAVAILABLE, message)
        case 403 if "exceeded quota" in words:
            return Retryable(
                Reason.CLUSTER_UNAVAILABLE, message, hint="The build waits for room in the quota"
            )
        case 401 | 403:
            return NotAllowed(
                Reason.CLUSTER_UNAVAILABLE,
                message,
                hint="Grant the operator's ServiceAccount the role that its manifests hold",
            )
        case _:
            return Retryable(Reason.CLUSTER_UNAVAILABLE, message)
