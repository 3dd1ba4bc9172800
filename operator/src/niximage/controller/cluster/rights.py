"""Whether the operator may do what it has to, asked once at its start.

Without this a missing right shows as a watch that ends, a Job that is never made, or nothing.
"""

from dataclasses import dataclass
from typing import Any, Final, Protocol

from niximage.api.base import GROUP
from niximage.api.build_class import CLASS_PLURAL
from niximage.api.image import PLURAL
from niximage.errors import Reason, Terminal
from niximage.source.flux import GROUP as GROUP_OF_FLUX

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Right:
    """One thing to do with one kind of object; `cluster`: it belongs to no namespace."""

    verb: str
    group: str
    resource: str
    subresource: str = ""
    cluster: bool = False

    def __str__(self) -> str:
        sub = f"/{self.subresource}" if self.subresource else ""
        return f"{self.verb} {self.resource}{sub}{'.' if self.group else ''}{self.group}"


RIGHTS: Final = (
    *(Right(verb, GROUP, PLURAL) for verb in ("list", "watch")),
    Right("patch", GROUP, PLURAL),
    Right("patch", GROUP, PLURAL, "status"),
    *(Right(verb, GROUP, CLASS_PLURAL, cluster=True) for verb in ("list", "watch")),
    *(Right(verb, "batch", "jobs") for verb in ("get", "list", "watch", "create", "delete")),
    Right("list", "", "pods"),
    Right("get", "", "pods", "log"),
    *(Right(verb, "", "configmaps") for verb in ("get", "create", "patch", "delete")),
    *(Right(verb, "events.k8s.io", "events") for verb in ("create", "list")),
)
LEASE_RIGHTS: Final = tuple(
    Right(verb, "coordination.k8s.io", "leases") for verb in ("create", "get", "update")
)


class Asked(Protocol):
    """What is asked of a cluster."""

    async def may(self, attributes: Json) -> bool:
        """Whether the operator itself may do something, by the attributes of a resource."""
        ...


async def may_watch(cluster: Asked, plural: str, namespaces: tuple[str, ...]) -> bool:
    """Whether the operator may watch a kind of Flux wherever it looks.

    Args:
        cluster: the API server.
        plural: of the kind.
        namespaces: the only ones to look into; none for all.

    Raises:
        Retryable: the API server does not answer.
    """
    asked = [
        {"namespace": namespace, "verb": verb, "group": GROUP_OF_FLUX, "resource": plural}
        for namespace in namespaces or ("",)
        for verb in ("list", "watch")
    ]
    return all([await cluster.may(attributes) for attributes in asked])


async def check_rights(
    cluster: Asked, namespaces: tuple[str, ...], lease: tuple[str, str] | None = None
) -> None:
    """Ask the API server for each right.

    Args:
        cluster: the API server.
        namespaces: the only ones to look into; none for all.
        lease: namespace and name of the Lease to hold; None for none.

    Raises:
        Terminal: some are missing; the message names each.
        Retryable: the API server does not answer.
    """
    asked = [
        (right, namespace, "")
        for namespace in namespaces or ("",)
        for right in RIGHTS
        if not (right.cluster and namespaces)
    ]
    if lease is not None:
        asked += [(right, *lease) for right in LEASE_RIGHTS]
    missing: list[str] = []
    for right, namespace, name in asked:
        attributes = {
            "namespace": namespace,
            "verb": right.verb,
            "group": right.group,
            "resource": right.resource,
            "subresource": right.subresource,
            "name": name,
        }
        if not await cluster.may(attributes):
            missing.append(f"{right}{f' in {namespace}' if namespace else ''}")
    if missing:
        raise Terminal(
            Reason.CLUSTER_UNAVAILABLE,
            f"the operator may not: {'; '.join(missing)}",
            hint="Grant its ServiceAccount the role that the manifests hold",
        )
