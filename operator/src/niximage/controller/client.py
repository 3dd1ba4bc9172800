"""The API server, as far as operator and gateway need it. The only module that imports the client.

Objects go in and out as plain JSON. Every call has a time limit; what the API server refuses
becomes `Retryable(CLUSTER_UNAVAILABLE)` in its own words, and a conflict is told apart.
"""

import json
from collections.abc import Awaitable
from pathlib import Path
from typing import Any, Final, Protocol, Self

import aiohttp
from kubernetes.aio import client as kubernetes
from kubernetes.aio import config

from niximage.api.base import GROUP, VERSION
from niximage.api.build_class import CLASS_PLURAL
from niximage.api.image import PLURAL
from niximage.controller.views import MANAGED_BY, MANAGER
from niximage.errors import Reason, Retryable, Terminal, plain_text

TIMEOUT: Final = 30.0  # seconds of one call
REVIEW_TIMEOUT: Final = 5.0  # seconds of a review: somebody waits for a pull
PAGE: Final = 500  # objects of one page of a list
IN_CLUSTER_TOKEN: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")

Json = dict[str, Any]


class Conflict(Retryable):
    """Somebody else wrote in between, or made an object of that name."""


class Cluster(Protocol):
    """What the operator asks of a cluster."""

    async def list_images(self) -> list[Json]:
        """All NixImages."""
        ...

    async def list_jobs(self) -> list[Json]:
        """All build Jobs."""
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

    async def patch_status(self, namespace: str, name: str, patch: Json) -> Json:
        """Merge a patch into a NixImage's status; returns the object as it is then."""
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


class ApiServer:
    """A cluster, through one connection pool. Use as an async context manager."""

    def __init__(self) -> None:
        self._client: kubernetes.ApiClient | None = None

    async def __aenter__(self) -> Self:
        """Find the cluster: the pod's own, or the kubeconfig's.

        Raises:
            Terminal: there is neither.
        """
        configuration = kubernetes.Configuration()
        try:
            if IN_CLUSTER_TOKEN.exists():
                config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
            else:
                await config.load_kube_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
        except config.ConfigException as error:
            raise Terminal(
                Reason.CLUSTER_UNAVAILABLE,
                f"no cluster to talk to: {error}",
                hint="Set KUBECONFIG, or run in a pod with a service account",
            ) from None
        self._client = kubernetes.ApiClient(configuration)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.close()  # type: ignore[no-untyped-call]

    @property
    def _objects(self) -> kubernetes.CustomObjectsApi:
        # It speaks plain JSON to every API group, batch too.
        return kubernetes.CustomObjectsApi(self._client)

    async def list_images(self) -> list[Json]:
        """All NixImages."""
        return await self._list(GROUP, VERSION, PLURAL)

    async def list_classes(self) -> list[Json]:
        """All NixBuildClasses."""
        return await self._list(GROUP, VERSION, CLASS_PLURAL)

    async def list_jobs(self) -> list[Json]:
        """All build Jobs."""
        return await self._list("batch", "v1", "jobs", label_selector=f"{MANAGED_BY}={MANAGER}")

    async def _list(self, group: str, version: str, plural: str, **options: Any) -> list[Json]:
        items: list[Json] = []
        token = None
        while True:
            page: Any = await _answer(
                self._objects.list_custom_object_for_all_namespaces(
                    group,
                    version,
                    plural,
                    limit=PAGE,
                    _continue=token,
                    _request_timeout=TIMEOUT,
                    **options,
                )
            )
            items += page["items"]
            token = page["metadata"].get("continue")
            if not token:
                return items

    async def list_pods(self, namespace: str, job: str) -> list[Json]:
        """The pods of a Job."""
        response: Any = await _answer(
            kubernetes.CoreV1Api(self._client).list_namespaced_pod_without_preload_content(
                namespace,
                label_selector=f"batch.kubernetes.io/job-name={job}",
                _request_timeout=TIMEOUT,
            )
        )
        if response.status != 200:  # noqa: PLR2004 (HTTP's own number)
            raise _refused(response.status, await response.text())
        items: list[Json] = json.loads(await response.read())["items"]
        return items

    async def read_log(
        self, namespace: str, pod: str, container: str, *, lines: int, limit: int
    ) -> str:
        """The last lines of a container's log, at most so many bytes."""
        response: Any = await _answer(
            kubernetes.CoreV1Api(self._client).read_namespaced_pod_log_without_preload_content(
                pod,
                namespace,
                container=container,
                tail_lines=lines,
                limit_bytes=limit,
                _request_timeout=TIMEOUT,
            )
        )
        data: bytes = await response.read()
        if response.status != 200:  # noqa: PLR2004 (HTTP's own number)
            raise _refused(response.status, data.decode("utf-8", "replace"))
        return data[:limit].decode("utf-8", "replace")

    async def patch_status(self, namespace: str, name: str, patch: Json) -> Json:
        """Merge a patch into a NixImage's status; returns the object as it is then."""
        patched: Any = await _answer(
            self._objects.patch_namespaced_custom_object_status(
                GROUP,
                VERSION,
                namespace,
                PLURAL,
                name,
                patch,
                _content_type="application/merge-patch+json",
                _request_timeout=TIMEOUT,
            )
        )
        return dict(patched)

    async def create_job(self, manifest: Json) -> Json:
        """Create a Job. Raises Conflict if there is one of that name."""
        created: Any = await _answer(
            self._objects.create_namespaced_custom_object(
                "batch",
                "v1",
                manifest["metadata"]["namespace"],
                "jobs",
                manifest,
                _request_timeout=TIMEOUT,
            )
        )
        return dict(created)

    async def get_job(self, namespace: str, name: str) -> Json | None:
        """A Job, or None if there is none of that name."""
        try:
            found: Any = await _answer(
                self._objects.get_namespaced_custom_object(
                    "batch", "v1", namespace, "jobs", name, _request_timeout=TIMEOUT
                )
            )
        except NotThere:
            return None
        return dict(found)

    async def delete_job(self, namespace: str, name: str, uid: str) -> None:
        """Delete a Job of this uid and its pods; one that is gone already is no error."""
        try:
            await _answer(
                self._objects.delete_namespaced_custom_object(
                    "batch",
                    "v1",
                    namespace,
                    "jobs",
                    name,
                    body=kubernetes.V1DeleteOptions(
                        propagation_policy="Background",
                        preconditions=kubernetes.V1Preconditions(uid=uid),
                    ),
                    _request_timeout=TIMEOUT,
                )
            )
        except (NotThere, Conflict):
            return

    async def review_token(self, token: str, audience: str) -> Json:
        """The status of a TokenReview; an empty audience means the API server's own."""
        review = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token, **({"audiences": [audience]} if audience else {})},
        }
        return await self._review("authentication.k8s.io", "tokenreviews", review)

    async def review_access(self, spec: Json) -> bool:
        """Whether a SubjectAccessReview of this spec allows."""
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": spec,
        }
        status = await self._review("authorization.k8s.io", "subjectaccessreviews", review)
        return status.get("allowed") is True and status.get("denied") is not True

    async def _review(self, group: str, plural: str, review: Json) -> Json:
        answered: Any = await _answer(
            self._objects.create_cluster_custom_object(
                group, "v1", plural, review, _request_timeout=REVIEW_TIMEOUT
            )
        )
        return dict(answered.get("status") or {})


class NotThere(Retryable):
    """No object of that name."""


async def _answer(call: Awaitable[Any]) -> Any:
    """Await a call; whatever goes wrong becomes an error of ours."""
    try:
        return await call
    except kubernetes.ApiException as error:
        raise _refused(error.status, error.body or "") from None
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise Retryable(
            Reason.CLUSTER_UNAVAILABLE,
            f"the API server does not answer: {type(error).__name__} {error}".rstrip(),
        ) from None


def _refused(status: int | None, body: str) -> Retryable:
    """The API server's refusal, in its own words."""
    try:
        words = str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError):
        words = body
    message = f"the API server answers {status}: {plain_text(words, 600)}"
    match status:
        case 404:
            return NotThere(Reason.CLUSTER_UNAVAILABLE, message)
        case 409:
            return Conflict(Reason.CLUSTER_UNAVAILABLE, message)
        case 403 if "exceeded quota" in words:
            return Retryable(
                Reason.CLUSTER_UNAVAILABLE, message, hint="The build waits for room in the quota"
            )
        case 401 | 403:
            return Retryable(
                Reason.CLUSTER_UNAVAILABLE,
                message,
                hint="Grant the operator's ServiceAccount the role that its manifests hold",
            )
        case _:
            return Retryable(Reason.CLUSTER_UNAVAILABLE, message)
