"""Where a source is asked for its revision, with what the cluster has to say about it.

Secrets are for pods to mount, so the operator has no right to read any. Only the branch or tag
of a private repository has to be looked up by the operator itself, and for that an admin can
grant it the one Secret. Whether that was done, the API server says.
"""

import re
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final, Protocol

from niximage.api.build import PinnedSource
from niximage.api.source import FluxSource
from niximage.controller.cluster.connection import NotAllowed, NotThere
from niximage.controller.sources.due import Question
from niximage.errors import NixImageError, Reason, Retryable
from niximage.source.credentials import KEYS, Credentials, missing
from niximage.source.failures import shown_url
from niximage.source.flux import PLURALS, not_found, not_readable, not_served, pin_flux
from niximage.source.resolve import resolve, wanted

TIMEOUT: Final = 60.0  # seconds of one ls-remote

_WHO: Final = re.compile(r'User "([^"\s]{1,300})" cannot')


class Asked(Protocol):
    """What is asked of a cluster."""

    async def get_secret(self, namespace: str, name: str) -> Mapping[str, bytes]:
        """The values of a Secret."""
        ...

    async def get_flux(self, namespace: str, plural: str, name: str) -> dict[str, Any]:
        """An object of Flux."""
        ...

    async def kinds_of_flux(self) -> Collection[str]:
        """The plurals of the kinds that Flux's sources have here."""
        ...


class Origins:
    """Asks Git servers and the cluster for revisions."""

    def __init__(self, cluster: Asked, *, told: Callable[[Reason], None]) -> None:
        """Nothing is asked yet.

        Args:
            cluster: the API server.
            told: learns how each question went.
        """
        self._cluster = cluster
        self._told = told

    async def pin(self, question: Question) -> PinnedSource:
        """The revision that a source has now.

        Raises:
            Retryable: it cannot be asked now, or not with what the operator was granted.
            Terminal: it is not there, or does not let us in.
        """
        try:
            pinned = await self._pin(question)
        except NixImageError as error:
            self._told(error.reason)
            raise
        self._told(Reason.SUCCEEDED)
        return pinned

    async def _pin(self, question: Question) -> PinnedSource:
        if question.source.source_ref is not None:
            return await self._flux(question, question.source.source_ref)
        credentials = None
        if question.source.secret and not wanted(question.source, question.nixpkgs_url).commit:
            credentials = await self._credentials(question, question.source.secret)
        return await resolve(
            question.source,
            nixpkgs_url=question.nixpkgs_url,
            timeout=TIMEOUT,
            credentials=credentials,
        )

    async def _flux(self, question: Question, flux: FluxSource) -> PinnedSource:
        plural = PLURALS[flux.kind]
        try:
            body = await self._cluster.get_flux(question.namespace, plural, flux.name)
        except NotAllowed:
            raise not_readable(flux) from None
        except NotThere:
            if plural not in await self._cluster.kinds_of_flux():
                raise not_served(flux) from None
            raise not_found(flux, question.namespace) from None
        return pin_flux(question.source, body)

    async def _credentials(self, question: Question, name: str) -> Credentials:
        where = f"the Secret {question.namespace}/{name}"
        try:
            values = await self._cluster.get_secret(question.namespace, name)
        except NotAllowed as error:
            raise not_granted(question, name, error.message) from None
        except NotThere:
            raise missing(where, "it does not exist", "Create it: it is looked for again") from None
        return Credentials(where, {key: values[key] for key in KEYS if key in values})


def not_granted(question: Question, name: str, refusal: str) -> Retryable:
    """The error of a Secret that the operator may not read, with what to do about that. Pure.

    Args:
        question: what it was wanted for.
        name: of the Secret.
        refusal: the API server's words, which name the operator.
    """
    target = wanted(question.source, question.nixpkgs_url)
    namespace = question.namespace
    return Retryable(
        Reason.CREDENTIALS_NOT_GRANTED,
        f"looking up {target.ref} of {shown_url(target.url)} takes the Secret {name}, which the "
        "operator may not read",
        hint="Pin source.git.ref.commit, which needs no look-up, or grant the operator this one "
        f"Secret: kubectl create role read-{name} -n {namespace} --verb=get --resource=secrets "
        f"--resource-name={name} && kubectl create rolebinding read-{name} -n {namespace} "
        f"--role=read-{name} {_subject(refusal)}",
    )


def _subject(refusal: str) -> str:
    """The operator as an option of `kubectl create rolebinding`."""
    found = _WHO.search(refusal)
    if found is None:
        return "--serviceaccount=niximage-system:niximage-operator"
    account = found[1].removeprefix("system:serviceaccount:")
    return f"--serviceaccount={account}" if account != found[1] else f"--user={account}"
