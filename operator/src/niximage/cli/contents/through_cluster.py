"""The gateway's images by way of the API server: from where only that can be reached."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any, Final

from niximage.cli.cluster.connect import explained
from niximage.cli.cluster.options import Where
from niximage.cli.contents.registry import NoSuchThingError, RegistryReader
from niximage.controller.cluster.client import ApiServer
from niximage.controller.cluster.connection import Kubeconfig, NotThere
from niximage.errors import NixImageError, Reason, Terminal

LABELS: Final = "app.kubernetes.io/name=niximage,app.kubernetes.io/component=gateway"
PORT: Final = 5000

Json = dict[str, Any]


class ClusterReader(RegistryReader):
    """Reads the images that a gateway of the cluster serves; used as a context manager.

    Args:
        where: which cluster.
    """

    def __init__(self, where: Where) -> None:
        super().__init__("the gateway of the cluster")
        self._api = ApiServer(user=Kubeconfig(where.kubeconfig, where.context))
        self._pod: tuple[str, str, int] | None = None

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """The API server, once a gateway was found.

        Raises:
            Terminal: there is none, or the user may not look for it.
            Retryable: the API server does not answer.
        """
        async with self._api:
            try:
                pods = await self._api.list_pods_labelled(LABELS)
            except NixImageError as error:
                raise explained(error) from None
            self._pod = gateway_of(pods)
            if self._pod is None:
                raise Terminal(
                    Reason.REFERENCE_NOT_FOUND,
                    "no gateway runs in this cluster",
                    hint="Name a registry with --registry, or the bucket with --bucket",
                )
            yield

    async def pieces(
        self, repository: str, rest: str, accept: str = "*/*"
    ) -> AsyncGenerator[bytes, None]:
        """See `RegistryReader`."""
        assert self._pod is not None
        namespace, pod, port = self._pod
        path = f"/v2/{repository}/{rest}"
        answer = self._api.through_pod(namespace, pod, port, path, accept=accept)
        try:
            async with aclosing(answer) as pieces:
                async for piece in pieces:
                    yield piece
        except NotThere as error:
            raise NoSuchThingError(Reason.REFERENCE_NOT_FOUND, error.message) from None
        except NixImageError as error:
            if rest.startswith("blobs/") and not error.hint:
                error.hint = (
                    "Gateways send clients to Google for large blobs of gs://, where this way does "
                    "not lead: read the bucket itself with --bucket"
                )
            raise explained(error) from None


def gateway_of(pods: list[Json]) -> tuple[str, str, int] | None:
    """Namespace, name and port of a gateway that is ready, the first by name. Pure."""
    for pod in sorted(pods, key=lambda each: str(each["metadata"]["name"])):
        conditions = (pod.get("status") or {}).get("conditions") or []
        if any(c.get("type") == "Ready" and c.get("status") == "True" for c in conditions):
            ports = [p for c in pod["spec"]["containers"] for p in c.get("ports") or []]
            port = next((p["containerPort"] for p in ports if p.get("name") == "registry"), PORT)
            return pod["metadata"]["namespace"], pod["metadata"]["name"], int(port)
    return None
