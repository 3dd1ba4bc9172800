"""The API server as an administrator's program sees it: calls, watches and its own figures."""

import json
import re
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final, Self

import aiohttp

from support.proxy import server_of

IMAGES: Final = "/apis/niximage.dev/v1alpha1"
Json = dict[str, Any]

_SAMPLE = re.compile(r"^apiserver_request_total\{([^}]*)\} (\S+)$", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="([^"]*)"')


class Refused(Exception):  # noqa: N818 (what the API server did)
    """The API server's answer was no."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(f"{status}: {words}")
        self.status = status


class Api:
    """A connection to the API server. Use as an async context manager."""

    def __init__(self, kubeconfig: Path) -> None:
        self._server, self._tls = server_of(kubeconfig)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(ssl=self._tls, limit=32)
        self._session = aiohttp.ClientSession(connector=connector)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._session is not None
        await self._session.close()

    async def call(self, method: str, path: str, body: Json | None = None, **query: str) -> Json:
        """Ask for something; raises Refused."""
        assert self._session is not None
        patch = "application/merge-patch+json" if method == "PATCH" else "application/json"
        async with self._session.request(
            method,
            f"{self._server}{path}",
            params=query,
            data=None if body is None else json.dumps(body),
            headers={"Content-Type": patch},
            timeout=aiohttp.ClientTimeout(total=60),
        ) as answer:
            text = await answer.text()
            if answer.status >= 400:
                raise Refused(answer.status, text[:500])
            found: Json = json.loads(text)
            return found

    async def list(self, path: str, **query: str) -> list[Json]:
        """All objects of a kind."""
        items: list[Json] = []
        query["limit"] = "500"
        while True:
            page = await self.call("GET", path, None, **query)
            items += page["items"]
            if not page["metadata"].get("continue"):
                return items
            query["continue"] = page["metadata"]["continue"]

    async def watch(self, path: str, **query: str) -> AsyncIterator[tuple[str, Json]]:
        """What happens to objects from now on, beginning with those that are there."""
        assert self._session is not None
        async with self._session.get(
            f"{self._server}{path}",
            params={**query, "watch": "1"},
            timeout=aiohttp.ClientTimeout(total=None),
        ) as answer:
            answer.raise_for_status()
            buffer = b""
            async for chunk in answer.content.iter_any():
                *lines, buffer = (buffer + chunk).split(b"\n")
                for line in lines:
                    event = json.loads(line)
                    yield event["type"], event["object"]

    async def writes(self) -> Counter[str]:
        """How often each kind was written so far, by whomever: `PATCH niximages/status`."""
        assert self._session is not None
        async with self._session.get(f"{self._server}/metrics") as answer:
            text = await answer.text()
        found: Counter[str] = Counter()
        for labels, value in _SAMPLE.findall(text):
            known = dict(_LABEL.findall(labels))
            if known["verb"] not in {"GET", "LIST", "WATCH"}:
                kind = "/".join(filter(None, (known["resource"], known["subresource"])))
                found[f"{known['verb']} {kind}"] += int(float(value))
        return found
