"""The API server as users reach it, and its refusals in words that help them on."""

import asyncio
import difflib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from niximage.cli.cluster.options import Where
from niximage.cli.program import program_name
from niximage.controller.cluster.client import ApiServer
from niximage.controller.cluster.connection import Kubeconfig, NotAllowed, NotThere
from niximage.errors import NixImageError, Reason, Terminal

NEAR: Final = 3  # names that are suggested
SHELL_PATIENCE: Final = 2.0  # seconds that a completion may take

Json = dict[str, Any]
_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Here:
    """A cluster, and the namespace that is meant.

    Attributes:
        api: the API server, open.
        namespace: where the user's NixImages are.
    """

    api: ApiServer
    namespace: str

    async def image(self, name: str) -> Json:
        """A NixImage as it is stored.

        Raises:
            Terminal: there is none of that name, with those that are near, or no such kind.
            Retryable: the API server does not answer.
        """
        try:
            return await self.api.get_image(self.namespace, name)
        except NotThere:
            raise await self._no_image(name) from None

    async def patch(self, name: str, patch: Json) -> Json:
        """Merge a patch into a NixImage. Raises what `image` does."""
        try:
            return await self.api.patch_image(self.namespace, name, patch)
        except NotThere:
            raise await self._no_image(name) from None

    async def images(self, *, everywhere: bool = False) -> list[Json]:
        """The NixImages of the namespace, or of all. Raises what `image` does."""
        try:
            return await self.api.list_images_in("" if everywhere else self.namespace)
        except NotThere:
            raise _no_kind() from None

    async def _no_image(self, name: str) -> Terminal:
        names = [each["metadata"]["name"] for each in await self.images()]
        message = f"there is no NixImage {name[:100]} in the namespace {self.namespace}"
        if near := difflib.get_close_matches(name, names, n=NEAR):
            return Terminal(
                Reason.REFERENCE_NOT_FOUND, message, hint=f"Did you mean {' or '.join(near)}?"
            )
        hint = f"See `{program_name()} list` for those that there are"
        if elsewhere := await self._namespaces_with(name):
            hint = f"There is one in {' and in '.join(elsewhere)}: add -n {elsewhere[0]}"
        elif not names:
            hint = "That namespace has no NixImage: name another with -n"
        return Terminal(Reason.REFERENCE_NOT_FOUND, message, hint=hint)

    async def _namespaces_with(self, name: str) -> list[str]:
        try:
            everywhere = await self.images(everywhere=True)
        except NixImageError:
            return []  # not everybody may look everywhere
        found = (each["metadata"] for each in everywhere)
        return [each["namespace"] for each in found if each["name"] == name][:NEAR]


@asynccontextmanager
async def connected(where: Where) -> AsyncIterator[Here]:
    """The cluster that options name.

    Raises:
        Terminal: there is no way to one, or the user may not.
        Retryable: the API server does not answer.
    """
    user = Kubeconfig(where.kubeconfig, where.context)
    try:
        async with ApiServer(user=user) as api:
            yield Here(api, where.namespace or api.namespace)
    except NixImageError as error:
        raise explained(error) from None


def explained(error: NixImageError) -> NixImageError:
    """An error of the API server's client, in words for a user instead of the operator. Pure."""
    if isinstance(error, NotAllowed):
        return Terminal(
            Reason.POLICY_DENIED,
            error.message,
            hint="See who you are with `kubectl auth whoami`, and ask an admin for a role on "
            "niximages, or name another --namespace or --context",
        )
    if error.reason is Reason.CLUSTER_UNAVAILABLE and not error.hint:
        error.hint = "Check the kubeconfig, its --context, and the network between"
    return error


def in_cluster(where: Where, work: Callable[[Here], Awaitable[_Result]]) -> _Result:
    """Do something with the cluster that options name; raises what `connected` and it do."""

    async def run() -> _Result:
        async with connected(where) as here:
            return await work(here)

    return asyncio.run(run())


def names_for_shell(where: Where) -> list[str]:
    """The names of the NixImages that a shell may complete; none on any trouble, and soon."""

    async def names(here: Here) -> list[str]:
        async with asyncio.timeout(SHELL_PATIENCE):
            return sorted(each["metadata"]["name"] for each in await here.images())

    try:
        return in_cluster(where, names)
    except (NixImageError, TimeoutError):
        return []


def _no_kind() -> Terminal:
    return Terminal(
        Reason.REFERENCE_NOT_FOUND,
        "this cluster knows no NixImages",
        hint="Install the operator, or its CRDs: `niximage crds | kubectl apply -f -`",
    )
