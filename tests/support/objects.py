"""Objects of a cluster over one kept connection: what is looked at again and again.

Each kubectl is a program that starts, finds out what the API server has and connects anew: a
test that waits would keep a core busy with it.
"""

import json
from pathlib import Path
from typing import Any, Final

import urllib3

from support.proxy import server_of

_TIMEOUT: Final = 60.0  # seconds of one request
Json = dict[str, Any]


class Objects:
    """The API server, asked for kinds by the names that kubectl knows them by."""

    def __init__(self, kubeconfig: Path) -> None:
        self._kubeconfig = kubeconfig
        self._open: tuple[str, urllib3.PoolManager] | None = None
        self._resources: dict[str, tuple[str, str, bool]] = {}

    def get(self, kind: str, name: str, namespace: str) -> Json | None:
        """An object, or None if there is none of that name."""
        return self._ask("GET", f"{self._path(kind, namespace)}/{name}")

    def list(self, kind: str, namespace: str) -> list[Json]:
        """All objects of a kind; as in kubectl's lists, each says of which kind it is."""
        path = self._path(kind, namespace)
        found = self._ask("GET", path)
        assert found is not None, f"{path}: not found"
        own = {"apiVersion": found["apiVersion"], "kind": found["kind"].removesuffix("List")}
        return [{**own, **item} for item in found["items"]]

    def merge(self, kind: str, name: str, namespace: str, patch: Json, subresource: str) -> None:
        """Change a subresource of an object, which is there."""
        path = f"{self._path(kind, namespace)}/{name}/{subresource}"
        assert self._ask("PATCH", path, patch) is not None, f"{path}: not found"

    def _path(self, kind: str, namespace: str) -> str:
        if kind not in self._resources:
            self._discover()
        assert kind in self._resources, f"the API server has no {kind}"
        group, plural, namespaced = self._resources[kind]
        return f"{group}/namespaces/{namespace}/{plural}" if namespaced else f"{group}/{plural}"

    def _discover(self) -> None:
        """Learn the kinds by all of their names; the groups are in their order of precedence."""
        groups = (self._ask("GET", "/apis") or {})["groups"]
        versions = [each["preferredVersion"]["groupVersion"] for each in groups]
        for path in ("/api/v1", *(f"/apis/{version}" for version in versions)):
            group = path.split("/")[2]
            for each in (self._ask("GET", path) or {"resources": []})["resources"]:
                if "/" not in each["name"]:
                    known = path, each["name"], each["namespaced"]
                    names = each["name"], each["singularName"], *each.get("shortNames", [])
                    for name in (*names, f"{each['name']}.{group}"):
                        self._resources.setdefault(name, known)

    def _ask(self, method: str, path: str, body: Json | None = None) -> Json | None:
        if self._open is None:
            server, tls = server_of(self._kubeconfig)
            pool = urllib3.PoolManager(ssl_context=tls, retries=False, timeout=_TIMEOUT, maxsize=4)
            self._open = server, pool
        server, pool = self._open
        answer = pool.request(
            method,
            f"{server}{path}",
            body=None if body is None else json.dumps(body),
            headers={"Content-Type": "application/merge-patch+json"} if body is not None else None,
        )
        if answer.status == 404:
            return None
        assert answer.status < 400, f"{method} {path}: {answer.status}: {answer.data[:500]!r}"
        found: Json = answer.json()
        return found
