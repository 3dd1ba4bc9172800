"""A connection to the API server. The only module that imports the client.

Objects go in and out as plain JSON, and every call is one line of method and path: the client's
typed half takes seconds to import, in the middle of the first call. Every call has a time
limit; what the API server refuses becomes `Retryable(CLUSTER_UNAVAILABLE)` in its own words, and
what callers treat as an answer is told apart.

    Retryable(CLUSTER_UNAVAILABLE)
    ├── Conflict    409
    ├── NotThere    404
    ├── NotAllowed  403, unless a quota is full
    └── Refused     400, 422
"""

import asyncio
import json
import os
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import quote

import aiohttp
import yaml
from kubernetes.aio import client as kubernetes
from kubernetes.aio import config

from niximage.errors import Reason, Retryable, Terminal, plain_text

TIMEOUT: Final = 30.0  # seconds of one call
RETRY_AFTER_LIMIT: Final = 300.0  # seconds that a server may ask us to wait
IN_CLUSTER_TOKEN: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")

Json = dict[str, Any]


class Conflict(Retryable):
    """Somebody else wrote in between, or made an object of that name."""


class NotThere(Retryable):
    """No object of that name, or no such kind."""


class NotAllowed(Retryable):
    """The operator's ServiceAccount may not do this."""


class Refused(Retryable):
    """The object itself is at fault: the same one is refused again."""


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


class Connection:
    """A cluster's API server, through one connection pool. Use as an async context manager.

    Attributes:
        namespace: where to look if nobody says otherwise: the kubeconfig's, or the pod's own.
    """

    def __init__(self, *, user: Kubeconfig | None = None) -> None:
        """Nothing is open yet.

        Args:
            user: the kubeconfig to use even in a pod, if it is there.
        """
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
        data = await self.read(
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

    async def read(
        self,
        method: str,
        path: str,
        *,
        query: dict[str, str] | None = None,
        body: Json | None = None,
        content: str = "application/json",
        timeout: float = TIMEOUT,  # noqa: ASYNC109 (of the client's own call, too)
    ) -> bytes:
        """The bytes of an answer; raises as `call` does."""
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

    async def stream(
        self, path: str, query: dict[str, str], limit: aiohttp.ClientTimeout, accept: str = "*/*"
    ) -> AsyncGenerator[bytes, None]:
        """An answer in pieces, as they come; raises as `call` does."""
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
    try:
        loader = await config.load_kube_config(  # type: ignore[no-untyped-call]
            user.files, context=user.context or None, client_configuration=configuration
        )
        return str(loader.current_context["context"].get("namespace") or "default")
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        # The client takes whatever YAML there is for what it expects.
        words = f"the kubeconfig at {user.files} is malformed: {error}"
        raise config.ConfigException(words) from None


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
